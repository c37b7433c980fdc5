//! All that is known of the processes at one moment, for those who ask seldom and want much; what changes
//! all the time is in [`super::Handle::status`].

use std::{path::PathBuf, sync::Arc};

use palisade_types::ProcessState;

use super::{
    Chronicle, FdStore, Host, OutputSink, ProcessSpec, Stream, slot::log_path, task::Owner,
};
use crate::clock::WallClock;

/// All that is known of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The settings that are in force for its next start.
    pub spec: Arc<ProcessSpec>,
    /// Where it is.
    pub state: ProcessState,
    /// Its process id, 0 if it has none.
    pub pid: i32,
    /// Its last run.
    pub last: Chronicle,
    /// Log file of its standard output, if it has one.
    pub stdout_log: Option<PathBuf>,
    /// Log file of its standard error, if it has one of its own.
    pub stderr_log: Option<PathBuf>,
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Every process whose settings are in force, in order of name.
    pub(super) fn infos(&self) -> Vec<Info> {
        let log = |spec: &ProcessSpec, stream| log_path(&self.settings.log_dir, spec, stream);
        let known = self.slots.values().filter(|s| s.is_shown());
        let info = |status: palisade_types::ProcessStatus, spec: &Arc<ProcessSpec>, last| Info {
            stdout_log: log(spec, Stream::Stdout),
            stderr_log: log(spec, Stream::Stderr),
            spec: Arc::clone(spec),
            state: status.state,
            pid: status.pid,
            last,
        };
        known.map(|s| info(s.status(), &s.spec, s.chronicle.clone())).collect()
    }
}
