//! A signed archive of Debian packages, made on the spot: what `deb.debian.org` is to a host. Packages
//! are real ones by `dpkg-deb`, the signature is gpg's, and a test may spoil any of it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::exec::Cmd;

/// Where a host sees the archive.
pub const PLACE: &str = "/srv/archive";
/// The suites, with their labels: what was released, what mends it, and what is merely newer.
pub const SUITES: [(&str, &str); 3] = [
    ("stable", "Palisade-Test"),
    ("stable-security", "Palisade-Security"),
    ("stable-updates", "Palisade-Test"),
];
/// The suite of security updates.
pub const SECURITY: &str = "stable-security";

/// A package that is to be built.
#[derive(Clone, Debug)]
pub struct Deb {
    name: String,
    version: String,
    depends: String,
    files: Vec<(String, Vec<u8>, u32)>,
    conffiles: String,
    postinst: Option<String>,
}

impl Deb {
    /// A package with one file that says its version.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let says = (format!("/usr/share/{name}/version"), version.as_bytes().to_vec(), 0o644);
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            depends: String::new(),
            files: vec![says],
            conffiles: String::new(),
            postinst: None,
        }
    }

    /// What it depends on.
    #[must_use]
    pub fn depends(self, depends: &str) -> Self {
        Self { depends: depends.to_owned(), ..self }
    }

    /// A file in it.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.into(), mode));
        self
    }

    /// A configuration file in it.
    #[must_use]
    pub fn conffile(mut self, path: &str, content: &str) -> Self {
        self.conffiles.push_str(path);
        self.conffiles.push('\n');
        self.file(path, content, 0o644)
    }

    /// A script of shell that runs when it is set up.
    #[must_use]
    pub fn postinst(self, script: &str) -> Self {
        Self { postinst: Some(format!("#!/bin/sh\nset -e\n{script}\n")), ..self }
    }

    fn control(&self) -> String {
        let depends = match self.depends.is_empty() {
            true => String::new(),
            false => format!("Depends: {}\n", self.depends),
        };
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: T <t@example.com>\n{depends}\
             Section: misc\nPriority: optional\nDescription: a package for tests\n",
            self.name, self.version
        )
    }

    fn build(&self, to: &Path) -> Result<()> {
        let tree = tempfile::tempdir()?;
        let put = |path: &str, content: &[u8], mode: u32| -> Result<()> {
            let path = tree.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            fs::write(&path, content)?;
            Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
        };
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
        put("DEBIAN/control", self.control().as_bytes(), 0o644)?;
        if !self.conffiles.is_empty() {
            put("DEBIAN/conffiles", self.conffiles.as_bytes(), 0o644)?;
        }
        if let Some(script) = &self.postinst {
            put("DEBIAN/postinst", script.as_bytes(), 0o755)?;
        }
        for (path, content, mode) in &self.files {
            put(path, content, *mode)?;
        }
        Cmd::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "-z1", "-b"])
            .arg(tree.path())
            .arg(to)
            .run()
            .map(drop)
    }
}

/// The archive. It is gone when dropped.
#[derive(Debug)]
pub struct Archive {
    dir: TempDir,
    keys: TempDir,
    /// Index entries by suite.
    index: BTreeMap<String, String>,
}

impl Archive {
    /// An empty one, with a key of its own.
    ///
    /// # Errors
    /// When gpg cannot make a key.
    pub fn new() -> Result<Self> {
        let archive = Self {
            dir: tempfile::Builder::new().prefix("palisade-archive").tempdir()?,
            keys: tempfile::Builder::new().prefix("pgpg").tempdir()?,
            index: BTreeMap::new(),
        };
        // apt reads it as its own user.
        fs::set_permissions(archive.dir(), fs::Permissions::from_mode(0o755))?;
        archive
            .gpg()
            .args(["--passphrase", "", "--quick-gen-key", "Palisade <t@example.com>"])
            .args(["ed25519", "sign", "never"])
            .run()?;
        archive.gpg().arg("--output").arg(archive.dir().join("key.gpg")).arg("--export").run()?;
        Ok(archive)
    }

    fn gpg(&self) -> Cmd {
        let home = self.keys.path().display().to_string();
        Cmd::new("gpg").args(["--homedir", &home, "--batch", "--yes", "--quiet"])
    }

    /// Where it is on this machine.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What a host's `sources.list` says to use it at [`PLACE`].
    #[must_use]
    pub fn sources() -> String {
        let line = |(suite, _): &(&str, &str)| {
            format!("deb [signed-by={PLACE}/key.gpg] file:{PLACE} {suite} main\n")
        };
        SUITES.iter().map(line).collect()
    }

    /// Adds a package to a suite; [`Archive::publish`] makes it known.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn add(&mut self, suite: &str, deb: &Deb) -> Result<()> {
        let file = format!("pool/{suite}/{}_{}_amd64.deb", deb.name, deb.version);
        let path = self.dir().join(&file);
        fs::create_dir_all(path.parent().context("a pool")?)?;
        deb.build(&path)?;
        let bytes = fs::read(&path)?;
        let entry = format!(
            "{}Filename: {file}\nSize: {}\nSHA256: {}\n\n",
            deb.control(),
            bytes.len(),
            hex(&bytes)
        );
        self.index.entry(suite.to_owned()).or_default().push_str(&entry);
        Ok(())
    }

    /// Where the index of a suite is.
    #[must_use]
    pub fn packages(&self, suite: &str) -> PathBuf {
        self.dir().join(format!("dists/{suite}/main/binary-amd64/Packages"))
    }

    /// Writes and signs every suite.
    ///
    /// # Errors
    /// When gpg does not sign.
    pub fn publish(&self) -> Result<()> {
        self.publish_until(None)
    }

    /// The same, valid until a date such as `Thu, 01 Jan 2026 00:00:00 UTC`.
    ///
    /// # Errors
    /// As [`Archive::publish`].
    pub fn publish_until(&self, until: Option<&str>) -> Result<()> {
        for (suite, label) in SUITES {
            let index = self.index.get(suite).cloned().unwrap_or_default();
            let packages = self.packages(suite);
            fs::create_dir_all(packages.parent().context("an index")?)?;
            fs::write(&packages, &index)?;
            let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
            let mut release = format!(
                "Origin: PalisadeTest\nLabel: {label}\nSuite: {suite}\nCodename: {suite}\nDate: {now}\n"
            );
            if let Some(until) = until {
                writeln!(release, "Valid-Until: {until}")?;
            }
            write!(
                release,
                "Architectures: amd64\nComponents: main\nSHA256:\n {} {} main/binary-amd64/Packages\n",
                hex(index.as_bytes()),
                index.len()
            )?;
            let dir = self.dir().join("dists").join(suite);
            fs::write(dir.join("Release"), release)?;
            self.gpg()
                .arg("--output")
                .arg(dir.join("InRelease"))
                .arg("--clearsign")
                .arg(dir.join("Release"))
                .run()?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, b| {
        write!(text, "{b:02x}").unwrap_or_default();
        text
    })
}
