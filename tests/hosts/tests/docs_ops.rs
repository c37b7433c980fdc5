//! Every page of docs/ops, tried as written: its commands run on fresh hosts, line by line, and say what
//! the page says they say. `common/page.rs` has the marks that pages use.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test, on plain threads and real time"
)]
#![expect(dead_code, reason = "not every test file uses all of what they share")]

#[path = "common/codedeploy.rs"]
mod codedeploy;
#[path = "common/django.rs"]
mod django;
#[path = "common/page.rs"]
mod page;
#[path = "common/states.rs"]
mod states;

use std::{collections::BTreeMap, fs, panic::catch_unwind, sync::Mutex, thread, time::Duration};

use palisade_hosts::{
    nspawn::Host,
    packages::Packages,
    trees::{self, workspace},
    wait::try_for,
};

use self::page::{Block, Page, Step, fits};

/// How long a block that is run until it is as shown may take.
const UNTIL: Duration = Duration::from_secs(30);
/// Pages that are tried at the same time.
const AT_ONCE: usize = 2;

fn pages() -> Vec<Page> {
    let dir = workspace().join("docs/ops");
    let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "md"));
    paths.sort();
    paths.iter().map(|p| Page::read(p).unwrap_or_else(|e| panic!("docs/ops/{e}"))).collect()
}

#[test]
fn every_block_of_every_page_says_whether_it_is_tried() {
    let pages = pages();
    let blocks: usize = pages.iter().map(|p| p.blocks.len()).sum();
    assert!(pages.len() >= 8 && blocks >= 30, "{} pages, {blocks} blocks", pages.len());
}

#[test]
fn every_page_does_what_it_says_on_a_fresh_host() {
    let packages = match trees::for_hosts().and_then(|_| Packages::debs()) {
        Ok(packages) => packages,
        Err(why) => return println!("{why}"),
    };
    let only = std::env::var("PALISADE_PAGE").ok();
    let chosen = |p: &Page| only.as_ref().is_none_or(|o| p.name.contains(o.as_str()));
    let left = Mutex::new(pages().into_iter().filter(chosen).collect::<Vec<_>>());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(page) = left.lock().unwrap().pop() else { return };
                    // A page that fails must not keep the others from being tried.
                    match catch_unwind(|| tried(&page, &packages)) {
                        Ok(Ok(())) => println!("{}: as written", page.name),
                        Ok(Err(why)) if why.starts_with("skipped: ") => println!("{why}"),
                        Ok(Err(why)) => failures.lock().unwrap().push(why),
                        Err(_) => {
                            failures.lock().unwrap().push(format!("{}: see above", page.name))
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn tried(page: &Page, packages: &Packages) -> Result<(), String> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for block in &page.blocks {
        if !hosts.contains_key(&block.host) {
            let host = boot(&page.name, block, packages, &hosts)?;
            hosts.insert(block.host.clone(), host);
        } else if !block.with.is_empty() {
            let line = block.line;
            return Err(format!("{}:{line}: the host is up already: name another", page.name));
        }
        run(&hosts[&block.host], block).map_err(|e| format!("{}:{}", page.name, e))?;
    }
    Ok(())
}

fn boot(
    page: &str,
    block: &Block,
    packages: &Packages,
    hosts: &BTreeMap<String, Host>,
) -> Result<Host, String> {
    let name = page.trim_end_matches(".md");
    let options = states::options(name, &block.with, packages)?;
    let host = Host::boot(None, options);
    if block.with.iter().any(|s| s == "patch") && !host.run("palisade patch --help").success() {
        return Err(format!("skipped: {page}: the packaged palisade has no verb `patch`"));
    }
    for state in &block.with {
        states::bring(&host, state, hosts);
    }
    Ok(host)
}

fn run(host: &Host, block: &Block) -> Result<(), String> {
    if !block.until {
        return attempt(host, block);
    }
    let mut last = String::new();
    let done = try_for(UNTIL, || attempt(host, block).map_err(|e| last = e).ok());
    done.ok_or_else(|| format!("after {UNTIL:?} still: {last}"))
}

/// Each command in a shell of its own, where root's shell begins.
fn attempt(host: &Host, block: &Block) -> Result<(), String> {
    for Step { command, expected, codes } in &block.steps {
        let out = host.run(&format!("cd /root\n{command}"));
        let code = out.code().unwrap_or(-1);
        if !codes.contains(&code) || !fits(expected, &out.all()) {
            return Err(format!(
                "{}: `{command}` ended with {code} and said:\n{}\nexpected {codes:?} and:\n{}",
                block.line,
                out.all(),
                expected.join("\n")
            ));
        }
    }
    Ok(())
}
