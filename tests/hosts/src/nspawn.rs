//! Hosts with a real systemd as PID 1, in a container on an overlay of the base tree: up in about a
//! second. A host lives in mount and process namespaces of its own that hang on a pipe from us, so
//! nothing of it outlives the test, however that ends.
//!
//! What such a host cannot do: cgroup limits (where the machine's controllers are not unified), kernel
//! modules, setting the clock, losing what was not synced. QEMU guests can.

mod cgroups;
mod leader;
mod options;
mod permits;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use self::options::HostOptions;
use self::permits::Permit;
use crate::{
    exec::{Cmd, Output},
    lab::{BRIDGE, Lab},
    owned::{Owned, sweep},
    trees::{Trees, target_dir},
    wait::{try_for, wait_for, wait_until},
};

const LAUNCHER: &str = include_str!("nspawn/launcher.sh");
const PREFIX: &str = "palisade-host";
/// How long a host may take to come up or go down on a loaded machine.
const BOOT: Duration = Duration::from_secs(90);
/// How long the preparation of a host may take: a package may be installed in it.
const PREPARE: Duration = Duration::from_secs(120);
/// How long a killed host may take to be gone.
const GONE: Duration = Duration::from_secs(20);
/// How long a command on a host may take.
const COMMAND: Duration = Duration::from_secs(120);

/// A running host. It is gone when dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
    dir: PathBuf,
    launcher: Child,
    owned: Owned,
    _lab: Option<Lab>,
    _permit: Permit,
}

impl Host {
    /// Boots a host and waits until it is up: `running`, or `degraded` by a failed unit. A test that
    /// needs several asks for them at once by [`boot_all`].
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its console.
    #[must_use]
    pub fn boot(lab: Option<&Lab>, options: HostOptions) -> Self {
        boot_all(lab, vec![options]).remove(0)
    }

