//! What patching needs of the outside: the host, and somebody to tell where it stands.

use std::{collections::BTreeMap, error::Error, future::Future, io, time::Duration};

use super::{
    model::{ComplianceUpload, InventoryUpload},
    plan::{Broken, Facts, RebootNeed},
    record::{Found, Record},
    services::{Action, Done, Stale},
};
use crate::clock::Timestamp;

/// Somebody who keeps what hosts say about their patches.
///
/// Each call is one try with a bounded time. The task tries again, and skips what the other side
/// already has, by the uploads' hashes.
pub trait Compliance: Send + Sync + 'static {
    /// Replaces the whole compliance report of this host.
    fn put(
        &self,
        upload: &ComplianceUpload,
    ) -> impl Future<Output = Result<Put, ComplianceError>> + Send;

    /// Replaces the host's inventory of patches.
    fn put_inventory(
        &self,
        upload: &InventoryUpload,
    ) -> impl Future<Output = Result<Put, ComplianceError>> + Send;
}

/// What the other side did with an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It took it.
    Stored,
    /// It had the same already.
    Unchanged,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ComplianceError {
    /// What was tried and what was answered.
    pub what: String,
    /// Whether to try again.
    pub again: Again,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Throttled, not reachable, not yet allowed: later.
    Later,
    /// The same upload will be refused again.
    Never,
}

/// Why something on the host could not be found out or done.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct HostError {
    /// What was tried and what was answered.
    pub what: String,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl HostError {
    /// An error without a cause below.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// An error with a cause below.
    #[must_use]
    pub fn because(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// The host's package manager.
pub trait Packages: Send + 'static {
    /// Who holds its lock now, if somebody does.
    fn lock_holder(&mut self) -> impl Future<Output = Option<String>> + Send;

    /// Fetches the lists and remembers for each source whether it was good. An error only if nothing
    /// could be tried; sources that failed are told by [`Self::facts`].
    fn refresh(&mut self, now: Timestamp) -> impl Future<Output = Result<(), HostError>> + Send;

    /// What is there and what would be done, leaving out some packages. Changes nothing.
    fn facts(
        &mut self,
        excluded: &[String],
    ) -> impl Future<Output = Result<Facts, HostError>> + Send;

    /// Repairs what is half installed, as far as that goes.
    fn repair(&mut self) -> impl Future<Output = Result<Said, HostError>> + Send;

    /// Installs what [`Self::facts`] calls doable, and says how `names` are then. An edited
    /// configuration file stays as it is.
    fn install(
        &mut self,
        excluded: &[String],
        names: &[String],
    ) -> impl Future<Output = Result<Said, HostError>> + Send;
}

/// What an installation or a repair said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Who took the lock in between, so that nothing was done.
    pub locked_by: Option<String>,
    /// What went wrong with single packages.
    pub errors: Vec<(String, String)>,
    /// What went wrong as a whole, though it was tried.
    pub trouble: Option<String>,
    /// New versions of configuration files beside the edited ones.
    pub conffiles: Vec<String>,
    /// The packages that were asked about, as they are now.
    pub found: BTreeMap<String, Found>,
    /// What is half installed now.
    pub broken: Vec<Broken>,
}

/// What runs on the host.
pub trait Services: Send + 'static {
    /// Every process that runs code which is gone from the disk.
    fn stale(&mut self) -> impl Future<Output = Vec<Stale>> + Send;

    /// Does it, waits until what was restarted is up and stays up, and says what came of it.
    fn act(&mut self, action: &Action, within: Duration) -> impl Future<Output = Done> + Send;
}

/// The agent's programs, as somebody outside the agent reaches them.
pub trait Programs: Send + Sync + 'static {
    /// The agent's process and each program's processes; none if no agent answers.
    fn list(&mut self) -> impl Future<Output = Option<Running>> + Send;

    /// Restarts all processes of a program and waits until they are ready.
    fn restart(
        &mut self,
        program: &str,
        within: Duration,
    ) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Has the agent replace its binary and waits until the new one answers.
    fn upgrade(&mut self, within: Duration) -> impl Future<Output = Result<(), HostError>> + Send;
}

/// Processes by what they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The agent.
    pub agent: i32,
    /// The first process of each process of a program.
    pub programs: BTreeMap<i32, String>,
}

/// The host as something that is restarted.
pub trait Power: Send + 'static {
    /// Which boot this is.
    fn boot(&self) -> String;

    /// Why it needs a restart.
    fn need(&mut self) -> impl Future<Output = RebootNeed> + Send;

    /// Who is logged in, as `root on pts/0`.
    fn sessions(&mut self) -> impl Future<Output = Vec<String>> + Send;

    /// Tells everybody who is logged in.
    fn tell(&mut self, text: &str) -> impl Future<Output = ()> + Send;

    /// Restarts the host in good order. When it answers, the restart has begun.
    fn restart(&mut self) -> impl Future<Output = Result<(), HostError>> + Send;
}

/// Where runs are written down.
pub trait Journal: Send + 'static {
    /// The run that goes on or was the last, if there is one.
    fn load(&self) -> io::Result<Option<Record>>;
    /// Writes it down so that it survives a power cut.
    fn save(&mut self, record: &Record) -> io::Result<()>;
    /// Writes it down as over, into the history too.
    fn close(&mut self, record: &Record) -> io::Result<()>;
    /// The last `n` runs that are over, oldest first.
    fn history(&self, n: usize) -> io::Result<Vec<Record>>;
}

/// Starts runs where the agent's own end does not end them.
pub trait Starter: Send + 'static {
    /// Starts the run that is in the journal.
    fn start(&mut self, record: &Record) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Whether a run is going on.
    fn is_running(&mut self) -> impl Future<Output = bool> + Send;
}
