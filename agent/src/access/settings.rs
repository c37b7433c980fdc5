//! What the operator wants of access.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use palisade_types::grant::{Binding, Only, UserName};

/// Live grants of one user and of the host, where nothing else is said.
const PER_USER: usize = 8;
const PER_HOST: usize = 64;
/// A clock that is corrected by less than this ends no grant early.
const CLOCK_SLACK: Duration = Duration::from_secs(600);
/// sshd of Debian and Amazon Linux, before and since OpenSSH 9.8.
const SSHD: [&str; 3] =
    ["/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/libexec/openssh/sshd-session"];
/// The SSM agent's session worker, of its packages and of its snap.
const WORKERS: [&str; 2] =
    ["/usr/bin/ssm-session-worker", "/snap/amazon-ssm-agent/*/ssm-session-worker"];

/// Everything that access needs to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who may be logged in as; nobody else ever.
    pub users: BTreeMap<UserName, UserRule>,
    /// Networks from which a grant may be used straight, without an SSM session. A request must name
    /// one address out of them.
    pub sources: Vec<IpNet>,
    /// Most live grants of one user.
    pub max_per_user: usize,
    /// Most live grants of the host.
    pub max_per_host: usize,
    /// How strictly a login is tied to the owner's SSM session.
    pub binding: Binding,
    /// What becomes of open logins when their grant ends.
    pub at_expiry: AtExpiry,
    /// How far the wall clock may run ahead of the time since boot before it ends a grant early.
    pub clock_slack: Duration,
    /// The user that sshd runs the helper as.
    pub helper_user: String,
    /// Where sshd listens, for whoever was granted access.
    pub ssh_port: u16,
    /// The directory with sshd's host keys.
    pub ssh_dir: PathBuf,
    /// Programs that may ask for keys: sshd, by their paths.
    pub sshd: Vec<PathBuf>,
    /// Programs that carry an SSM session: the agent's session workers, by their paths.
    pub workers: Vec<PathBuf>,
    /// Where the SSM agent keeps the state of its sessions.
    pub ssm_dir: PathBuf,
    /// Where the journal and the socket are: `RUN_DIR`.
    pub run_dir: PathBuf,
    /// Where the audit log is: `STATE_DIR/access`.
    pub state_dir: PathBuf,
}

impl Settings {
    /// What holds where nothing else is said: nobody may be logged in as.
    #[must_use]
    pub fn closed(run_dir: &Path, state_dir: &Path) -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            users: BTreeMap::new(),
            sources: Vec::new(),
            max_per_user: PER_USER,
            max_per_host: PER_HOST,
            binding: Binding::default(),
            at_expiry: AtExpiry::End,
            clock_slack: CLOCK_SLACK,
            helper_user: "palisade-keys".to_owned(),
            ssh_port: 22,
            ssh_dir: "/etc/ssh".into(),
            sshd: paths(&SSHD),
            workers: paths(&WORKERS),
            ssm_dir: "/var/lib/amazon/ssm".into(),
            run_dir: run_dir.to_path_buf(),
            state_dir: state_dir.join("access"),
        }
    }

    /// The same host, with nobody who may be logged in as.
    #[must_use]
    pub fn shut(&self) -> Self {
        Self { users: BTreeMap::new(), sources: Vec::new(), ..self.clone() }
    }

    /// Where the journal of grants is.
    #[must_use]
    pub fn journal(run_dir: &Path) -> PathBuf {
        run_dir.join("access/grants.json")
    }

    /// The socket that the helper asks at.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("authorized-keys.sock")
    }
}

/// What one user may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRule {
    /// For how long at most.
    pub max_ttl: Duration,
    /// What for.
    pub only: BTreeSet<Only>,
    /// Whether a system user (uid below 1000, root) is meant to be logged in as.
    pub system: bool,
}

/// What becomes of open logins when their grant ends by itself. A revocation always ends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtExpiry {
    /// They are warned, and ended.
    End,
    /// They go on; only new ones are refused.
    Leave,
}