    fn start(lab: Option<&Lab>, options: &HostOptions, permit: Permit) -> Result<Self> {
        sweep(PREFIX, |name, dir| {
            cgroups::remove(name);
            // Whatever is in a lock file, only a directory of this name is a host's.
            if Path::new(dir).ends_with(name) {
                fs::remove_dir_all(dir).ok();
            }
        });
        let owned = Owned::new(PREFIX)?;
        let dir = target_dir().join("hosts-run").join(owned.name());
        owned.note(&dir.to_string_lossy())?;
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part))
                .with_context(|| format!("create {}", dir.display()))?;
        }
        let base = Trees::here().base();
        options.write(&base, &dir.join("upper"))?;
        if !options.before_boot.is_empty() {
            fs::write(dir.join("before-boot"), &options.before_boot)?;
        }
        let cgroups = cgroups::of(owned.name());
        for cgroup in &cgroups {
            fs::create_dir_all(cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        }
        let launcher = launch(lab, options, &dir, &base, &cgroups)?;
        let name = options.name.clone();
        Ok(Self { name, dir, launcher, owned, _lab: lab.cloned(), _permit: permit })
    }

    fn up(&mut self) {
        let prepared = wait_for("the preparation of a host", PREPARE, || {
            let rc = fs::read_to_string(self.dir.join("prepared")).ok();
            rc.or_else(|| (!self.has_launcher()).then(|| "no launcher".to_owned()))
        });
        let log = || fs::read_to_string(self.dir.join("prepare.log")).unwrap_or_default();
        let launched = || fs::read_to_string(self.dir.join("launcher.log")).unwrap_or_default();
        assert_eq!(prepared.trim(), "0", "preparing {}: {}{}", self.name, log(), launched());
        self.boot_again();
    }

    /// Boots it after [`Host::power_cut`] or [`Host::poweroff`], and waits until it is up.
    ///
    /// # Panics
    /// As [`Host::boot`].
    pub fn boot_again(&mut self) {
        fs::remove_file(self.dir.join("ended")).ok();
        let mut lifeline = self.launcher.stdin.as_ref().unwrap();
        lifeline.write_all(b"boot\n").unwrap();
        self.wait_up();
    }

    fn has_launcher(&self) -> bool {
        Path::new(&format!("/proc/{}/exe", self.launcher.id())).exists()
    }

    /// Waits until it is up.
    ///
    /// # Panics
    /// As [`Host::boot`].
    pub fn wait_up(&self) {
        let mut state = String::new();
        let up = try_for(BOOT, || {
            if self.dir.join("ended").exists() || !self.has_launcher() {
                return Some(false);
            }
            state =
                self.try_run("systemctl is-system-running").map(|o| o.all()).unwrap_or_default();
            matches!(state.trim(), "running" | "degraded").then_some(true)
        });
        if up != Some(true) {
            let jobs = self.try_run("systemctl list-jobs; systemctl --failed --no-pager");
            let jobs = jobs.map(|o| o.all()).unwrap_or_default();
            panic!("{} is not up but {state:?}\n{jobs}\n{}", self.name, self.console());
        }
    }

    /// The end of its console, and what runs of it as this machine sees it: a host that is asked for
    /// this does not answer.
    #[must_use]
    pub fn console(&self) -> String {
        let text = fs::read(self.dir.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        let launcher = i32::try_from(self.launcher.id()).unwrap_or_default();
        let ended = fs::read_to_string(self.dir.join("ended")).unwrap_or_default();
        format!(
            "{end}\nended: {ended:?}; depth, pid, state, wait, command:\n{}",
            leader::all_below(launcher)
        )
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its directory, its cgroups and its lock on this machine are called.
    #[must_use]
    pub fn id(&self) -> &str {
        self.owned.name()
    }

    /// The pid of its PID 1, as this machine sees it.
    #[must_use]
    pub fn leader(&self) -> Option<i32> {
        leader::find(i32::try_from(self.launcher.id()).ok()?)
    }

    /// A program on the host: in all namespaces of its PID 1, with an environment as at boot.
    ///
    /// # Errors
    /// When the host is not up.
    pub fn cmd(&self, program: &str) -> Result<Cmd> {
        let leader = self.leader().with_context(|| format!("{} is not up", self.name))?;
        Ok(Cmd::new("nsenter")
            .args(["-t", &leader.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "--"])
            .args(["env", "-i", "-C", "/", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8"])
            .args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["DEBIAN_FRONTEND=noninteractive", program])
            .within(COMMAND))
    }

    /// Runs a line of shell.
    ///
    /// # Errors
    /// When the host is not up or the line takes too long.
    pub fn try_run(&self, line: &str) -> Result<Output> {
        self.cmd("sh")?.args(["-c", line]).said()
    }

    /// Runs a line of shell to its end, whatever that is.
    ///
    /// # Panics
    /// When the host is not up or the line takes too long.
    #[must_use]
    pub fn run(&self, line: &str) -> Output {
        self.try_run(line).unwrap_or_else(|e| panic!("{}: {line}: {e:#}", self.name))
    }

    /// Runs a line of shell that must succeed and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(out.success(), "{}: `{line}` ended with {}: {}", self.name, out.status, out.all());
        out.stdout
    }

    /// Starts a line of shell and lets it run; its output goes to the file.
    ///
    /// # Panics
    /// When the host is not up.
    pub fn start_line(&self, line: &str, log: &Path) -> Child {
        self.cmd("sh").and_then(|cmd| cmd.args(["-c", line]).daemon(log)).unwrap()
    }

    /// Waits until a line of shell succeeds and returns what it printed.
    ///
    /// # Panics
    /// When it did not within `cap`; the message has what it said last.
    pub fn wait_ok(&self, cap: Duration, line: &str) -> String {
        let mut last = String::new();
        let found = try_for(cap, || {
            let out = self.run(line);
            last = out.all();
            out.success().then_some(out.stdout)
        });
        found.unwrap_or_else(|| panic!("{}: waited {cap:?} for `{line}`: {last}", self.name))
    }

    /// Reads a file of the host.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        self.ok(&format!("cat '{path}'"))
    }

    /// Writes a file, and its directory if that is missing.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str) {
        let line = format!("mkdir -p \"$(dirname '{path}')\" && cat > '{path}'");
        let cmd = self.cmd("sh").and_then(|c| c.args(["-c", &line]).input(content.as_bytes()));
        cmd.and_then(Cmd::run).unwrap();
    }

    /// Copies a file of this machine onto the host.
    ///
    /// # Panics
    /// When it cannot be read or written.
    pub fn copy_in(&self, from: &Path, to: &str) {
        let file = File::open(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        let line = format!("mkdir -p \"$(dirname '{to}')\" && cat > '{to}'");
        let cmd = self.cmd("sh").map(|c| c.args(["-c", &line]).input_file(file));
        cmd.and_then(Cmd::run).unwrap();
    }

    /// What a unit wrote to the journal in this boot.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        self.run(&format!("journalctl --sync; journalctl -b -o cat --no-pager -u '{unit}'")).all()
    }

    /// A property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show -P {name} '{unit}'")).trim().to_owned()
    }

    /// The number of its present boot.
    #[must_use]
    pub fn boot_id(&self) -> String {
        self.ok("journalctl -b -n 1 -o export | sed -n 's/^_BOOT_ID=//p' | head -n 1")
            .trim()
            .to_owned()
    }

    /// Reboots it as its administrator would and waits until it is up again.
    ///
    /// # Panics
    /// As [`Host::boot`].
    pub fn reboot(&self) {
        let before = self.leader();
        // The line may be cut off by what it asks for.
        self.try_run("systemctl --no-block reboot").ok();
        wait_until("the old PID 1 to end", BOOT, || self.leader() != before);
        self.wait_up();
    }

    /// Ends all that runs on it at one instant. What programs wrote is kept, synced or not.
    ///
    /// # Panics
    /// When it does not end.
    pub fn power_cut(&self) {
        if let Some(leader) = self.leader() {
            kill(Pid::from_raw(leader), Signal::SIGKILL).ok();
        }
        self.wait_down();
    }

    /// Shuts it down as its administrator would.
    ///
    /// # Panics
    /// When it does not end.
    pub fn poweroff(&self) {
        self.try_run("systemctl --no-block poweroff").ok();
        self.wait_down();
    }

    fn wait_down(&self) {
        let ended = try_for(BOOT, || self.dir.join("ended").exists().then_some(()));
        assert!(ended.is_some(), "{} does not end\n{}", self.name, self.console());
    }
}

