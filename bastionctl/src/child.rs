//! Runs one program in the foreground as its terminal's only owner, and hands on the signals that
//! are meant for it.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Stream, SignalKind, signal},
    time::timeout,
};

/// How long a program has to end after it was told to.
const GRACE: Duration = Duration::from_secs(2);

/// The signals that end this program.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
}

impl Signals {
    /// Takes them over from the system's defaults.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next of any of them.
    pub(crate) async fn any(&mut self) -> Signal {
        // Losing an arm loses nothing: a signal that came in stays in its stream.
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
        }
    }
}

/// Runs the program to its end. Ctrl-C reaches it from the terminal as it does this program, so it is
/// left to it; the other signals are passed on.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn run(command: &mut Command, signals: &mut Signals) -> io::Result<u8> {
    let mut child = command.kill_on_drop(true).spawn()?;
    loop {
        // Losing an arm loses nothing: a child that ended is still there to be asked.
        let signal = tokio::select! {
            status = child.wait() => return Ok(code(status?)),
            signal = signals.any() => signal,
        };
        if signal != Signal::SIGINT {
            return Ok(stop(&mut child, signal).await);
        }
    }
}

/// Tells it to end, and ends it.
async fn stop(child: &mut Child, signal: Signal) -> u8 {
    let pid = child.id().and_then(|p| i32::try_from(p).ok());
    if let Some(pid) = pid {
        kill(Pid::from_raw(pid), signal).unwrap_or_default();
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.unwrap_or_default();
    }
    of_signal(signal)
}

/// The exit code that a shell gives a program which a signal ended.
pub(crate) fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_exit_code_is_the_programs_own_or_its_signals() {
        let mut signals = Signals::new().unwrap();
        for (script, want) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143)] {
            let mut command = crate::program::command("sh");
            command.args(["-c", script]);
            assert_eq!(run(&mut command, &mut signals).await.unwrap(), want, "{script}");
        }
        let mut nowhere = crate::program::command("/nowhere/ssh");
        assert!(run(&mut nowhere, &mut signals).await.is_err());
    }
}
