//! The test binaries of the workspace: first those that can do without hosts and packages, then the
//! others, two at a time.
//!
//! Tests on hosts wait for machines to boot and for packages to be installed; some other binary runs
//! meanwhile. The output of a binary is shown in one piece when it has ended.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::count::{Count, Reader};
use crate::{
    cargo,
    cmd::Cmd,
    demo::report::seconds,
    host,
    say::{self, Ink},
};

/// The package whose tests boot hosts.
const ON_HOSTS: &str = "palisade-hosts";

/// Its tests with guests, of which each takes a processor: first, so that one lane has them all.
const GUESTS: [&str; 2] = ["ami", "vm"];

/// Other tests, by package and target, that boot hosts or want packages.
const ALSO_ON_HOSTS: [(&str, &str); 2] = [("palisade-e2e", "chain"), ("xtask", "packages")];

/// Lines of its stderr that are shown of one that failed.
const LAST_ERRORS: usize = 100;
/// How long one binary may take: many times what the slowest takes.
const PATIENCE: Duration = Duration::from_secs(2_700);

/// One compiled test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binary {
    package: String,
    /// The name of its target, as in `cargo test --test NAME`.
    target: String,
    path: PathBuf,
    /// Where cargo would run it.
    dir: PathBuf,
}

/// Compiles all tests, without running any.
pub(super) fn compile() -> Result<()> {
    binaries().map(drop)
}

/// Runs the tests that need neither hosts nor packages, one binary after the other.
pub(super) fn run_apart() -> Result<Count> {
    let (apart, _) = parted()?;
    let logs = logs()?;
    let mut left = apart.into_iter();
    let mut count = lane(|| left.next(), &logs);
    count.add(examples()?);
    Ok(count)
}

/// Runs the others. One lane takes from the front, where the hosts are, the other one from the back.
pub(super) fn run_on_hosts() -> Result<Count> {
    let (_, on_hosts) = parted()?;
    let logs = logs()?;
    let left = Mutex::new(VecDeque::from(on_hosts));
    let of = |take: fn(&mut VecDeque<Binary>) -> Option<Binary>| {
        lane(|| take(&mut left.lock().unwrap_or_else(PoisonError::into_inner)), &logs)
    };
    thread::scope(|scope| {
        let back = scope.spawn(|| of(VecDeque::pop_back));
        let mut count = of(VecDeque::pop_front);
        count.add(back.join().map_err(|_| anyhow!("a lane panicked"))?);
        Ok(count)
    })
}

/// Those that can do without hosts, and the others: the hosts' own first. None may be empty.
fn parted() -> Result<(Vec<Binary>, Vec<Binary>)> {
    let (mut on_hosts, apart): (Vec<_>, Vec<_>) =
        binaries()?.into_iter().partition(Binary::is_on_hosts);
    on_hosts.sort_by_key(|b| (b.package != ON_HOSTS, !GUESTS.contains(&&*b.target), b.shown()));
    ensure!(!apart.is_empty() && !on_hosts.is_empty(), "there are tests missing");
    Ok((apart, on_hosts))
}

fn logs() -> Result<PathBuf> {
    let logs = cargo::target_dir()?.join("test-output");
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    Ok(logs)
}

fn examples() -> Result<Count> {
    let mut reader = Reader::default();
    let ended = cargo::cargo()
        .args(["test", "--workspace", "--locked", "--doc", "--quiet"])
        .lines(|line| say::lines(reader.line(line)))?;
    if !ended.success() && reader.count.failed == 0 {
        say::line(&format!("`cargo test --doc` ended with {ended}"));
        reader.count.failed += 1;
    }
    Ok(reader.count)
}

/// One binary after the other, as long as there are any.
fn lane(mut next: impl FnMut() -> Option<Binary>, logs: &Path) -> Count {
    let mut count = Count::default();
    while let Some(binary) = next() {
        count.add(one(&binary, logs).unwrap_or_else(|e| {
            say::line(&format!("{}: {e:#}", binary.shown()));
            Count { failed: 1, ..Count::default() }
        }));
    }
    count
}

