//! This host as access sees it: sshd and its logins, the SSM agent's sessions, and files.

mod audit_file;
pub mod chain;
mod clocks;
mod facts;
mod journal;
mod processes;
pub mod sshd;
mod sshd_unit;
pub(super) mod tcp;
pub(super) mod trace;

pub use audit_file::{AuditFile, read_audit};
pub use clocks::SystemClocks;
pub use facts::HostFacts;
pub use journal::RunJournal;
pub use processes::HostProcesses;
pub use trace::ProcTracer;

use std::{
    io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
};

use super::{files, socket_file, users};

/// Binds the socket that sshd's helper asks at, for root and the helper's group. Returns the users who
/// may ask, and what is wrong if the helper's user cannot.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_keys(
    path: &Path,
    helper: &str,
) -> io::Result<(UnixListener, Vec<u32>, Option<String>)> {
    if let Some(dir) = path.parent() {
        files::ensure_dir(dir, 0o755)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = socket_file::bind_private(path)?;
    let opened = users::identity(helper).and_then(|who| {
        std::os::unix::fs::chown(path, None, Some(who.gid))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(who.uid)
    });
    Ok(match opened {
        Ok(uid) => (listener, vec![0, uid], None),
        Err(e) => {
            (listener, vec![0], Some(format!("sshd's helper cannot ask: user {helper}: {e}")))
        }
    })
}
