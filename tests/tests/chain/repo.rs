//! A signed package repository of two suites, main and security, behind HTTP in the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::{Context as _, Result};
use palisade_hosts::{
    exec::Cmd,
    lab::{GATEWAY, Lab},
};
use tempfile::TempDir;

const PORT: u16 = 8088;

/// The repository. It stops being served when dropped.
#[derive(Debug)]
pub(crate) struct Repository {
    dir: TempDir,
    server: Child,
}

/// A package without content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

impl Repository {
    /// Builds packages into both suites, signs the lists, and serves all.
    pub(crate) fn serve(lab: &Lab, main: &[Package], security: &[Package]) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory")?;
        let gpg = Gpg::new(dir.path())?;
        for (suite, label, packages) in
            [("main", "Debian", main), ("security", "Debian-Security", security)]
        {
            let at = dir.path().join("www").join(suite);
            fs::create_dir_all(&at).context("make a suite")?;
            for package in packages {
                package.build(&at)?;
            }
            index(&at, label)?;
            gpg.sign(&at)?;
        }
        let port = PORT.to_string();
        let server = lab
            .cmd("python3")
            .args(["-m", "http.server", "--bind", GATEWAY, "--directory"])
            .arg(dir.path().join("www"))
            .arg(port)
            .daemon(&dir.path().join("server.log"))?;
        Ok(Self { dir, server })
    }

    /// The public key, as text.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.asc")
    }

    /// A file of the main suite.
    pub(crate) fn file(&self, package: Package) -> PathBuf {
        self.dir.path().join("www/main").join(package.file())
    }

    /// Lines for `sources.list`, with the key below `/etc/apt/keyrings`.
    pub(crate) fn sources() -> String {
        let line = |suite| {
            format!(
                "deb [signed-by=/etc/apt/keyrings/lab.asc] http://{GATEWAY}:{PORT}/{suite} ./\n"
            )
        };
        ["main", "security"].map(line).concat()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.server.kill().unwrap_or_default();
        self.server.wait().map(drop).unwrap_or_default();
    }
}

impl Package {
    fn file(self) -> String {
        format!("{}_{}_all.deb", self.name, self.version)
    }

    fn build(self, into: &Path) -> Result<()> {
        let tree = tempfile::tempdir().context("make a directory")?;
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: Lab <lab@example.com>\n\
             Description: a package of the lab\n",
            self.name, self.version
        );
        fs::create_dir(tree.path().join("DEBIAN")).context("make a package")?;
        write(&tree.path().join("DEBIAN/control"), &control)?;
        let share = tree.path().join("usr/share").join(self.name);
        fs::create_dir_all(&share).context("make a package")?;
        write(&share.join("version"), self.version)?;
        Cmd::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .arg(tree.path())
            .arg(into.join(self.file()))
            .run()
            .map(drop)
    }
}

/// `Packages` and `Release` of a suite.
fn index(suite: &Path, label: &str) -> Result<()> {
    let mut packages = String::new();
    for entry in fs::read_dir(suite).context("list a suite")? {
        let path = entry.context("list a suite")?.path();
        let control = Cmd::new("dpkg-deb").arg("-f").arg(&path).run()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        packages.push_str(&format!("{}\nFilename: ./{name}\n{}\n", control.trim(), sum(&path)?));
    }
    let list = suite.join("Packages");
    write(&list, &packages)?;
    let (hash, size) = hash_and_size(&list)?;
    let date = Cmd::new("date").args(["-R", "-u"]).run()?;
    let release = format!(
        "Origin: Debian\nLabel: {label}\nSuite: bookworm\nCodename: bookworm\nDate: {date}\
         Architectures: amd64 all\nSHA256:\n {hash} {size} Packages\n"
    );
    write(&suite.join("Release"), &release)
}

fn sum(path: &Path) -> Result<String> {
    let (hash, size) = hash_and_size(path)?;
    Ok(format!("Size: {size}\nSHA256: {hash}\n"))
}

fn hash_and_size(path: &Path) -> Result<(String, u64)> {
    let said = Cmd::new("sha256sum").arg(path).run()?;
    let size = fs::metadata(path).context("look at a file")?.len();
    Ok((said.split(' ').next().unwrap_or_default().to_owned(), size))
}

#[expect(clippy::disallowed_methods, reason = "a file of the test's own, read by nobody yet")]
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// A key of the repository's own. The agent that gpg starts ends with it.
struct Gpg {
    home: PathBuf,
}

impl Gpg {
    fn new(dir: &Path) -> Result<Self> {
        let gpg = Self { home: dir.join("gpg") };
        Cmd::new("mkdir").args(["-m", "700"]).arg(&gpg.home).run()?;
        gpg.run(&["--quick-gen-key", "lab", "rsa2048", "sign", "never"])?;
        let key = gpg.run(&["--armor", "--export", "lab"])?;
        write(&dir.join("key.asc"), &key)?;
        Ok(gpg)
    }

    fn sign(&self, suite: &Path) -> Result<()> {
        let (from, to) = (suite.join("Release"), suite.join("InRelease"));
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        self.run(&["--clearsign", "--output", &to, &from]).map(drop)
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        Cmd::new("gpg")
            .env("GNUPGHOME", &self.home)
            .args(["--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"])
            .args(args)
            .run()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let end = Cmd::new("gpgconf").env("GNUPGHOME", &self.home).args(["--kill", "all"]);
        // Nothing is left to do if it has ended.
        drop(end.run());
    }
}
