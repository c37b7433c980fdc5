//! What a peer is made of: keys, instances, documents, timing. Read from JSON by the program.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::channel::faults::Faults;

/// A peer. The default has one key, one instance and no document of ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: String,
    /// The only region.
    pub region: String,
    /// The account's number.
    pub account: String,
    /// Who may sign.
    pub keys: Vec<Key>,
    /// Managed instances, and those that only EC2 knows.
    pub instances: Vec<Instance>,
    /// A directory of `Name.json` documents of schema 2.2.
    pub documents: Option<PathBuf>,
    /// What the agent calls itself.
    pub agent_version: String,
    /// The oldest client that is no violation.
    pub min_client_version: String,
    /// How it behaves at first.
    pub faults: Faults,
    /// Delays of the real parts.
    pub timing: Timing,
    /// Decides what chance brings.
    pub seed: u64,
    /// Roles that anybody may assume.
    pub roles: Vec<String>,
    /// Addresses that sessions to remote hosts may not name, on top of the built-in ones.
    pub denied_hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
            keys: vec![Key::default()],
            instances: vec![Instance::default()],
            documents: None,
            agent_version: "3.3.3572.0".to_owned(),
            min_client_version: "1.2.764.0".to_owned(),
            faults: Faults::default(),
            timing: Timing::default(),
            seed: 0x5EED,
            roles: Vec::new(),
            denied_hosts: Vec::new(),
        }
    }
}

/// Delays, in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Between two pings of the agent.
    pub ping_ms: u64,
    /// Without a pong for so long, the agent drops the socket.
    pub pong_ms: u64,
    /// For an answer in the handshake.
    pub handshake_ms: u64,
    /// For acknowledgements after the destination's end.
    pub tail_ms: u64,
    /// Before an invocation exists.
    pub invocation_ms: u64,
    /// Before a command starts on an instance.
    pub delivery_ms: u64,
    /// How long a second of a command's TimeoutSeconds is.
    pub timeout_second_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_ms: 54_000,
            pong_ms: 60_000,
            handshake_ms: 15_000,
            tail_ms: 2000,
            invocation_ms: 0,
            delivery_ms: 20,
            timeout_second_ms: 1000,
        }
    }
}

impl Timing {
    pub(crate) fn ping(&self) -> Duration {
        Duration::from_millis(self.ping_ms.max(1))
    }

    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(crate) fn tail(&self) -> Duration {
        Duration::from_millis(self.tail_ms)
    }
}

/// An access key and whose it is.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// `AKIA...` or `ASIA...`.
    pub access_key: String,
    /// Its secret.
    pub secret: String,
    /// Requests must carry this token; empty is none.
    pub session_token: String,
    /// Whose it is.
    pub arn: String,
    /// Actions that are refused, such as `ssm:StartSession`.
    pub deny: Vec<String>,
    /// Actions that are refused to credentials without MFA.
    pub needs_mfa: Vec<String>,
    /// The credentials came with MFA.
    pub mfa: bool,
    /// The credentials have expired.
    pub expired: bool,
    /// Serial number of the principal's MFA device; empty is none.
    pub mfa_serial: String,
    /// The code that the device shows.
    pub mfa_code: String,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: String::new(),
            arn: "arn:aws:iam::123456789012:user/alice".to_owned(),
            deny: Vec::new(),
            needs_mfa: Vec::new(),
            mfa: false,
            expired: false,
            mfa_serial: "arn:aws:iam::123456789012:mfa/alice".to_owned(),
            mfa_code: "123456".to_owned(),
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("access_key", &self.access_key)
            .field("arn", &self.arn)
            .finish_non_exhaustive()
    }
}

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// `i-...` or `mi-...`.
    pub id: String,
    /// Tags, `Name` among them.
    pub tags: BTreeMap<String, String>,
    /// Whether its agent answers.
    pub ping: Ping,
    /// `running`, `stopped` and so on, for EC2.
    pub state: String,
    /// Private address.
    pub ip: String,
    /// Runs commands.
    pub runner: Runner,
    /// Connects sessions.
    pub dialer: Dialer,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            id: "i-0123456789abcdef0".to_owned(),
            tags: BTreeMap::from([("Name".to_owned(), "web-1".to_owned())]),
            ping: Ping::Online,
            state: "running".to_owned(),
            ip: "10.0.0.10".to_owned(),
            runner: Runner::default(),
            dialer: Dialer::default(),
        }
    }
}

/// Whether an agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ping {
    /// It does.
    Online,
    /// It did.
    ConnectionLost,
    /// It has not for long.
    Inactive,
    /// There is none: only EC2 knows the machine.
    Unmanaged,
}

/// How commands run on an instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runner {
    /// Program and arguments ahead of `/bin/sh SCRIPT`: nothing for this machine, or
    /// `["nsenter", "-t", "PID", "-a", "--"]` and the like.
    pub prefix: Vec<String>,
    /// The whole environment, apart from what the agent sets.
    pub env: BTreeMap<String, String>,
    /// What goes wrong.
    pub trouble: Trouble,
}

impl Default for Runner {
    fn default() -> Self {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        Self {
            prefix: Vec::new(),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            trouble: Trouble::None,
        }
    }
}

/// Trouble with commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// None.
    #[default]
    None,
    /// The command stays Pending until its delivery timeout, then is TimedOut.
    NeverDelivered,
    /// The instance cannot be reached: Undeliverable.
    Undeliverable,
    /// Delivered so many milliseconds late, with Delayed meanwhile.
    Late(u64),
    /// The agent's report of the start comes after that of the end.
    OutOfOrder,
    /// Runs, and its end is never reported.
    Silent,
}

/// How sessions connect on an instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dialer {
    /// Other addresses for `host:port`, such as `{"localhost:22": "127.0.0.1:40022"}`.
    pub ports: BTreeMap<String, String>,
    /// Command that runs `ssm-session-worker` where the instance is; SessionId, host and port are
    /// added. Empty: this process connects by itself.
    pub worker: Vec<String>,
    /// Root folder of the state file that names a session's owner; empty is none.
    pub state_root: String,
}
