//! Guardians as processes: how one is started, gets its order, and is ended.
//!
//! The order travels over a socket that is the guardian's standard input, and with it a copy of the
//! netlink socket that owns our table. Nothing is in its arguments. It is in a session of its own, and
//! nothing of the agent's end reaches it.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    cmsg_space,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
    },
};
use tokio::task::spawn_blocking;

use super::{children::Children, pidfd, proc};
use crate::firewall::safety::{Guardian, Guardians, Order, SafetyError};

/// How long a guardian may take to have its order.
const ARM_WITHIN: Duration = Duration::from_secs(5);
/// How long one that was killed may take to be gone.
const GONE_WITHIN_MS: u16 = 2000;
/// Largest order: some thousand ranges come to a tenth of it.
const MAX_ORDER: usize = 8 << 20;
/// What a guardian says once it has its order.
const READY: &[u8] = b"ready";

/// Starts guardians from this program.
#[derive(Clone, Debug)]
pub struct ProcGuardians {
    children: Children,
    program: PathBuf,
}

impl ProcGuardians {
    /// The running program, also if another is at its path by now.
    #[must_use]
    pub fn new(children: Children) -> Self {
        Self { children, program: "/proc/self/exe".into() }
    }

    /// The same with another program, that takes the words `firewall guardian`.
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..self }
    }
}

fn failed(source: io::Error) -> SafetyError {
    let what = "start the guardian that rolls back if the agent dies".to_owned();
    SafetyError { what, source: Some(Box::new(source)) }
}

impl Guardians for ProcGuardians {
    async fn arm(
        &mut self,
        order: &Order,
        socket: Option<OwnedFd>,
    ) -> Result<Guardian, SafetyError> {
        let order = serde_json::to_vec(order).map_err(|e| failed(e.into()))?;
        let own = self.clone();
        let armed = spawn_blocking(move || own.start(&order, socket)).await;
        armed.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)
    }

    async fn end(&mut self, guardian: Guardian) {
        // It may have ended by itself.
        drop(spawn_blocking(move || end(guardian)).await);
    }
}

impl ProcGuardians {
    fn start(&self, order: &[u8], socket: Option<OwnedFd>) -> io::Result<Guardian> {
        let (ours, theirs) = UnixStream::pair()?;
        // Nobody waits for it: it may outlive us. If it ends before, it is reaped as an orphan.
        let (pid, _) = self.children.start(|| {
            #[expect(
                clippy::disallowed_methods,
                reason = "it must outlive what exec would wait for"
            )]
            let mut command = Command::new(&self.program);
            command
                .args(["firewall", "guardian"])
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .current_dir("/")
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null());
            let child = command.spawn()?;
            let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
            Ok((pid, pid))
        })?;
        let told = tell(&ours, order, socket);
        let guardian =
            told.and_then(|()| Ok(Guardian { pid, start_ticks: proc::stat(pid)?.start_ticks }));
        if guardian.is_err()
            && let Ok(fd) = pidfd::open(pid)
        {
            // Without its whole order it ends by itself; one that hangs must not stay.
            pidfd::send_signal(fd.as_fd(), Signal::SIGKILL).unwrap_or_default();
        }
        guardian
    }
}

/// Sends the order and waits until the guardian says that it has it.
fn tell(mut to: &UnixStream, order: &[u8], socket: Option<OwnedFd>) -> io::Result<()> {
    to.set_write_timeout(Some(ARM_WITHIN))?;
    to.set_read_timeout(Some(ARM_WITHIN))?;
    let length = u64::try_from(order.len()).map_err(io::Error::other)?.to_le_bytes();
    let fds: Vec<RawFd> = socket.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let with: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let sent =
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&length)], with, MsgFlags::empty(), None)?;
    if sent != length.len() {
        return Err(io::Error::other("the order was cut"));
    }
    to.write_all(order)?;
    let mut said = [0; READY.len()];
    to.read_exact(&mut said)?;
    if said == READY { Ok(()) } else { Err(io::Error::other("it did not understand its order")) }
}

/// What a guardian begins with: its order from standard input, and its copy of the kernel's socket.
///
/// # Errors
/// When it was not started by [`ProcGuardians`].
pub fn receive() -> io::Result<(Order, Option<OwnedFd>)> {
    // Whatever ends the agent's session or group is not for this process.
    nix::unistd::setsid().map(drop).or_else(|e| match e {
        nix::errno::Errno::EPERM => Ok(()),
        e => Err(e),
    })?;
    let stdin = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    take_order(&stdin)
}

fn take_order(mut from: &UnixStream) -> io::Result<(Order, Option<OwnedFd>)> {
    from.set_read_timeout(Some(ARM_WITHIN))?;
    let mut length = [0; 8];
    let mut space = cmsg_space!(RawFd);
    let (got, socket) = {
        let mut into = [IoSliceMut::new(&mut length)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(from.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        let rights = got.cmsgs()?.find_map(|c| match c {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        (got.bytes, rights)
    };
    let socket = socket.map(|fd| {
        #[expect(unsafe_code, reason = "a descriptor that came over a socket is a bare number")]
        // SAFETY: the kernel just made it for us, and nobody else in this process knows it.
        unsafe {
            OwnedFd::from_raw_fd(fd)
        }
    });
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
    if got != 8 || length > MAX_ORDER {
        return Err(io::Error::other("what came is no order"));
    }
    let mut order = vec![0; length];
    from.read_exact(&mut order)?;
    let order = serde_json::from_slice(&order)?;
    from.write_all(READY)?;
    Ok((order, socket))
}

fn end(guardian: Guardian) {
    let Ok(fd) = pidfd::open(guardian.pid) else { return };
    // Looked at through the number after it is held by a descriptor: it is this one or none.
    if !proc::stat(guardian.pid).is_ok_and(|s| s.start_ticks == guardian.start_ticks) {
        return;
    }
    pidfd::send_signal(fd.as_fd(), Signal::SIGKILL).unwrap_or_default();
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(GONE_WITHIN_MS)) != Ok(1) {
        tracing::error!(pid = guardian.pid, "a guardian does not end");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn order() -> Order {
        Order {
            trial: "1".to_owned(),
            old: Some(crate::firewall::Ruleset::default()),
            until_ms: 5,
            state: "/nowhere".into(),
        }
    }

    #[test]
    fn an_order_arrives_whole_with_its_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let taken = std::thread::spawn(move || take_order(&theirs));
        let file = tempfile::tempfile().unwrap();
        let number = file.as_raw_fd();
        tell(&ours, &serde_json::to_vec(&order()).unwrap(), Some(file.into())).unwrap();
        let (got, socket) = taken.join().unwrap().unwrap();
        assert_eq!(got, order());
        assert_ne!(socket.unwrap().as_raw_fd(), number);
    }

    #[test]
    fn an_order_without_socket_arrives_too_and_nonsense_does_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let taken = std::thread::spawn(move || take_order(&theirs));
        tell(&ours, &serde_json::to_vec(&order()).unwrap(), None).unwrap();
        assert!(taken.join().unwrap().unwrap().1.is_none());

        let (ours, theirs) = UnixStream::pair().unwrap();
        let taken = std::thread::spawn(move || take_order(&theirs).map(drop));
        assert!(tell(&ours, b"{}", None).is_err());
        assert!(taken.join().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_no_guardian_is_an_error_and_does_not_stay() {
        let mut guardians = ProcGuardians::new(Children::default()).program("/bin/true");
        let e = guardians.arm(&order(), None).await.unwrap_err();
        assert!(e.to_string().contains("start the guardian"), "{e}");
    }
}
