//! Making the trees that hosts boot from: by mmdebstrap from Debian's archive, and made again only
//! when what they are made of changes. Called by `cargo xtask hosts`.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    exec::{Cmd, is_installed},
    trees::{Trees, workspace},
};

/// How long a tree may take from a slow archive.
const PATIENCE: Duration = Duration::from_secs(2_700);

const SUITE: &str = "bookworm";

/// What a host has: what an origin runs, and what its administrator would look with.
const BASE: &[&str] = &[
    "apt-utils",
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "needrestart",
    "netbase",
    "nftables",
    "nginx-light",
    "openssh-server",
    "procps",
    "python3-venv",
    "redis-server",
    "rpm",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
    "udev",
];

/// What this project's chores need and a developer's machine need not have.
const TOOLS: &[&str] = &[
    "apt-utils",
    "busybox-static",
    "ca-certificates",
    "cpio",
    "createrepo-c",
    "dnf",
    "dnf-plugins-core",
    "dnsmasq-base",
    "dpkg-dev",
    "e2fsprogs",
    "gpg",
    "gpg-agent",
    "iproute2",
    "kmod",
    "lintian",
    "lz4",
    "openssh-client",
    "packer",
    "python3-minimal",
    "qemu-system-x86",
    "qemu-utils",
    "rpm",
    "socat",
    "xz-utils",
    "zstd",
];

/// Debian's services that are on after installation, off until a test wants them.
const OFF: &str = "nginx redis-server";

