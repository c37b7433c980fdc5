//! What a test host is to be: its name, its address, and what is in it before it boots.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::GATEWAY;

/// A host that is to be booted.
#[derive(Clone, Debug)]
pub struct HostOptions {
    pub(super) name: String,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) before_boot: String,
    pub(super) binds: Vec<String>,
    files: Vec<NewFile>,
}

#[derive(Clone, Debug)]
struct NewFile {
    path: String,
    content: Content,
    mode: u32,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    CopyOf(PathBuf),
    LinkTo(String),
}

impl HostOptions {
    /// A host of this name that has no network but loopback.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: None,
            before_boot: String::new(),
            binds: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Its address in the lab's subnet `10.77.0.0/24`.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = Some(address);
        self
    }

    /// A file that is there before it boots.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.put(path, Content::Bytes(content.into()), 0o644)
    }

    /// A program that is there before it boots.
    #[must_use]
    pub fn script(self, path: &str, content: &str) -> Self {
        self.put(path, Content::Bytes(content.into()), 0o755)
    }

    /// A file of this machine that is there before it boots.
    #[must_use]
    pub fn copy(self, from: &Path, path: &str) -> Self {
        self.put(path, Content::CopyOf(from.to_path_buf()), 0o755)
    }

    /// A symbolic link that is there before it boots.
    #[must_use]
    pub fn link(self, path: &str, to: &str) -> Self {
        self.put(path, Content::LinkTo(to.to_owned()), 0o777)
    }

    /// A directory or file of this machine, seen on the host, not to be written there.
    #[must_use]
    pub fn bind(mut self, from: &Path, path: &str) -> Self {
        self.binds.push(format!("--bind-ro={}:{path}", from.display()));
        self
    }

    /// Lines of shell that run in the host's root by chroot before it boots, as an image is made.
    #[must_use]
    pub fn before_boot(mut self, script: &str) -> Self {
        self.before_boot.push_str(script);
        self.before_boot.push('\n');
        self
    }

    fn put(mut self, path: &str, content: Content, mode: u32) -> Self {
        self.files.push(NewFile { path: path.to_owned(), content, mode });
        self
    }

    /// Writes all of this into the upper half of an overlay that is not mounted yet.
    pub(super) fn write(&self, base: &Path, upper: &Path) -> Result<()> {
        let uuid =
            fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a machine id")?;
        let name = &self.name;
        let mut own = Self::new(name)
            .file("/etc/hostname", format!("{name}\n"))
            .file("/etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))
            .file("/etc/machine-id", uuid.replace('-', ""));
        if let Some(address) = self.address {
            own = own.network(address);
        }
        // The test's own files last: they win.
        for file in own.files.iter().chain(&self.files) {
            file.write(base, upper).with_context(|| format!("put {} into the host", file.path))?;
        }
        Ok(())
    }

    fn network(self, address: Ipv4Addr) -> Self {
        let network = format!(
            "[Match]\nName=host0\n[Network]\nAddress={address}/24\nGateway={GATEWAY}\n\
             LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        );
        let unit = "/lib/systemd/system/systemd-networkd.service";
        let system = "/etc/systemd/system";
        self.file("/etc/systemd/network/10-host0.network", network)
            .link(&format!("{system}/multi-user.target.wants/systemd-networkd.service"), unit)
            .link(&format!("{system}/dbus-org.freedesktop.network1.service"), unit)
    }
}

impl NewFile {
    fn write(&self, base: &Path, upper: &Path) -> Result<()> {
        let path = self.path.strip_prefix('/').context("a path on a host is absolute")?;
        let parent = Path::new(path).parent().context("it names no file")?;
        let mut dir = PathBuf::new();
        for part in parent.components() {
            dir.push(part);
            make_dir(&base.join(&dir), &upper.join(&dir))?;
        }
        let to = upper.join(path);
        if to.symlink_metadata().is_ok() {
            fs::remove_file(&to)?;
        }
        match &self.content {
            Content::Bytes(bytes) => fs::write(&to, bytes)?,
            Content::CopyOf(from) => {
                fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
            }
            Content::LinkTo(target) => return Ok(std::os::unix::fs::symlink(target, &to)?),
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(self.mode))?;
        Ok(())
    }
}

/// A directory of the upper half, with the mode of the one it covers.
fn make_dir(lower: &Path, upper: &Path) -> Result<()> {
    let there = lower.symlink_metadata();
    ensure!(
        !there.as_ref().is_ok_and(|m| m.is_symlink()),
        "{} is a link in the base tree: name the directory that it points to",
        lower.display()
    );
    if !upper.exists() {
        fs::create_dir(upper)?;
        if let Ok(meta) = there {
            fs::set_permissions(upper, meta.permissions())?;
            std::os::unix::fs::chown(upper, Some(meta.uid()), Some(meta.gid()))?;
        }
    }
    Ok(())
}
