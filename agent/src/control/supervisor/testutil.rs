//! For tests: a process as the supervisor tells of it.

use palisade_types::ProcessState;

use crate::supervise::{Chronicle, Info, testutil::spec};

/// A process `label` of `group` that never ran.
pub(super) fn info(group: &str, label: &str) -> Info {
    let mut spec = spec(label);
    spec.group = group.parse().unwrap();
    Info {
        spec: spec.into(),
        state: ProcessState::Stopped,
        pid: 0,
        last: Chronicle::default(),
        stdout_log: None,
        stderr_log: None,
    }
}
