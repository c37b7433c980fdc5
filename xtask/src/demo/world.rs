//! The demo's own little internet: four hosts and the cable between them, each a network namespace.
//! Nothing in the machine's own network is touched. Whatever runs inside and whatever lies in the
//! world's directory goes with the world, on every way out.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{cmd::Cmd, host, say};

/// Every namespace of a demo starts with this, followed by the demo's process id.
const PREFIX: &str = "palisade-demo-";
/// Below the target directory: a directory for each run, named by the demo's process id.
pub(crate) const RUNS: &str = "demo-run";
/// A directory that is not there.
const NOWHERE: &str = "/nonexistent";
/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// Looks in a row, some milliseconds apart, that must find nobody.
const QUIET_LOOKS: u32 = 3;
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// A host of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// The server that is guarded.
    Origin,
    /// A CloudFront edge: its address is in AWS's published origin-facing list.
    Edge,
    /// The only host that may reach SSH.
    Bastion,
    /// Anybody else.
    Stranger,
}

impl Host {
    pub(crate) const ALL: [Self; 4] = [Self::Origin, Self::Edge, Self::Bastion, Self::Stranger];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::Bastion => "bastion",
            Self::Stranger => "stranger",
        }
    }

    /// Its IPv4 address. The stranger's is from a block reserved for documentation.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::Origin => "10.20.1.20",
            Self::Edge => "130.176.0.10",
            Self::Bastion => "10.20.0.10",
            Self::Stranger => "203.0.113.66",
        }
    }

    /// Its IPv6 address.
    pub(crate) fn address6(self) -> &'static str {
        match self {
            Self::Origin => "fd00:20:1::20",
            Self::Edge => "2600:9000:1000::10",
            Self::Bastion => "fd00:20::10",
            Self::Stranger => "2001:db8::66",
        }
    }
}

/// The hosts, the cable, and the directory with all files of the run.
#[derive(Debug)]
pub(crate) struct World {
    owner: u32,
    /// All files of the run.
    pub(crate) dir: PathBuf,
}

impl World {
    /// Builds the hosts.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        sweep_dead(&dir);
        let world = Self { owner: std::process::id(), dir };
        fs::create_dir_all(&world.dir)
            .with_context(|| format!("create {}", world.dir.display()))?;
        world.cable().context("build the demo's network")?;
        Ok(world)
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: Host) -> String {
        format!("{PREFIX}{}-{}", self.owner, host.name())
    }

    /// A program on one of the hosts.
    pub(crate) fn on(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Cmd {
        Cmd::inside(&self.namespace(host), program)
    }

    fn cable(&self) -> Result<()> {
        let switch = format!("{PREFIX}{}-switch", self.owner);
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for host in Host::ALL {
            let ns = self.namespace(host);
            let port = host.name();
            ip(&["netns", "add", &ns])?;
            ip(&["-n", &ns, "link", "set", "lo", "up"])?;
            ip(&[
                "-n", &switch, "link", "add", port, "type", "veth", "peer", "name", "eth0",
                "netns", &ns,
            ])?;
            ip(&["-n", &switch, "link", "set", port, "master", "br0", "up"])?;
            let (v4, v6) = (format!("{}/32", host.address()), format!("{}/128", host.address6()));
            ip(&["-n", &ns, "addr", "add", &v4, "dev", "eth0"])?;
            ip(&["-n", &ns, "addr", "add", &v6, "dev", "eth0", "nodad"])?;
            ip(&["-n", &ns, "link", "set", "eth0", "up"])?;
            // Everybody is next door: one cable stands for the internet.
            ip(&["-n", &ns, "route", "add", "default", "dev", "eth0"])?;
            ip(&["-n", &ns, "-6", "route", "add", "default", "dev", "eth0"])?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        remove(self.owner, &self.dir);
    }
}

/// Ends everything of a demo: what runs in its namespaces, the namespaces, the files.
pub(crate) fn remove(owner: u32, dir: &Path) {
    for name in namespaces().into_iter().filter(|n| owner_of(n) == Some(owner)) {
        if let Err(e) = take_down(&name) {
            say::progress(&format!("clean-up: {e:#}"));
        }
    }
    if let Err(e) = fs::remove_dir_all(dir)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        say::progress(&format!("clean-up: remove {}: {e}", dir.display()));
    }
}

