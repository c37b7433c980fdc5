//! What clients send into programs: text to a standard input, and words for event listeners.

use super::{
    Backend, act,
    fault::{Code, Fault},
};
use crate::supervise::Info;

/// `sendProcessStdin`.
pub(super) async fn send(b: &Backend, info: &Info, name: &str, chars: &str) -> Result<(), Fault> {
    if info.pid == 0 || info.state == palisade_types::ProcessState::Stopping {
        return Err(Fault::about(Code::NotRunning, name));
    }
    let sent = b.supervise.send_stdin(info.spec.name.clone(), chars.as_bytes().to_vec());
    sent.await.map_err(act::ended)
}

/// `sendRemoteCommEvent`.
pub(super) async fn remote(b: &Backend, kind: &str, data: &str) -> Result<(), Fault> {
    b.supervise.remote_communication(kind.to_owned(), data.to_owned()).await.map_err(act::ended)
}
