//! Signals to the agent, as requests.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// SIGTERM, SIGINT, SIGQUIT: stop the programs and end.
    Stop,
    /// SIGHUP: read the configuration anew.
    Reload,
    /// SIGUSR2: replace the binary.
    Upgrade,
}

/// The signals that the agent listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr2: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next request. Losing this future loses no signal: the kernel's note of it stays.
    pub(crate) async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.term.recv() => Ask::Stop,
            _ = self.int.recv() => Ask::Stop,
            _ = self.quit.recv() => Ask::Stop,
            _ = self.hup.recv() => Ask::Reload,
            _ = self.usr2.recv() => Ask::Upgrade,
        }
    }
}
