//! `cargo xtask test`: everything that can be tested on this machine, and one closing line that
//! counts. Unit and property tests, tests against the real kernel, whole-product tests, the demo.

mod count;
mod lanes;

use std::thread;

use anyhow::{Result, anyhow};

use self::count::Count;
use crate::{
    cargo,
    cmd::Cmd,
    demo::report::seconds,
    host, hosts, package,
    say::{self, Ink},
    setup::{self, infra_tools},
};

/// Runs everything. Whether nothing failed.
pub(crate) fn run() -> Result<bool> {
    let start = host::now();
    setup::run()?;
    let mut all = Count::default();
    for (name, part) in [
        ("test hosts and packages", prepare as fn() -> Result<Count>),
        ("unit, property, kernel, host and whole-product tests", lanes::run),
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
        let compiled = lanes::compile();
        let hosts = hosts.map(|h| h.join().unwrap_or_else(panicked));
        (hosts, tools.join().unwrap_or_else(panicked), compiled)
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_closing_line_is_read() {
        assert_eq!(closing_line("demo: 24 passed, 1 failed"), Some((24, 1)));
        assert_eq!(closing_line("demo: all well"), None);
    }
}
