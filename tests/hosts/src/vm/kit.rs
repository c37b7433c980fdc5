//! What guests are made of, cached between runs: kernel, first root, disk, and a running guest's
//! snapshot. Rebuilt when one of its inputs changed: the trees, or the sources of this module.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::{
    guest::{Options, Vm},
    image::{Extra, Image, Login},
    kernel,
    toolbox::Toolbox,
};

/// MiB; part of the snapshot.
pub(super) const MEMORY: u32 = 384;

/// MiB; the file is sparse.
const DISK: u32 = 2000;

/// A boot without KVM takes 45 s of processor time, and the machine may be busy.
const BOOTED_WITHIN: Duration = Duration::from_secs(600);

/// Waits for the end of the boot, then frees what need not be in the snapshot.
const SETTLE: &str = "systemctl is-system-running --wait; \
    systemctl stop nginx redis-server; swapoff -a; journalctl --rotate --quiet; \
    sync; echo 1 > /proc/sys/vm/drop_caches";

/// A directory with all that guests are made of, complete.
#[derive(Clone, Debug)]
pub struct Kit {
    dir: PathBuf,
    tools: Toolbox,
}

impl Kit {
    /// The kit below `hosts` (where `base`, `tools` and `vm` are), if it was built.
    ///
    /// # Errors
    /// When it is there without the tools tree.
    pub fn find(hosts: &Path) -> Result<Option<Self>> {
        if !hosts.join("vm/stamp").is_file() {
            return Ok(None);
        }
        Self::below(hosts).map(Some)
    }

    /// Builds the kit below `hosts` from `base` and `tools` there, unless it is up to date.
    ///
    /// # Errors
    /// When a package cannot be fetched, or the guest does not boot.
    pub fn build(hosts: &Path, mut say: impl FnMut(&str)) -> Result<Self> {
        let dir = hosts.join("vm");
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let lock = File::create(hosts.join("vm.lock")).context("make the kit's lock")?;
        // Whoever builds now leaves us nothing to do.
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context("lock the kit")?;
        let kit = Self::below(hosts)?;
        let stamp = stamp(hosts)?;
        if fs::read_to_string(dir.join("stamp")).is_ok_and(|have| have == stamp) {
            return Ok(kit);
        }
        fs::remove_dir_all(&dir).context("remove the last kit")?;
        fs::create_dir(&dir).context("make the kit's folder")?;
        say("vm: kernel (Debian's, for clouds)");
        kernel::fetch(&kit.tools, &dir)?;
        let key = "ssh-keygen -q -t ed25519 -N '' -C palisade-hosts -f \"$1/key\"";
        kit.tools.script(key, [dir.as_path()], Duration::from_secs(60)).context("make a key")?;
        say("vm: disk");
        let extra = Extra { login: Login::Root, packages: String::new() };
        kit.image(&hosts.join("base"), &extra, DISK, &dir.join("disk"))?;
        say("vm: first boot (a minute or two)");
        kit.snapshot().context("make the snapshot")?;
        write(&dir.join("stamp"), &stamp)?;
        Ok(kit)
    }

    /// A disk with the kit's kernel modules and key, from a base tree.
    ///
    /// # Errors
    /// As [`Image::make`].
    pub fn image(&self, base: &Path, extra: &Extra, size: u32, out: &Path) -> Result<()> {
        let key = self.dir.join("key.pub");
        let kernel = self.dir.join("kernel");
        let mut tools = self.tools.clone().share(base);
        if let Some(folder) = out.parent() {
            tools = tools.share(folder);
        }
        Image { base, kernel: &kernel, key: &key, extra, size }.make(&tools, out)
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The private key that opens its guests.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// The tools, which see the kit.
    #[must_use]
    pub fn tools(&self) -> &Toolbox {
        &self.tools
    }

    /// The same kit, whose guests may read what is in `folder`.
    pub(super) fn sharing(mut self, folder: &Path) -> Self {
        self.tools = self.tools.share(folder);
        self
    }

    /// The disk with the snapshot in it.
    pub(super) fn snapshot_file(&self) -> PathBuf {
        self.dir.join("snapshot.qcow2")
    }

    fn below(hosts: &Path) -> Result<Self> {
        let dir = fs::canonicalize(hosts.join("vm")).context("find the kit")?;
        let tools = Toolbox::new(&hosts.join("tools"))?.share(&dir);
        Ok(Self { dir, tools })
    }

    fn snapshot(&self) -> Result<()> {
        let disk = self.dir.join("building.qcow2");
        let create = "qemu-img create -q -f qcow2 -b \"$1/disk\" -F raw \"$1/building.qcow2\"";
        self.tools.script(create, [self.dir.as_path()], Duration::from_secs(60))?;
        let options = Options { patience: BOOTED_WITHIN, ..Options::default() };
        let mut first = Vm::power_on_in_place(self, &disk, &options)?;
        first.run_within(SETTLE, BOOTED_WITHIN)?;
        first.save()?;
        drop(first);
        fs::rename(&disk, self.snapshot_file()).context("keep the snapshot")
    }
}

/// All that a kit depends on, as a short text.
fn stamp(hosts: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for tree in ["base", "tools"] {
        let status = hosts.join(tree).join("var/lib/dpkg/status");
        let packages =
            fs::read(&status).with_context(|| format!("read {}", status.display()))?;
        packages.hash(&mut hasher);
        fs::read(hosts.join(tree).join("stamp")).unwrap_or_default().hash(&mut hasher);
    }
    for source in [
        include_str!("image.sh"),
        include_str!("init.sh"),
        include_str!("kernel.rs"),
        include_str!("kit.rs"),
        include_str!("qemu.rs"),
    ] {
        source.hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

#[expect(clippy::disallowed_methods, reason = "the folder is thrown away when this fails")]
fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
