//! Lines of `authorized_keys`, made anew from the fields of a grant.
//!
//! Invariant: a line has only words of ours, an address, a target and a key, each printed from a value
//! that was checked; nothing that somebody wrote can end an option, a line or the key.

use palisade_types::grant::{Only, Source};

use super::model::{Grant, Moment};

/// The line that admits the grant's key for the rest of its time. None if that is over, or a tunnel
/// has no target.
#[must_use]
pub fn authorized_line(grant: &Grant, now: Moment) -> Option<String> {
    // No `expiry-time`: sshd asks us at every signature, and before OpenSSH 9.1 it knows local time
    // only, so that a line with an end in UTC would be refused as a whole.
    if grant.left(now).is_zero() {
        return None;
    }
    let from = match grant.source {
        Source::Session => "127.0.0.1,::1".to_owned(),
        Source::Net(net) => net.addr().to_string(),
    };
    let what = match (grant.only, &grant.target) {
        // Editors and tools forward ports through a shell that could open them itself.
        (Only::Shell, _) => "pty,port-forwarding".to_owned(),
        (Only::Sftp, _) => "command=\"internal-sftp\"".to_owned(),
        // Without the command a tunnel could run one. Without a list it could listen; a list cannot be
        // empty, and port 1 is none that a user can listen on.
        (Only::Tunnel, Some(target)) => format!(
            "port-forwarding,permitopen=\"{target}\",permitlisten=\"localhost:1\",command=\"/usr/bin/false\""
        ),
        (Only::Tunnel, None) => return None,
    };
    let (key, id) = (grant.key, &grant.id);
    Some(format!("restrict,{what},from=\"{from}\" ssh-ed25519 {key} palisade:{id}"))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
