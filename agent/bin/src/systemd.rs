//! What systemd is told: ready, status, alive. Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Talks to systemd if it started us.
#[derive(Debug, Default)]
pub(crate) struct Systemd {
    last_status: String,
}

impl Systemd {
    /// How often to say that we are alive: half of what the unit asks for.
    pub(crate) fn watchdog_interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    pub(crate) fn ready(&mut self, status: &str) {
        self.last_status = status.to_owned();
        send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// One line for `systemctl status`, sent when it changed.
    pub(crate) fn status(&mut self, status: &str) {
        if self.last_status != status {
            status.clone_into(&mut self.last_status);
            send(&[NotifyState::Status(status)]);
        }
    }

    pub(crate) fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(e) => tracing::debug!(error = %e, "the monotonic clock could not be read"),
        }
    }

    pub(crate) fn stopping() {
        send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Says again and again that the agent's one thread turns, whatever its main loop waits for.
    pub(crate) async fn keep_alive(every: Duration, stop: CancellationToken) {
        let mut interval = time::interval(every);
        // Both arms only wait.
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            send(&[NotifyState::Watchdog]);
        }
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!(error = %e, "systemd could not be told");
    }
}
