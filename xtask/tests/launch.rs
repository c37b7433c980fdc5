//! `packaging/launch`: which binary becomes the agent. The script itself runs, below a root of its
//! own, with two small scripts in place of the binaries.

#![expect(clippy::unwrap_used, reason = "what helps a test may fail as a test does")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const NEW: &str = "usr/bin/palisade";
const PREVIOUS: &str = "var/lib/palisade/upgrade/previous";
const PENDING: &str = "var/lib/palisade/upgrade/pending";

struct Host {
    root: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("palisade-launch-{name}-{}", std::process::id()));
        let host = Self { root };
        host.binary(NEW, "new");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A binary that says who it is, with which words, and which binary it should become one day.
    fn binary(&self, at: &str, name: &str) {
        let near = self.path(&format!("{at}.new"));
        self.file(
            &format!("{at}.new"),
            &format!("#!/bin/sh\necho {name} \"$*\" \"$PALISADE_BINARY\"\n"),
        );
        fs::set_permissions(&near, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(near, self.path(at)).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "a test sets the scene")]
    fn file(&self, at: &str, text: &str) {
        let path = self.path(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "the script under test has to be started")]
    fn launch(&self) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/launch");
        Command::new("/bin/sh")
            .arg(script)
            .arg("run")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PALISADE_ROOT", &self.root)
            .output()
            .unwrap()
    }

    /// The agent's note that it is about to try the installed binary.
    fn note(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(self.path(NEW)).unwrap();
        self.file(PENDING, &format!("{}-{}-{}", meta.ino(), meta.mtime(), meta.size()));
    }

    fn who(&self) -> String {
        String::from_utf8(self.launch().stdout).unwrap().trim_end().to_owned()
    }

    fn previous_words(&self) -> String {
        format!("previous run {}", self.path(NEW).display())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

#[test]
fn the_installed_binary_runs_with_the_words_it_was_given() {
    let host = Host::new("plain");
    assert_eq!(host.who(), "new run");
    host.binary(PREVIOUS, "previous");
    assert_eq!(host.who(), "new run");
}

#[test]
fn a_binary_that_died_before_it_was_ready_gives_way_to_the_one_before() {
    let host = Host::new("pending");
    host.binary(PREVIOUS, "previous");
    host.note();
    let out = host.launch();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim_end(), host.previous_words());
    let told = String::from_utf8(out.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("died before it was ready"), "{told}");
}

#[test]
fn the_refused_binary_is_not_tried_again_until_another_takes_its_place() {
    let host = Host::new("refused");
    host.binary(PREVIOUS, "previous");
    host.note();
    assert_eq!(host.who(), host.previous_words());
    // The one before was ready since, and is started again, say by a reboot.
    assert_eq!(host.who(), host.previous_words());
    host.binary(NEW, "mended");
    assert_eq!(host.who(), "mended run");
}

#[test]
fn without_a_binary_before_the_installed_one_is_tried_whatever_happened() {
    let host = Host::new("alone");
    host.note();
    assert_eq!(host.who(), "new run");
    // Nor with one that cannot be executed.
    host.file(PREVIOUS, "");
    assert_eq!(host.who(), "new run");
}

#[test]
fn a_missing_binary_gives_way_to_the_one_before_after_a_bad_upgrade() {
    let host = Host::new("missing");
    host.binary(PREVIOUS, "previous");
    host.note();
    fs::remove_file(host.path(NEW)).unwrap();
    assert_eq!(host.who(), host.previous_words());
}
