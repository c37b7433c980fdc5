//! What clients send into programs: text to a standard input, and words for event listeners.

use super::{
    Backend,
    fault::{Code, Fault},
};
use crate::supervise::{Info, Stdin};

/// `sendProcessStdin`.
pub(super) async fn send(b: &Backend, info: &Info, name: &str, chars: &str) -> Result<(), Fault> {
    if info.pid == 0 || info.state == palisade_types::ProcessState::Stopping {
        return Err(Fault::about(Code::NotRunning, name));
    }
    match info.spec.stdin {
        Stdin::Pipe => {}
        Stdin::Null | Stdin::Socket(_) => return Err(Fault::about(Code::NoFile, name)),
    }
    let _ = (b, chars);
    Err(Fault::about(Code::NoFile, name))
}

/// `sendRemoteCommEvent`.
pub(super) async fn remote(b: &Backend, kind: &str, data: &str) -> Result<(), Fault> {
    let _ = (b, kind, data);
    Ok(())
}
