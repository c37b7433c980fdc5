//! `cargo xtask test`: everything that can be tested on this machine, and one closing line that
//! counts. Unit and property tests, tests against the real kernel, whole-product tests, the demo.

use std::thread;

use anyhow::{Result, anyhow};

use crate::{
    cargo,
    cmd::Cmd,
    demo::report::seconds,
    host, hosts, package,
    say::{self, Ink},
    setup::{self, infra_tools},
};

/// How tests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn line(self) -> String {
        let Self { passed, failed, skipped } = self;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

/// Runs everything. Whether nothing failed.
pub(crate) fn run() -> Result<bool> {
    let start = host::now();
    setup::run()?;
    let mut all = Count::default();
    for (name, part) in [
        ("test hosts and packages", prepare as fn() -> Result<Count>),
        ("unit, property, kernel, host and whole-product tests", cargo_test),
        ("the demo", demo),
    ] {
        say::line(&say::ink(&format!("== {name}"), Ink::Bold));
        let start = host::now();
        let count = part()?;
        say::line(&format!("== {name}: {} in {}", count.line(), seconds(start.elapsed())));
        all.add(count);
    }
    say::line("");
    say::line(&format!("all tests in {}", seconds(start.elapsed())));
    say::line(&all.line());
    Ok(all.failed == 0 && all.passed > 0)
}

/// Makes what tests on real hosts need: the hosts' file systems, and two versions of the packages; and
/// installs the linters of `infra`. Not having them is a failure here; the tests that want them then say
/// why they do nothing.
///
/// All but the packages waits for the network and for dpkg, so the tests are compiled meanwhile.
fn prepare() -> Result<Count> {
    let mut count = Count::default();
    let (hosts, tools, compiled) = thread::scope(|scope| {
        let panicked = |_| Err(anyhow!("it panicked"));
        let root = host::is_root();
        let hosts = root.then(|| scope.spawn(|| hosts::run(&hosts::Options::default())));
        let tools = scope.spawn(infra_tools::run);
        let compiled = compile();
        let hosts = hosts.map(|h| h.join().unwrap_or_else(panicked));
        (hosts, tools.join().unwrap_or_else(panicked), compiled)
    });
    // What does not compile is told once more, and counted, when the tests are to run.
    compiled?;
    if let Err(e) = tools {
        say::line(&format!("tools for infra could not be installed: {e:#}"));
        count.failed += 1;
    }
    let Some(hosts) = hosts else {
        say::line("skipped: test hosts need root");
        return Ok(Count { skipped: 1, ..count });
    };
    let old = package::Options::for_tests(None);
    let new = package::Options::for_tests(Some(palisade_hosts::packages::NEW));
    for (what, done) in [
        ("hosts", hosts),
        ("packages", package::run(&old)),
        ("packages of the next version", package::run(&new)),
    ] {
        if let Err(e) = done {
            say::line(&format!("{what} could not be made: {e:#}"));
            count.failed += 1;
        }
    }
    Ok(count)
}

fn compile() -> Result<()> {
    let ended = cargo::cargo()
        .args(["test", "--workspace", "--locked", "--no-run", "--quiet"])
        .within(cargo::BUILD_PATIENCE)
        .show()?;
    if !ended.success() {
        say::line(&format!("compiling the tests ended with {ended}"));
    }
    Ok(())
}

fn cargo_test() -> Result<Count> {
    let mut reader = Reader::default();
    let ended = cargo::cargo()
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(["--", "--show-output"])
        .lines(|line| {
            if let Some(shown) = reader.line(line) {
                say::line(&shown);
            }
        })?;
    let mut count = reader.count;
    if !ended.success() && count.failed == 0 {
        say::line(&format!("`cargo test` ended with {ended}"));
        count.failed = 1;
    }
    Ok(count)
}

