//! What the firewall tells of: packets that it turned away, and changes of its rules.

use palisade_agent::{
    clock::SystemClock,
    control::Modules,
    firewall::{self, drops, history},
    logs,
    sys::{history_file::DiskHistory, nflog::Nflog},
    task::Scope,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::modules::Trouble;

/// Where trouble with the packet log is shown.
pub(crate) const DROPS: &str = "firewall drops";
/// The stream of the agent's own lines, as if a process of this name wrote them.
const PROCESS: &str = "palisade-firewall";

/// Keeps the record of changes beside the lists.
pub(crate) fn history(
    settings: &firewall::Settings,
    record: history::Pending,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    history::run(record, DiskHistory::new(&settings.state_dir), stop)
}

/// What the task about dropped packets is started with.
pub(crate) struct Drops {
    pub(crate) wanted: watch::Receiver<firewall::Settings>,
    pub(crate) counters: firewall::Handle,
    pub(crate) modules: watch::Receiver<Modules>,
    pub(crate) trouble: Trouble,
}

impl Drops {
    /// Starts it.
    pub(crate) fn start(self, scope: &mut Scope) -> drops::Ask {
        let Self { wanted, counters, modules, trouble } = self;
        let parts = drops::Parts {
            log: Nflog::here(),
            counters,
            lines: LogLines { modules, dropped: 0 },
            clock: SystemClock,
        };
        let (ask, task) = drops::new(wanted, parts);
        let stop = scope.stop();
        scope.spawn("firewall drops", task.run(stop));
        let (mut error, stop) = (ask.error(), scope.stop());
        scope.spawn("firewall drops trouble", async move {
            loop {
                let why = error.borrow_and_update().clone();
                trouble.is(why);
                tokio::select! {
                    // The task ended: what that means is for its scope to say.
                    changed = error.changed() => if changed.is_err() { return stop.cancelled().await },
                    () = stop.cancelled() => return,
                }
            }
        });
        ask
    }
}

/// Lines go to the log module if there is one, else to the agent's own log.
struct LogLines {
    modules: watch::Receiver<Modules>,
    dropped: u64,
}

impl drops::Lines for LogLines {
    fn write(&mut self, line: &str) {
        let handle = self.modules.borrow().logs.clone();
        let (Some(handle), Some(from)) = (handle, logs::LineSource::own(PROCESS)) else {
            tracing::info!(target: "palisade::drops", "{line}");
            return;
        };
        // A spool that is full, or a disk that refuses, is waited for by nobody here.
        if !matches!(handle.try_append(&from, format!("{line}\n").as_bytes()), Ok(true)) {
            self.dropped += 1;
            tracing::warn!(dropped = self.dropped, "a line about dropped packets was not shipped");
        }
    }
}
