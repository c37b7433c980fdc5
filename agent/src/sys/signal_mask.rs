//! Signals that wait in the kernel instead of being delivered, also over an exec.

use std::io;

use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
    unistd::Pid,
};

/// The signals that ask something of the agent.
pub const AGENT: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR2];

/// Makes them wait, as far as this thread is concerned.
///
/// # Errors
/// What the kernel says.
pub fn block(signals: &[Signal]) -> io::Result<()> {
    set(SigmaskHow::SIG_BLOCK, signals)
}

/// Lets them through, those that wait at once.
///
/// # Errors
/// What the kernel says.
pub fn unblock(signals: &[Signal]) -> io::Result<()> {
    set(SigmaskHow::SIG_UNBLOCK, signals)
}

/// Sends this process SIGTERM.
///
/// # Errors
/// What the kernel says.
pub fn terminate_self() -> io::Result<()> {
    Ok(kill(Pid::this(), Signal::SIGTERM)?)
}

fn set(how: SigmaskHow, signals: &[Signal]) -> io::Result<()> {
    let set: SigSet = signals.iter().copied().collect();
    Ok(pthread_sigmask(how, Some(&set), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_blocked_is_in_the_mask_until_it_is_let_through() {
        block(&[Signal::SIGWINCH]).unwrap();
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGWINCH));
        unblock(&[Signal::SIGWINCH]).unwrap();
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGWINCH));
    }
}
