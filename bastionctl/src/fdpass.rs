//! Hands ssh a connected socket instead of copying every byte for it (`ProxyUseFdpass`).

use std::{
    io::{self, IoSlice},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Connects to `socket` and passes the connection over standard output, which ssh made a socket.
///
/// # Errors
/// When nobody listens there, or standard output is no socket.
pub(crate) fn pass(socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    send(&io::stdout(), &stream)
}

fn send(over: &impl std::os::fd::AsRawFd, stream: &UnixStream) -> io::Result<()> {
    let fds = [stream.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    // One byte, since rights do not travel without any.
    sendmsg::<UnixAddr>(over.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _, Write as _};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn what_is_passed_is_the_connection_itself() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        send(&ours, &far).unwrap();
        let (mut byte, mut room) = ([9], nix::cmsg_space!([i32; 1]));
        let mut slices = [IoSliceMut::new(&mut byte)];
        let got = recvmsg::<UnixAddr>(
            theirs.as_raw_fd(),
            &mut slices,
            Some(&mut room),
            MsgFlags::empty(),
        )
        .unwrap();
        let fd = got.cmsgs().unwrap().find_map(|m| match m {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let path = format!("/proc/self/fd/{}", fd.unwrap());
        assert!(std::fs::read_link(path).unwrap().to_str().unwrap().starts_with("socket:"));
        drop(far);
        // The passed end lives on, though the one it was made of is closed.
        near.write_all(b"x").unwrap();
        near.set_nonblocking(true).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
