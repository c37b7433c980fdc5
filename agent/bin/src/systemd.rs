//! What systemd is told: ready, status, alive. Without systemd every call does nothing.
//!
//! A thread of its own says it, since that waits while nobody takes it: a service manager that stands still
//! must not keep the agent from minding programs. At most [`QUEUE`] words wait, and what comes then is
//! dropped. An upgrade or the end does not wait for them.

use std::{env, io, thread, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

const QUEUE: usize = 64;

/// Talks to systemd if it started us.
#[derive(Clone, Debug)]
pub(crate) struct Systemd {
    words: Option<mpsc::Sender<Word>>,
    last_status: String,
}

#[derive(Debug)]
enum Word {
    Ready(String),
    Status(String),
    /// With the time of it.
    Reloading(NotifyState<'static>),
    Stopping,
    Alive,
}

impl Systemd {
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let mut words = None;
        if env::var_os("NOTIFY_SOCKET").is_some() {
            let (tx, rx) = mpsc::channel(QUEUE);
            thread::Builder::new().name("systemd".to_owned()).spawn(|| say_all(rx))?;
            words = Some(tx);
        }
        Ok(Self { words, last_status: String::new() })
    }

    /// How often to say that we are alive: half of what the unit asks for.
    pub(crate) fn watchdog_interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    pub(crate) fn ready(&mut self, status: &str) {
        self.last_status = status.to_owned();
        self.say(Word::Ready(status.to_owned()));
    }

    /// One line for `systemctl status`, sent when it changed.
    pub(crate) fn status(&mut self, status: &str) {
        if self.last_status != status {
            status.clone_into(&mut self.last_status);
            self.say(Word::Status(status.to_owned()));
        }
    }

    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(Word::Reloading(now)),
            Err(e) => tracing::debug!(error = %e, "the monotonic clock could not be read"),
        }
    }

    pub(crate) fn stopping(&self) {
        self.say(Word::Stopping);
    }

    /// Says again and again that the agent's one thread turns, whatever its main loop waits for.
    pub(crate) async fn keep_alive(self, every: Duration, stop: CancellationToken) {
        let mut interval = time::interval(every);
        // Both arms only wait.
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.alive();
        }
        self.alive();
    }

    fn alive(&self) {
        // Said again soon: it leaves the room to what is said once.
        if self.words.as_ref().is_some_and(|w| w.capacity() > QUEUE / 2) {
            self.say(Word::Alive);
        }
    }

    fn say(&self, word: Word) {
        if let Some(words) = &self.words
            && let Err(e) = words.try_send(word)
        {
            tracing::debug!(error = %e, "systemd could not be told");
        }
    }
}

fn say_all(mut words: mpsc::Receiver<Word>) {
    while let Some(word) = words.blocking_recv() {
        if let Err(e) = word.say() {
            tracing::debug!(error = %e, ?word, "systemd could not be told");
        }
    }
}

impl Word {
    fn say(&self) -> io::Result<()> {
        match self {
            Self::Ready(status) => {
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
            }
            Self::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Self::Reloading(now) => sd_notify::notify(&[NotifyState::Reloading, now.clone()]),
            Self::Stopping => {
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")])
            }
            Self::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        }
    }
}
