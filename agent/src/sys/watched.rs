//! Descriptors that the runtime watches.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use tokio::io::{Interest, unix::AsyncFd};

/// What owns one descriptor and never changes it.
pub(super) trait OwnsOne: AsRawFd {}

impl OwnsOne for OwnedFd {}

impl OwnsOne for UnixStream {}

/// Has the runtime watch `file` for something to read.
pub(super) fn readable<T: OwnsOne>(file: T) -> io::Result<AsyncFd<T>> {
    #[expect(unsafe_code, reason = "the runtime cannot see that the descriptor stays the same")]
    // SAFETY: `OwnsOne` types own their descriptor until they are dropped and always name the same
    // one; the `AsyncFd` owns the value and gives out shared references only.
    let watched = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
    Ok(watched?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn what_can_be_read_is_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let watched = readable(ours).unwrap();
        theirs.write_all(b"x").unwrap();
        watched.readable().await.unwrap().retain_ready();
    }
}
