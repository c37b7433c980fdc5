//! What access needs of the outside.

use std::{future::Future, io};

use palisade_types::grant::UserName;

use super::{
    audit::Head,
    binding::Traced,
    model::{Account, Grant, Login, Member, Moment, Process, Session, Signal, Trail},
};

/// Both clocks.
pub trait Clocks: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Moment;
}

/// What is asked of the host while a request is looked at. Its methods may block for a while.
pub trait Facts: Send + Sync + 'static {
    /// The user database's entry, if there is one.
    ///
    /// # Errors
    /// When the database does not answer.
    fn account(&self, user: &UserName) -> io::Result<Option<Account>>;
    /// Public host keys of sshd, each `ALGORITHM BASE64`.
    fn host_keys(&self) -> Vec<String>;
    /// What keeps sshd from asking us, in words; none if nothing does.
    fn troubles(&self) -> Vec<String>;
}

/// The processes of logins. Quick: `/proc` and signals only.
pub trait Processes: Send + 'static {
    /// What is known of a connection's login.
    fn login(&self, grant: &Grant, session: &Session) -> Login;
    /// Every living process of a login, sshd's own first; also those that sshd left behind, by what the
    /// looks before found.
    fn follow(&self, trail: &mut Trail) -> Vec<Member>;
    /// The same of a login that is looked at once.
    fn members(&self, sshd: Process, uid: u32) -> Vec<Member> {
        self.follow(&mut Trail::new(sshd, uid))
    }
    /// Whether a process still lives.
    fn is_living(&self, process: Process) -> bool;
    /// Signals a process, if it is still that one.
    fn signal(&self, process: Process, signal: Signal);
    /// Writes a line to a pseudo-terminal, if it takes it at once.
    fn tell(&self, tty: u32, text: &str);
}

/// Finds out what a process that asks for keys is. It may block for some milliseconds.
pub trait Tracer: Send + Sync + 'static {
    /// The sshd that runs the helper with this pid.
    ///
    /// # Errors
    /// Why it is none.
    fn sshd_of(&self, helper: i32) -> Result<Process, super::binding::Unknown>;
    /// Where the connection of that sshd comes from.
    fn trace(&self, sshd: Process) -> Traced;
}

/// Where grants are written down, for as long as the host is up.
pub trait Journal: Send + 'static {
    /// Which boot of the host this is.
    fn boot_id(&self) -> String;
    /// What was written last.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;
    /// Writes the whole anew.
    ///
    /// # Errors
    /// When it cannot be written; what was there still is.
    fn save(&self, bytes: &[u8]) -> io::Result<()>;
}

/// The end of the audit log as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// By the last whole line.
    pub last: Option<Head>,
    /// By the head file.
    pub head: Option<Head>,
}

/// Where the audit log is kept.
pub trait AuditLog: Send + 'static {
    /// Finds the end, and cuts off a line that was never written to its end.
    fn open(&mut self) -> impl Future<Output = io::Result<Tail>> + Send;
    /// Appends lines, then the head, so that they survive a power cut.
    fn append(&mut self, lines: Vec<u8>, head: Head)
    -> impl Future<Output = io::Result<()>> + Send;
}