/// Boots several hosts at once.
///
/// # Panics
/// As [`Host::boot`].
#[must_use]
pub fn boot_all(lab: Option<&Lab>, options: Vec<HostOptions>) -> Vec<Host> {
    let permits = permits::take(options.len());
    let starting = options.iter().zip(permits).map(|(options, permit)| {
        Host::start(lab, options, permit)
            .unwrap_or_else(|e| panic!("start the host {}: {e:#}", options.name))
    });
    let mut hosts: Vec<_> = starting.collect();
    for host in &mut hosts {
        host.up();
    }
    hosts
}

fn launch(
    lab: Option<&Lab>,
    options: &HostOptions,
    dir: &Path,
    base: &Path,
    cgroups: &[PathBuf],
) -> Result<Child> {
    let cmd = match lab {
        Some(lab) => lab.cmd("unshare"),
        None => Cmd::new("unshare"),
    };
    let cgroups: Vec<_> = cgroups.iter().map(|c| c.to_string_lossy()).collect();
    let mut cmd = cmd
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
        .args(["sh", "-c", LAUNCHER, "palisade-host"])
        .arg(dir)
        .arg(base)
        .arg(cgroups.join(" "))
        .arg("-D")
        .arg(dir.join("root"))
        .args(["-M", &options.name, "--boot", "--quiet", "--register=no", "--keep-unit"])
        .args(["--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"])
        .args(["--console=pipe", "--kill-signal=SIGRTMIN+4"])
        // nspawn drops it; without it nothing can raise a limit or lower an OOM score.
        .arg("--capability=CAP_SYS_RESOURCE")
        .args(&options.binds)
        // A pure cgroup v2 tree also where the machine's own is mixed.
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
    cmd = match (lab, options.address) {
        (Some(_), Some(_)) => cmd.arg(format!("--network-bridge={BRIDGE}")),
        _ => cmd.arg("--private-network"),
    };
    cmd.piped(&dir.join("launcher.log"))
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its input ends the launcher, and the kernel ends all that is in its namespaces.
        drop(self.launcher.stdin.take());
        if try_for(GONE, || self.launcher.try_wait().ok().flatten()).is_none() {
            self.launcher.kill().ok();
            self.launcher.wait().ok();
        }
        cgroups::remove(self.owned.name());
        fs::remove_dir_all(&self.dir).ok();
    }
}
