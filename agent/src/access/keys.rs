//! Lines of `authorized_keys`, made anew from the fields of a grant.
//!
//! Invariant: a line has only words of ours, an address, a target and a key, each printed from a value
//! that was checked; nothing that somebody wrote can end an option, a line or the key.

use palisade_types::grant::{Only, Source};

use super::model::{Grant, Moment};
use crate::clock::Timestamp;

/// The line that admits the grant's key for the rest of its time. None if that is over, or a tunnel
/// has no target.
#[must_use]
pub fn authorized_line(grant: &Grant, now: Moment) -> Option<String> {
    let left = grant.left(now);
    if left.is_zero() {
        return None;
    }
    // By the clock as it stands now, so that one that was set in between neither extends nor cuts.
    let expiry = expiry_time(now.wall.plus(left))?;
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
    Some(format!(
        "restrict,{what},expiry-time=\"{expiry}\",from=\"{from}\" ssh-ed25519 {key} palisade:{id}"
    ))
}

/// `YYYYMMDDHHMMSSZ`, rounded up: sshd knows whole seconds only.
fn expiry_time(at: Timestamp) -> Option<String> {
    let up = at.as_millis().checked_add(999)?.div_euclid(1000);
    let at = jiff::Timestamp::from_second(up).ok()?;
    Some(at.strftime("%Y%m%d%H%M%SZ").to_string())
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