/// Process ids of the demos that have namespaces on this machine.
pub(crate) fn owners() -> Vec<u32> {
    let mut owners: Vec<_> = namespaces().iter().filter_map(|n| owner_of(n)).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

/// Whether the demo with this process id still runs.
pub(crate) fn is_running(owner: u32) -> bool {
    fs::read_to_string(format!("/proc/{owner}/comm")).is_ok_and(|name| name.starts_with("xtask"))
}

/// Removes what demos left behind that were killed outright: their hosts, and their directories
/// beside ours.
pub(crate) fn sweep_dead(dir: &Path) {
    for owner in owners().into_iter().filter(|o| !is_running(*o)) {
        say::progress(&format!(
            "clean-up: an earlier demo (process {owner}) was killed; removing it"
        ));
        remove(owner, Path::new(NOWHERE));
    }
    let Some(runs) = dir.parent().filter(|runs| runs.ends_with(RUNS)) else { return };
    let Ok(entries) = fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if owner.is_some_and(|owner| !is_running(owner)) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn namespaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir(NAMES) else { return Vec::new() };
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| owner_of(n).is_some())
        .collect()
}

fn owner_of(namespace: &str) -> Option<u32> {
    namespace.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Takes a namespace's name away, so that nobody can enter any more, and kills who is inside.
fn take_down(namespace: &str) -> Result<()> {
    // Held open, so that its number is not given to another namespace meanwhile.
    let held = fs::File::open(Path::new(NAMES).join(namespace))
        .with_context(|| format!("open {namespace}"))?;
    let inode = held.metadata().with_context(|| format!("look at {namespace}"))?.ino();
    ip(&["netns", "delete", namespace])?;
    let mut quiet = 0;
    host::wait_until(&format!("end of what runs in {namespace}"), GONE, || {
        let left = processes_in(inode);
        for pid in &left {
            // Gone by itself in this instant is as good.
            kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
        }
        // A process that had just opened the name may still be on its way in: look more than once.
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        anyhow::ensure!(quiet >= QUIET_LOOKS, "{} processes left", left.len());
        Ok(())
    })
}

/// Every process on a host.
pub(crate) fn processes_of(world: &World, host: Host) -> Result<Vec<i32>> {
    let name = world.namespace(host);
    let inode = fs::metadata(Path::new(NAMES).join(&name))
        .with_context(|| format!("look at {name}"))?
        .ino();
    Ok(processes_in(inode))
}

fn processes_in(inode: u64) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == inode)
        })
        .collect()
}

fn ip(args: &[&str]) -> Result<()> {
    Cmd::new("ip").args(args).within(Duration::from_secs(10)).run().map(drop)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpStream},
        thread,
    };

    use super::*;

    #[test]
    fn only_names_of_demos_have_an_owner() {
        assert_eq!(owner_of("palisade-demo-4711-edge"), Some(4711));
        assert_eq!(owner_of("palisade-demo-x-edge"), None);
        assert_eq!(owner_of("lab"), None);
    }

    #[test]
    fn a_world_goes_with_all_that_runs_in_it() {
        if !host::is_root() || crate::cmd::find("ip").is_none() {
            say::progress("skipped: a world needs root and iproute2");
            return;
        }
        let dir = std::env::temp_dir().join(format!("xtask-world-{}", std::process::id()));
        let world = World::new(dir.clone()).unwrap();
        let owner = world.owner;
        let mut sleeper =
            world.on(Host::Edge, "sleep").arg("600").daemon(&dir.join("sleep.log")).unwrap();
        for (from, to) in
            [(Host::Edge, Host::Origin.address()), (Host::Origin, Host::Edge.address6())]
        {
            // Refused by a host without a listener: there and back again.
            let namespace = fs::File::open(Path::new(NAMES).join(world.namespace(from))).unwrap();
            let to = SocketAddr::new(to.parse().unwrap(), 9);
            let refused = thread::spawn(move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err().kind()
            });
            assert_eq!(refused.join().unwrap(), std::io::ErrorKind::ConnectionRefused);
        }
        assert!(owners().contains(&owner));
        drop(world);
        let ended = host::wait_until("end of what ran there", GONE, || {
            sleeper.try_wait()?.context("it still runs")
        });
        assert!(!ended.unwrap().success(), "killed");
        assert!(!owners().contains(&owner));
        assert!(!dir.exists());
    }
}
