//! Why lines were not taken when somebody last tried: programs wait then, or their lines are dropped, and a
//! person should know.

use std::{
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A refusal counts for so long: whoever is refused tries again within five seconds.
const COUNTS_FOR: Duration = Duration::from_secs(10);
/// How long a disk may refuse before lines are dropped where they may be: a moment without descriptors, or
/// a file system that is resized, costs none.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last refusal.
#[derive(Debug, Default)]
pub(super) struct LastRefusal {
    /// So that a line that is taken costs no lock.
    disk_refuses: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: Option<(Instant, String)>,
    /// Since when the disk took nothing.
    since: Option<Instant>,
    /// What is refused is dropped.
    drops: bool,
}

impl LastRefusal {
    /// Somebody waits.
    pub(super) fn note(&self, why: &dyn Display) {
        let mut known = self.lock();
        known.last = Some((Instant::now(), why.to_string()));
        known.drops = false;
    }

    /// The disk took something.
    pub(super) fn disk_took(&self) {
        if self.disk_refuses.load(Ordering::Relaxed) {
            self.disk_refuses.store(false, Ordering::Relaxed);
            *self.lock() = Known::default();
        }
    }

    /// The disk refused lines that may be dropped. Whether it is time to.
    pub(super) fn disk_refused(&self, why: &dyn Display) -> bool {
        self.disk_refuses.store(true, Ordering::Relaxed);
        let mut known = self.lock();
        let now = Instant::now();
        if now - *known.since.get_or_insert(now) < PATIENCE {
            return false;
        }
        let is_news = !std::mem::replace(&mut known.drops, true);
        known.last = Some((now, why.to_string()));
        drop(known);
        if is_news {
            tracing::error!(error = %why, "the disk takes no lines; new ones are dropped and counted");
        }
        true
    }

    /// What keeps lines out now, and what becomes of them.
    pub(super) fn now(&self) -> Option<String> {
        let known = self.lock();
        // Dropping goes on until the disk took something, however seldom a program prints.
        let counts = |at: Instant| known.drops || at.elapsed() < COUNTS_FOR;
        let (_, why) = known.last.as_ref().filter(|(at, _)| counts(*at))?;
        let what =
            if known.drops { "new lines are dropped" } else { "programs wait when they print" };
        Some(format!("{what}: {why}"))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each field is set by itself, so a panic elsewhere spoils nothing.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
