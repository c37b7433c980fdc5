//! Brings what the demo, the tests and the benchmarks need onto a Debian or Ubuntu machine: packages
//! by apt-get, Python packages into a virtual environment below the target directory. Only what is
//! missing; nothing that runs is stopped, and nothing that is installed is started.

pub(crate) mod bench_peers;
pub(crate) mod infra_tools;

pub(crate) use bench_peers::run as bench_peers;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo,
    cmd::{Cmd, find},
    host, say,
};

/// A package and the program that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("nftables", "nft"),
    ("iproute2", "ip"),
    ("nginx-light", "nginx"),
    ("redis-server", "redis-server"),
    ("openssh-server", "sshd"),
    ("openssh-client", "ssh"),
    ("python3", "python3"),
    ("util-linux", "nsenter"),
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-container", "systemd-nspawn"),
    ("rpm2cpio", "rpm2cpio"),
    ("cpio", "cpio"),
    ("e2fsprogs", "mke2fs"),
    // Not on the path of commands.
    ("systemd-journal-remote", "/lib/systemd/systemd-journal-remote"),
];

/// Services that come with those packages and would start at the next boot.
const SERVICES: &[(&str, &str)] =
    &[("nginx-light", "nginx"), ("redis-server", "redis-server"), ("openssh-server", "ssh")];

/// How long apt and pip may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Debian's own Python: the one whose `venv` apt can complete.
const PYTHON: &str = "/usr/bin/python3";

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What was set up.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// The virtual environment with Django, Gunicorn, Celery and Supervisor.
    pub(crate) venv: PathBuf,
}

/// Installs what is missing.
pub(crate) fn run() -> Result<Ready> {
    packages()?;
    Ok(Ready { venv: venv()? })
}

fn packages() -> Result<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, p)| find(p).is_none()).map(|(package, _)| *package).collect();
    if !python_can_make_environments() {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !host::is_root() {
        bail!("not installed: {list}. Run as root, or install them by `apt-get install {list}`");
    }
    if find("apt-get").is_none() {
        bail!("not installed: {list}. This machine has no apt-get: install them by its own means");
    }
    say::progress(&format!("setup: installing {list}"));
    let _quiet = NoServiceStarts::new()?;
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)?;
    keep_off_at_boot(&missing);
    Ok(())
}

fn python_can_make_environments() -> bool {
    Cmd::new(PYTHON).args(["-c", "import venv, ensurepip"]).said().is_ok_and(|s| s.status.success())
}

fn apt(args: &[&str]) -> Result<()> {
    let said = Cmd::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .within(PATIENCE)
        .said()?;
    if !said.status.success() {
        let all = said.all();
        let lines: Vec<_> = all.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n");
        bail!("`apt-get {}` ended with {}:\n{tail}", args.join(" "), said.status);
    }
    Ok(())
}

/// Newly installed services stay off after the next boot as well.
fn keep_off_at_boot(installed: &[&str]) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    for (package, service) in SERVICES {
        if installed.contains(package) {
            match Cmd::new("systemctl").args(["disable", "-q", service]).run() {
                Ok(_) => say::progress(&format!("setup: {service} is installed but not enabled")),
                Err(e) => say::progress(&format!("setup: {service} starts at boot now: {e:#}")),
            }
        }
    }
}

/// While this lives, packages may not start the services they bring (Debian policy 9.3.3.2).
#[derive(Debug)]
struct NoServiceStarts {
    ours: bool,
}

impl NoServiceStarts {
    fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        if path.exists() {
            // Somebody else's word on the matter, for example a container image's: it holds.
            return Ok(Self { ours: false });
        }
        host::write(path, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {POLICY} executable"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = fs::remove_file(POLICY)
        {
            say::progress(&format!(
                "setup: remove {POLICY} by hand, or no package will start: {e}"
            ));
        }
    }
}

/// The virtual environment of the demo.
fn venv() -> Result<PathBuf> {
    let venv = cargo::target_dir()?.join("demo-venv");
    environment(&venv, &host::workspace().join("demo/requirements.txt"))?;
    ansible_module(&venv)?;
    Ok(venv)
}

/// The package that Ansible's module for Supervisor comes in.
const ANSIBLE: &str = "ansible==12.2.0";
const MODULE: &str = "ansible_collections/community/general/plugins/modules/supervisorctl.py";

/// Ansible's module for Supervisor: one file of a package of 50 MB, of which nothing else is kept.
fn ansible_module(venv: &Path) -> Result<()> {
    let module = venv.join("share/supervisorctl.py");
    if module.exists() {
        return Ok(());
    }
    say::progress(&format!("setup: Ansible's module for Supervisor into {}", module.display()));
    let download = venv.join("ansible-download");
    Cmd::new(venv.join("bin/pip"))
        .args(["download", "-q", "--disable-pip-version-check", "--no-deps", "--dest"])
        .arg(&download)
        .arg(ANSIBLE)
        .within(PATIENCE)
        .run()
        .with_context(|| format!("download {ANSIBLE}"))?;
    let unpack = "import glob, os, sys, zipfile\n\
                  download, member, to = sys.argv[1:]\n\
                  [wheel] = glob.glob(download + '/*.whl')\n\
                  os.makedirs(os.path.dirname(to), exist_ok=True)\n\
                  text = zipfile.ZipFile(wheel).read(member)\n\
                  open(to + '.new', 'wb').write(text)\n\
                  os.rename(to + '.new', to)\n";
    Cmd::new(venv.join("bin/python"))
        .args(["-c", unpack])
        .arg(&download)
        .arg(MODULE)
        .arg(&module)
        .run()
        .with_context(|| format!("unpack {MODULE}"))?;
    fs::remove_dir_all(&download).with_context(|| format!("remove {}", download.display()))
}

/// A virtual environment, made anew when the list of its packages is not what it was made from.
fn environment(venv: &Path, wanted_from: &Path) -> Result<()> {
    let wanted = host::read(wanted_from)?;
    let mark = venv.join("made-from.txt");
    if fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    say::progress(&format!("setup: Python packages into {}", venv.display()));
    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| format!("remove {}", venv.display()))?;
    }
    Cmd::new(PYTHON).args(["-m", "venv"]).arg(venv).within(PATIENCE).run()?;
    Cmd::new(venv.join("bin/pip"))
        .args(["install", "-q", "--disable-pip-version-check", "--no-deps", "-r"])
        .arg(wanted_from)
        .within(PATIENCE)
        .run()
        .with_context(|| format!("install the Python packages of {}", wanted_from.display()))?;
    // Last, so that a broken installation is begun anew.
    host::write(&mark, wanted)
}
