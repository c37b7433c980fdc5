//! What is so on a host, and what is wanted of it, with no opinion about either.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// What the configuration wants of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A firewall.
    pub firewall: bool,
    /// Logins with granted keys.
    pub access: bool,
    /// AWS.
    pub aws: bool,
    /// No cgroups, by `host.cgroup: off`.
    pub no_cgroups: bool,
    /// Programs with limits that need a cgroup: their names, and the controllers.
    pub limited: Vec<(String, BTreeSet<&'static str>)>,
    /// Programs with another user than the agent's.
    pub other_users: bool,
    /// nginx, as one of the programs.
    pub nginx: bool,
    /// The origin guard.
    pub origin: bool,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Why the configuration cannot be used; then nothing is wanted.
    pub mistakes: Option<String>,
    /// Whether this command runs as root. Some things cannot be seen otherwise.
    pub is_root: bool,
    /// The process of the agent, if one answers at the control socket.
    pub agent: Option<i32>,
    /// The kernel.
    pub kernel: Kernel,
    /// `nft`, asked to list tables.
    pub nft: Tool,
    /// Where the programs' cgroups are or would be.
    pub cgroups: Cgroups,
    /// sshd.
    pub sshd: Sshd,
    /// nginx, asked to test its configuration.
    pub nginx: Tool,
    /// How nginx's configuration uses the origin guard, if that was looked at: each fault, and what to do.
    pub origin: Option<Vec<(String, String)>>,
    /// The system's clock.
    pub clock: Clock,
    /// File systems that the agent writes to.
    pub disks: Vec<Disk>,
    /// Credentials of AWS, if they were looked for.
    pub credentials: Option<Asked>,
    /// What programs need and do not find.
    pub programs: Vec<Fault>,
}

/// The kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `6.1.0-40-cloud-amd64`.
    pub release: String,
    /// Why a process cannot be watched by descriptor, if it cannot.
    pub no_pidfd: Option<String>,
}

/// A program that was asked something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tool {
    /// It is not there.
    #[default]
    Missing,
    /// It said no, in these words.
    Failed(String),
    /// It did what it was asked for.
    Works,
}

/// Whose cgroup was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// The running agent's.
    Agent,
    /// That of this command: there is no agent.
    #[default]
    Command,
    /// The directory that the configuration names.
    Named,
}

/// Where the programs' cgroups are or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Where cgroup v2 is mounted, if it is.
    pub mount: Option<PathBuf>,
    /// Whose cgroup the rest is about.
    pub whose: Whose,
    /// The directory, if it is there.
    pub dir: Option<PathBuf>,
    /// It is ours: delegated by systemd, or named in the configuration.
    pub is_delegated: bool,
    /// Controllers that it has.
    pub controllers: BTreeSet<String>,
    /// Controllers that the programs' cgroups have.
    pub handed_down: BTreeSet<String>,
    /// It has `cgroup.kill`.
    pub has_kill: bool,
}

/// sshd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sshd {
    /// It, asked for its settings.
    pub tool: Tool,
    /// What it asks for keys, if anything.
    pub keys_command: Option<String>,
    /// What keeps users that may be granted access from logging in.
    pub obstacles: Vec<String>,
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Whether the kernel was told by anybody that it is right.
    pub is_synchronised: Option<bool>,
    /// How wrong it may be, as far as the kernel knows.
    pub error: Option<Duration>,
}

/// A place that the agent writes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// What is there: `state`, `run`.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Bytes free for us, and in all.
    pub bytes: (u64, u64),
    /// Files that can still be made, and in all; both 0 where there is no such limit.
    pub files: (u64, u64),
    /// Why it cannot be looked at.
    pub error: Option<String>,
}

/// What somebody said who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is so, with details.
    Yes(String),
    /// It is not, with the reason.
    No(String),
}

/// Something that a program needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The program.
    pub program: String,
    /// What is not there.
    pub what: String,
}