fn one(binary: &Binary, logs: &Path) -> Result<Count> {
    let start = host::now();
    // Files and no pipes: what a test left behind may hold its output open for ever. Nor ours: an ssh that is
    // killed leaves what it got as stderr non-blocking, and a long text would not fit in there any more.
    let file = |end| logs.join(format!("{}.{}.{end}", binary.package, binary.target));
    let (log, errors) = (file("txt"), file("stderr.txt"));
    let ended = Cmd::new(&binary.path)
        .arg("--show-output")
        .dir(&binary.dir)
        .env("CARGO_MANIFEST_DIR", &binary.dir)
        .within(PATIENCE)
        .into_files(&log, &errors);
    let said = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
    let mut reader = Reader::default();
    let mut shown: Vec<String> =
        String::from_utf8_lossy(&said).lines().filter_map(|l| reader.line(l)).collect();
    match ended {
        Ok(ended) if ended.success() || reader.count.failed > 0 => {}
        Ok(ended) => {
            shown.push(format!("it ended with {ended}"));
            reader.count.failed = 1;
        }
        Err(e) => {
            shown.push(format!("{e:#}"));
            reader.count.failed += 1;
        }
    }
    if reader.count.failed > 0 {
        let said = fs::read(&errors).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rev().take(LAST_ERRORS).collect::<Vec<_>>();
        shown.extend(last.into_iter().rev().map(|line| format!("stderr: {line}")));
    }
    let title = format!("-- {}: {}", binary.shown(), reader.count.line());
    shown.push(say::ink(&format!("{title} in {}", seconds(start.elapsed())), Ink::Bold));
    say::line(&shown.join("\n"));
    Ok(reader.count)
}

impl Binary {
    fn shown(&self) -> String {
        format!("{} {}", self.package, self.target)
    }

    fn is_on_hosts(&self) -> bool {
        let own = (self.package.as_str(), self.target.as_str());
        self.package == ON_HOSTS || ALSO_ON_HOSTS.contains(&own)
    }
}

/// Compiles what is not, and names all that there is.
fn binaries() -> Result<Vec<Binary>> {
    let mut found = Vec::new();
    let ended = cargo::cargo()
        .args(["test", "--workspace", "--locked", "--no-run", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .lines(|line| found.extend(artifact(line)))?;
    if !ended.success() {
        bail!("compiling the tests ended with {ended}");
    }
    Ok(found)
}

/// The test binary that a line of cargo's tells of.
fn artifact(line: &str) -> Option<Binary> {
    let told: Value = serde_json::from_str(line).ok()?;
    if told["reason"] != "compiler-artifact" || told["profile"]["test"] != true {
        return None;
    }
    let dir = Path::new(told["manifest_path"].as_str()?).parent()?.to_path_buf();
    Some(Binary {
        package: package(told["package_id"].as_str()?)?,
        target: told["target"]["name"].as_str()?.to_owned(),
        path: told["executable"].as_str()?.into(),
        dir,
    })
}

/// `path+file:///x/hosts#palisade-hosts@0.1.0`, or `path+file:///x/bastionctl#0.1.0` for a package
/// that has its directory's name.
fn package(id: &str) -> Option<String> {
    let (place, named) = id.rsplit_once('#')?;
    match named.split_once('@') {
        Some((name, _version)) => Some(name.to_owned()),
        None => Some(place.rsplit_once('/')?.1.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_name_test_binaries() {
        let line = |id: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/w/tests/hosts/Cargo.toml",
                "target":{{"name":"vm"}},"profile":{{"test":{test}}},"executable":"/t/vm-1"}}"#
            )
        };
        let found =
            artifact(&line("path+file:///w/tests/hosts#palisade-hosts@0.1.0", true)).unwrap();
        assert_eq!(found.shown(), "palisade-hosts vm");
        assert_eq!(found.package, ON_HOSTS);
        assert_eq!(found.dir, Path::new("/w/tests/hosts"));
        assert_eq!(
            artifact(&line("path+file:///w/bastionctl#0.1.0", true)).unwrap().package,
            "bastionctl"
        );
        assert_eq!(artifact(&line("path+file:///w/bastionctl#0.1.0", false)), None);
        assert_eq!(artifact(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(artifact("no json"), None);
    }

    /// One that is not would find no packages yet, and skip itself.
    #[test]
    fn every_test_that_wants_hosts_is_known() {
        let mut found = Vec::new();
        for (package, dir) in [("palisade-e2e", "tests/tests"), ("xtask", "xtask/tests")] {
            for entry in fs::read_dir(host::workspace().join(dir)).unwrap() {
                let path = entry.unwrap().path();
                let files =
                    if path.is_dir() { host::files_below(&path) } else { Ok(vec![path.clone()]) };
                let wants = |text: String| {
                    text.contains("palisade_hosts") || text.contains("PALISADE_PACKAGES")
                };
                if files.unwrap().iter().any(|f| wants(host::read(f).unwrap())) {
                    found.push((package, path.file_stem().unwrap().to_str().unwrap().to_owned()));
                }
            }
        }
        found.sort();
        assert_eq!(found, ALSO_ON_HOSTS.map(|(p, t)| (p, t.to_owned())));
    }

    #[test]
    fn a_binary_that_says_nothing_and_fails_is_a_failed_test() {
        let dir = std::env::temp_dir().join(format!("xtask-lanes-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let program = |path: &str| Binary {
            package: "p".into(),
            target: "t".into(),
            path: path.into(),
            dir: dir.clone(),
        };
        let mut programs = [program("/bin/false"), program("/nowhere")].into_iter();
        let failed = lane(|| programs.next(), &dir).failed;
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(failed, 2);
    }
}
