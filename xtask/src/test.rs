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
        ("what tests need", prepare as fn() -> Result<Count>),
        ("unit, property and kernel tests; packages beside them", tests_and_packages),
        ("host and whole-product tests", lanes::run_on_hosts),
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

/// Compiles the tests, and makes the file systems of hosts and installs the linters of `infra` meanwhile:
/// both wait for the network and for dpkg. Not having them is a failure here; the tests that want them
/// then say why they do nothing.
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
    count.add(made("tools for infra", tools));
    match hosts {
        Some(hosts) => count.add(made("hosts", hosts)),
        None => {
            say::line("skipped: test hosts need root");
            count.skipped += 1;
        }
    }
    Ok(count)
}

/// Tests wait much and compilers never do, so together they take little longer than one of them.
fn tests_and_packages() -> Result<Count> {
    thread::scope(|scope| {
        let packages = scope.spawn(packages);
        let mut count = lanes::run_apart()?;
        count.add(packages.join().map_err(|_| anyhow!("packing panicked"))?);
        Ok(count)
    })
}

/// Two versions of the packages. The sources' own is the last, so that the demo finds it built.
fn packages() -> Count {
    let mut count = Count::default();
    if host::is_root() {
        for version in [Some(palisade_hosts::packages::NEW), None] {
            let what = format!("packages of {}", version.unwrap_or("this version"));
            count.add(made(&what, package::run(&package::Options::for_tests(version))));
        }
    }
    count
}

/// A failure to count if something could not be made, which is told.
fn made(what: &str, done: Result<()>) -> Count {
    let failed = done.is_err().into();
    if let Err(e) = done {
        say::line(&format!("{what} could not be made: {e:#}"));
    }
    Count { failed, ..Count::default() }
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
