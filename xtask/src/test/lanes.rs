//! The test binaries of the workspace, run in two lanes beside each other.
//!
//! Tests on hosts wait for machines to boot and for packages to be installed; all others run
//! meanwhile. Inside a lane one binary runs after the other, as with `cargo test`, which can't do two
//! at once. The output of a binary is shown in one piece when it has ended.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
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

/// Runs all tests of the workspace.
pub(super) fn run() -> Result<Count> {
    let (on_hosts, beside): (Vec<_>, Vec<_>) =
        binaries()?.into_iter().partition(|b| b.package == ON_HOSTS);
    let logs = cargo::target_dir()?.join("test-output");
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let mut count = thread::scope(|scope| {
        let lane = scope.spawn(|| lane(&on_hosts, &logs));
        let mut count = lane_and_examples(&beside, &logs)?;
        count.add(lane.join().map_err(|_| anyhow!("the lane of the hosts panicked"))?);
        anyhow::Ok(count)
    })?;
    if count == Count::default() {
        say::line("no test was run");
        count.failed = 1;
    }
    Ok(count)
}

fn lane_and_examples(binaries: &[Binary], logs: &Path) -> Result<Count> {
    let mut count = lane(binaries, logs);
    let mut reader = Reader::default();
    let ended = cargo::cargo()
        .args(["test", "--workspace", "--locked", "--doc", "--quiet"])
        .lines(|line| say::lines(reader.line(line)))?;
    if !ended.success() && reader.count.failed == 0 {
        say::line(&format!("`cargo test --doc` ended with {ended}"));
        count.failed += 1;
    }
    count.add(reader.count);
    Ok(count)
}

fn lane(binaries: &[Binary], logs: &Path) -> Count {
    let mut count = Count::default();
    for binary in binaries {
        count.add(one(binary, logs).unwrap_or_else(|e| {
            say::line(&format!("{}: {e:#}", binary.shown()));
            Count { failed: 1, ..Count::default() }
        }));
    }
    count
}

fn one(binary: &Binary, logs: &Path) -> Result<Count> {
    let start = host::now();
    // A file and no pipe: what a test left behind may hold its output open for ever.
    let log = logs.join(format!("{}.{}.txt", binary.package, binary.target));
    let ended = Cmd::new(&binary.path)
        .arg("--show-output")
        .dir(&binary.dir)
        .env("CARGO_MANIFEST_DIR", &binary.dir)
        .within(PATIENCE)
        .into_file(&log);
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
    let title = format!("-- {}: {}", binary.shown(), reader.count.line());
    shown.push(say::ink(&format!("{title} in {}", seconds(start.elapsed())), Ink::Bold));
    say::line(&shown.join("\n"));
    Ok(reader.count)
}

impl Binary {
    fn shown(&self) -> String {
        format!("{} {}", self.package, self.target)
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
        let failed = lane(&[program("/bin/false"), program("/nowhere")], &dir).failed;
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(failed, 2);
    }
}
