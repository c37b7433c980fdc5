//! Signals to the agent, as requests.

use std::{
    io,
    task::{Context, Waker},
};

use palisade_agent::sys::signal_mask;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Lets none of them through until [`release`], not even over an exec: they wait in the kernel.
pub(crate) fn hold() -> io::Result<()> {
    signal_mask::block(&signal_mask::AGENT)
}

/// Lets them through.
pub(crate) fn release() -> io::Result<()> {
    signal_mask::unblock(&signal_mask::AGENT)
}

/// Sends this process the word to stop once more.
pub(crate) fn stop_again() -> io::Result<()> {
    signal_mask::terminate_self()
}

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

    /// A request that arrived already, a stop before all others.
    pub(crate) fn arrived(&mut self) -> Option<Ask> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut has = |signal: &mut Signal| signal.poll_recv(&mut cx).is_ready();
        if has(&mut self.term) || has(&mut self.int) || has(&mut self.quit) {
            Some(Ask::Stop)
        } else if has(&mut self.usr2) {
            Some(Ask::Upgrade)
        } else {
            has(&mut self.hup).then_some(Ask::Reload)
        }
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