/// Run in every tree at its end; `$1` is the tree. Manual pages and translations go, and so does what
/// a machine makes for itself at its first boot.
const FINISH: &str = r#"
rm -rf "$1"/usr/share/man/* "$1"/usr/share/locale/* "$1"/usr/share/info/* "$1"/var/lib/apt/lists/*
find "$1"/usr/share/doc -type f ! -name copyright -delete
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
: > "$1"/etc/machine-id
"#;

/// Makes what is missing or out of date; `say` hears what takes long. Returns where the trees are.
///
/// # Errors
/// When mmdebstrap or pip fail.
pub fn run(rebuild: bool, say: &dyn Fn(&str)) -> Result<Trees> {
    ensure!(nix::unistd::geteuid().is_root(), "making trees needs root");
    ensure!(is_installed("mmdebstrap"), "no mmdebstrap here: `cargo xtask setup` installs it");
    let trees = Trees::here();
    fs::create_dir_all(trees.dir()).with_context(|| format!("create {}", trees.dir().display()))?;
    let requirements = workspace().join("demo/requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("read {}", requirements.display()))?;
    let base = Recipe { packages: BASE, more: &wanted };
    base.make(&trees.base(), rebuild, say, |tree| {
        off(tree)?;
        python(tree, &requirements, trees.dir())
    })?;
    let tools = Recipe { packages: TOOLS, more: "" };
    tools.make(&trees.tools(), rebuild, say, |_| Ok(()))?;
    Ok(trees)
}

#[derive(Clone, Copy, Debug)]
struct Recipe<'a> {
    packages: &'static [&'static str],
    more: &'a str,
}

impl Recipe<'_> {
    /// What a tree was made of. Not when: a tree stays good until its recipe changes.
    fn stamp(self) -> String {
        let mut hash = Sha256::new();
        for part in [SUITE, OFF, FINISH, self.more] {
            hash.update(part);
            hash.update([0]);
        }
        for package in self.packages {
            hash.update(package);
            hash.update([0]);
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn make(
        self,
        tree: &Path,
        rebuild: bool,
        say: &dyn Fn(&str),
        then: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let mark = tree.with_extension("stamp");
        let stamp = self.stamp();
        let made = fs::read_to_string(&mark).unwrap_or_default();
        if made == stamp && tree.is_dir() && !rebuild {
            return Ok(());
        }
        say(&format!("hosts: making {} (some minutes)", tree.display()));
        let new = tree.with_extension("new");
        remove(&new)?;
        self.bootstrap(&new)?;
        then(&new).with_context(|| format!("finish {}", new.display()))?;
        if mark.exists() {
            fs::remove_file(&mark).with_context(|| format!("remove {}", mark.display()))?;
        }
        remove(tree)?;
        fs::rename(&new, tree).with_context(|| format!("rename {}", new.display()))?;
        // Last, so that a broken tree is begun anew.
        fs::write(&mark, stamp).with_context(|| format!("write {}", mark.display()))
    }

    fn bootstrap(self, tree: &Path) -> Result<()> {
        // In namespaces of its own: mounts that it left behind in the tree when killed, such as /dev,
        // would be what the next run removes.
        Cmd::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "mmdebstrap"])
            .args(["--variant=minbase", "--quiet"])
            .arg(format!("--include={}", self.packages.join(",")))
            .arg("--aptopt=Acquire::Languages \"none\"")
            .arg("--aptopt=APT::Install-Recommends \"false\"")
            .arg(format!("--customize-hook={FINISH}"))
            .arg(SUITE)
            .arg(tree)
            .within(PATIENCE)
            .run()
            .map(drop)
    }
}

fn remove(tree: &Path) -> Result<()> {
    if tree.symlink_metadata().is_ok() {
        fs::remove_dir_all(tree).with_context(|| format!("remove {}", tree.display()))?;
    }
    Ok(())
}

fn off(tree: &Path) -> Result<()> {
    let root = format!("--root={}", tree.display());
    Cmd::new("systemctl").arg(root).args(["--quiet", "disable"]).args(OFF.split(' ')).run()?;
    Ok(())
}

/// Django, Gunicorn and Celery below `/opt/venv`. The wheels are fetched by this machine's pip, with
/// whatever proxies and certificates it is set up for, and installed by the tree's own.
fn python(tree: &Path, requirements: &Path, scratch: &Path) -> Result<()> {
    let tools = scratch.join("pip");
    let wheels = tree.join("var/tmp/wheels");
    remove(&tools)?;
    Cmd::new("/usr/bin/python3").args(["-m", "venv"]).arg(&tools).within(PATIENCE).run()?;
    Cmd::new(tools.join("bin/pip"))
        .args(["download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--python-version=3.11", "--dest"])
        .arg(&wheels)
        .arg("--requirement")
        .arg(requirements)
        .within(PATIENCE)
        .run()
        .context("fetch the Python packages of the demo")?;
    remove(&tools)?;
    let list = tree.join("var/tmp/requirements.txt");
    fs::copy(requirements, &list).context("copy the list of Python packages")?;
    let inside = |args: &[&str]| {
        Cmd::new("chroot").arg(tree).args(args).within(PATIENCE).env("HOME", "/root").run()
    };
    inside(&["python3", "-m", "venv", "/opt/venv"])?;
    inside(&[
        "/opt/venv/bin/pip",
        "--isolated",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--find-links=/var/tmp/wheels",
        "--requirement=/var/tmp/requirements.txt",
    ])?;
    remove(&wheels)?;
    fs::remove_file(&list).with_context(|| format!("remove {}", list.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_what_a_tree_is_made_of_and_with_nothing_else() {
        let base = Recipe { packages: BASE, more: "Django==5" };
        assert_eq!(base.stamp(), base.stamp());
        assert_ne!(base.stamp(), Recipe { more: "Django==6", ..base }.stamp());
        assert_ne!(base.stamp(), Recipe { packages: TOOLS, ..base }.stamp());
    }

    #[test]
    fn a_tree_whose_recipe_is_the_same_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let recipe = Recipe { packages: BASE, more: "" };
        fs::create_dir(&tree).unwrap();
        fs::write(tree.with_extension("stamp"), recipe.stamp()).unwrap();
        fs::write(tree.join("kept"), "").unwrap();
        recipe.make(&tree, false, &|what| panic!("{what}"), |_| Ok(())).unwrap();
        assert!(tree.join("kept").exists());
    }
}
