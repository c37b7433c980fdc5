//! Programs that this machine need not have (QEMU, Packer, dnf, lintian), run in the tools tree. Each
//! run has mount and process namespaces of its own and an overlay in memory: the tree stays as it was
//! built, and nothing is left mounted.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    exec::Cmd,
    trees::{Trees, target_dir, workspace},
};

/// usage: ROOT SCRATCH CWD BINDS PROGRAM ARGUMENTS...
const SCRIPT: &str = r#"
set -eu
tree=$1 scratch=$2 cwd=$3 binds=$4
shift 4
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
root=$scratch/root
mount -t overlay palisade-tools -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
for dir in /tmp $binds; do
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
done
# Names are looked up as this machine does it.
if [ -e /etc/resolv.conf ]; then cp /etc/resolv.conf "$root/etc/resolv.conf"; fi
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 CHECKPOINT_DISABLE=1 chroot "$root" sh -c 'cd "$0" && exec "$@"' "$cwd" "$@"
"#;

/// A program of the tools tree. It sees the workspace, the target directory and `/tmp` where they
/// are, starts in the workspace, and has the caller's network and open files.
///
/// # Errors
/// When there is no room for its scratch directory.
pub fn cmd(program: &str) -> Result<Cmd> {
    cmd_with(program, &[])
}

/// As [`cmd`]; it sees more directories of this machine.
///
/// # Errors
/// As [`cmd`].
pub fn cmd_with(program: &str, more: &[&Path]) -> Result<Cmd> {
    let target = target_dir();
    // Only where memory is mounted, for each run in its own namespace.
    let scratch = target.join("hosts-run/tools");
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let cwd = workspace();
    let mut binds = cwd.display().to_string();
    for dir in [target.as_path()].iter().chain(more).filter(|d| !d.starts_with("/tmp")) {
        binds.push_str(&format!(" {}", dir.display()));
    }
    Ok(Cmd::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
        .args(["sh", "-c", SCRIPT, "palisade-tools"])
        .arg(Trees::here().tools())
        .arg(scratch)
        .arg(cwd)
        .arg(binds)
        .arg(program))
}
