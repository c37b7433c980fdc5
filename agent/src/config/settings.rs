//! The whole configuration, valid.

use std::path::PathBuf;

use crate::{access, firewall, logs, metrics, origin, patch, supervise};

/// The whole configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The host.
    pub host: Host,
    /// AWS; absent when the agent runs standalone and sends nothing anywhere.
    pub aws: Option<Aws>,
    /// The control socket.
    pub control: Control,
    /// The programs.
    pub supervise: supervise::Settings,
    /// The firewall, if configured.
    pub firewall: Option<firewall::Settings>,
    /// The origin guard, if configured.
    pub origin: Option<origin::Settings>,
    /// Log shipping, if configured. Its names may still hold `{instance_id}`.
    pub logs: Option<logs::Settings>,
    /// Metrics, if configured.
    pub metrics: Option<metrics::Settings>,
    /// Patching, if configured.
    pub patch: Option<patch::Settings>,
    /// Short-lived SSH access, if configured.
    pub access: Option<access::Settings>,
    /// What is no mistake and should be known: of Supervisor's files, what is not carried over or does
    /// not say what it seems to. Each with its place.
    pub warnings: Vec<String>,
}

/// The host and the agent's own places on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What the host is for.
    pub role: Role,
    /// The environment it belongs to: the `{env}` of log groups.
    pub env: String,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// What need not.
    pub run_dir: PathBuf,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves the site.
    Origin,
    /// Lets admins through.
    Bastion,
}

/// How to reach AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The region.
    pub region: Region,
}

/// Where the region comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// `AWS_REGION`, the profile, or the instance's own.
    Auto,
    /// This one.
    Named(String),
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The group that may use it, beside root.
    pub group: String,
    /// Where it is.
    pub socket: PathBuf,
    /// Where Supervisor's own tools are answered, if they are.
    pub supervisor_socket: Option<PathBuf>,
    /// What they are told that the supervisor is called: Supervisor's `identifier`.
    pub identifier: String,
}
