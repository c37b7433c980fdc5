//! What guests are made of, cached between runs: kernel, first root, disk, and a running guest's
//! snapshot. Rebuilt when one of its inputs changed: the trees, or the sources of this module.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::{
    guest::{Options, Vm},
    image::{self, Extra, Login},
    kernel, script,
};
use crate::trees::Trees;

/// MiB; part of the snapshot.
pub(super) const MEMORY: u32 = 384;

/// MiB; the file is sparse.
const DISK: u32 = 2_400;

/// A boot without KVM takes 45 s of processor time, and the machine may be busy.
const BOOTED_WITHIN: Duration = Duration::from_secs(600);

const SOON: Duration = Duration::from_secs(60);

/// Waits for the end of the boot, then frees what need not be in the snapshot.
const SETTLE: &str = "systemctl is-system-running --wait; systemctl stop nginx redis-server; \
    swapoff -a; journalctl --rotate --quiet; sync; echo 1 > /proc/sys/vm/drop_caches";

/// A directory with all that guests are made of, complete.
#[derive(Clone, Debug)]
pub struct Kit {
    dir: PathBuf,
}

impl Kit {
    /// Builds the kit from the trees, unless it is up to date; `say` hears what takes long.
    ///
    /// # Errors
    /// When a package cannot be fetched, or the guest does not boot.
    pub fn build(say: &dyn Fn(&str)) -> Result<Self> {
        let trees = Trees::here();
        let dir = trees.vm();
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let lock = File::create(dir.with_extension("lock")).context("make the kit's lock")?;
        // Whoever builds now leaves us nothing to do.
        lock.lock().context("lock the kit")?;
        let kit = Self { dir: dir.clone() };
        let stamp = stamp(&trees)?;
        if fs::read_to_string(dir.join("stamp")).is_ok_and(|have| have == stamp) {
            return Ok(kit);
        }
        fs::remove_dir_all(&dir).context("remove the last kit")?;
        fs::create_dir(&dir).context("make the kit's folder")?;
        say("vm: kernel (Debian's, for clouds)");
        kernel::fetch(&dir)?;
        let key = "ssh-keygen -q -t ed25519 -N '' -C palisade-hosts -f \"$1/key\"";
        script(key, &[&dir], &[], SOON).context("make a key")?;
        say("vm: disk");
        let extra = Extra { login: Login::Root, packages: String::new(), size: DISK };
        kit.image(&trees.base(), &extra, &dir.join("disk"))?;
        say("vm: first boot (a minute or two)");
        kit.snapshot().context("make the snapshot")?;
        // Last, so that a broken kit is begun anew.
        fs::write(dir.join("stamp"), stamp).context("write the kit's stamp")?;
        Ok(kit)
    }

    /// A disk with the kit's kernel modules and key, from a base tree.
    ///
    /// # Errors
    /// When a package cannot be fetched, or the tree does not fit.
    pub fn image(&self, base: &Path, extra: &Extra, out: &Path) -> Result<()> {
        let (kernel, key) = (self.dir.join("kernel"), self.dir.join("key.pub"));
        image::make(base, &kernel, &key, extra, out)
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

    /// The disk with the snapshot in it.
    pub(super) fn snapshot_file(&self) -> PathBuf {
        self.dir.join("snapshot.qcow2")
    }

    fn snapshot(&self) -> Result<()> {
        let create = "qemu-img create -q -f qcow2 -b \"$1/disk\" -F raw \"$1/building.qcow2\"";
        script(create, &[&self.dir], &[], SOON)?;
        let disk = self.dir.join("building.qcow2");
        let options = Options { patience: BOOTED_WITHIN, ..Options::default() };
        let mut first = Vm::power_on_in_place(self, &disk, &options)?;
        first.run_within(SETTLE, BOOTED_WITHIN)?;
        first.save()?;
        drop(first);
        fs::rename(&disk, self.snapshot_file()).context("keep the snapshot")
    }
}

/// All that a kit depends on, as a short text.
fn stamp(trees: &Trees) -> Result<String> {
    let mut hash = Sha256::new();
    for tree in [trees.base(), trees.tools()] {
        let status = tree.join("var/lib/dpkg/status");
        hash.update(fs::read(&status).with_context(|| format!("read {}", status.display()))?);
        hash.update(fs::read(tree.with_extension("stamp")).unwrap_or_default());
    }
    for source in [
        include_str!("image.sh"),
        include_str!("init.sh"),
        include_str!("kernel.rs"),
        include_str!("kit.rs"),
        include_str!("qemu.rs"),
    ] {
        hash.update(source);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