fn demo() -> Result<Count> {
    if !host::is_root() {
        say::line("skipped: the demo needs root");
        return Ok(Count { skipped: 1, ..Count::default() });
    }
    let mut count = Count::default();
    let mut closed = false;
    let ended =
        Cmd::new(host::own_program()?).arg("demo").within(cargo::BUILD_PATIENCE).lines(|line| {
            say::line(line);
            if let Some((passed, failed)) = closing_line(line) {
                closed = true;
                count = Count { passed, failed, skipped: 0 };
            }
        })?;
    if !closed || (!ended.success() && count.failed == 0) {
        say::line(&format!("the demo ended with {ended}"));
        count.failed += 1;
    }
    Ok(count)
}

/// `demo: N passed, N failed`.
fn closing_line(line: &str) -> Option<(u32, u32)> {
    let (passed, failed) = line.strip_prefix("demo: ")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

/// Follows the output of `cargo test -- --show-output`: counts, and leaves out what passed tests
/// printed but for the reasons of those that skipped themselves.
#[derive(Debug, Default)]
struct Reader {
    count: Count,
    of_passed: bool,
    /// Tests of the present binary that skipped themselves.
    skipping: u32,
    skipped_already: bool,
}

impl Reader {
    /// What to show of a line.
    fn line(&mut self, line: &str) -> Option<String> {
        if line == "successes:" {
            self.of_passed = true;
            return None;
        }
        if line == "failures:" || line.starts_with("test result:") {
            self.of_passed = false;
        }
        if let Some(numbers) = line.strip_prefix("test result:") {
            let skipped = std::mem::take(&mut self.skipping);
            self.count.add(result(numbers, skipped));
        }
        if !self.of_passed {
            return Some(line.to_owned());
        }
        if line.starts_with("---- ") {
            self.skipped_already = false;
        }
        let reason = line.trim_start().to_lowercase();
        if !self.skipped_already && reason.starts_with("skip") {
            self.skipped_already = true;
            self.skipping += 1;
            return Some(line.to_owned());
        }
        None
    }
}

/// ` ok. 20 passed; 0 failed; 1 ignored; ...`, of which `skipped` passed only because they did
/// nothing.
fn result(numbers: &str, skipped: u32) -> Count {
    let of = |word: &str| -> u32 {
        numbers
            .split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or_default()
    };
    Count {
        passed: of("passed").saturating_sub(skipped),
        failed: of("failed"),
        skipped: skipped + of("ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Count, Vec<String>) {
        let mut reader = Reader::default();
        let shown = text.lines().filter_map(|l| reader.line(l)).collect();
        (reader.count, shown)
    }

    #[test]
    fn real_tests_are_counted_over_all_binaries() {
        let (count, _) = read(
            "running 3 tests\ntest a ... ok\n\
             test result: ok. 20 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.16s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s\n",
        );
        assert_eq!(count, Count { passed: 24, failed: 2, skipped: 1 });
        assert_eq!(count.line(), "24 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skipped_itself_has_not_passed() {
        let (count, shown) = read(
            "test x ... ok\n\nsuccesses:\n\n---- x stdout ----\nnoise\nskipped: no nft here\n\
             skipped: again\n---- y stdout ----\nskipped: no data\n\n\nsuccesses:\n    x\n    y\n\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(count, Count { passed: 3, failed: 0, skipped: 2 });
        assert!(shown.contains(&"skipped: no nft here".to_owned()));
        assert!(!shown.contains(&"noise".to_owned()));
    }

    #[test]
    fn what_a_failed_test_said_is_shown() {
        let (_, shown) = read("successes:\nnoise\nfailures:\n\n---- z stdout ----\nwhy\n");
        assert!(shown.contains(&"why".to_owned()) && !shown.contains(&"noise".to_owned()));
    }

    #[test]
    fn the_demos_closing_line_is_read() {
        assert_eq!(closing_line("demo: 24 passed, 1 failed"), Some((24, 1)));
        assert_eq!(closing_line("demo: all well"), None);
    }
}
