//! The real program against a CloudFormation of this machine: ministack, or the fake beside this file.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    clippy::allow_attributes,
    reason = "a test starts programs, says why it is skipped, and does not use every helper"
)]

pub(crate) mod emulator;
pub(crate) mod fake;
pub(crate) mod projection;
pub(crate) mod readback;
pub(crate) mod small;
pub(crate) mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// For anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A copy of a project that a test may change, and where its stacks are made.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) endpoint: String,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Lab {
    /// Of one of the projects beside this file.
    pub(crate) fn of_fixture(name: &str, endpoint: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        Self::of(&from, endpoint)
    }

    pub(crate) fn of(from: &Path, endpoint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(from, &dir.path().join("infra"));
        Self { dir, endpoint: endpoint.to_owned() }
    }

    /// Of nothing yet.
    pub(crate) fn empty(endpoint: &str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), endpoint: endpoint.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("infra").join(name)
    }

    /// Replaces a text of a file that must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(self.file(name), text.replace(from, to)).unwrap();
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade-infra"));
        command
            .args(words)
            .args(["--endpoint-url", &self.endpoint])
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        ran(&self.command(words).output().unwrap())
    }

    /// Runs it and expects this exit code.
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(code), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// Begins a run whose end somebody else waits for.
    pub(crate) fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What Control-C does.
pub(crate) fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}
