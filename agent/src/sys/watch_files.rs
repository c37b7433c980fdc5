//! inotify, through `notify`, as a hint that a directory changed.
//!
//! Only creations, renames and removals count: that a file grew is found by the regular scan, and
//! waking for each write would cost more than it gives.

use std::{path::Path, sync::Arc};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind};
use tokio::sync::Notify;

use crate::logs::Hints;

/// Watches directories.
#[derive(Debug)]
pub struct DirectoryWatch {
    /// None where the kernel gives us no inotify instance; then there are no hints.
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
}

impl DirectoryWatch {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let counts = match event {
                Ok(e) => e.need_rescan() || is_structural(e.kind),
                // The watch is in trouble, so better look.
                Err(_) => true,
            };
            if counts {
                tell.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|e| tracing::warn!(error = %e, "no inotify: log files are only polled"))
            .ok();
        Self { watcher, changed }
    }
}

impl Default for DirectoryWatch {
    fn default() -> Self {
        Self::new()
    }
}

fn is_structural(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            true
        }
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => false,
    }
}

impl Hints for DirectoryWatch {
    fn watch(&mut self, dir: &Path) {
        if let Some(w) = &mut self.watcher
            && let Err(e) = w.watch(dir, RecursiveMode::NonRecursive)
        {
            tracing::debug!(error = %e, dir = %dir.display(), "directory is only polled");
        }
    }

    async fn changed(&mut self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_new_file_and_a_rename_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirectoryWatch::new();
        watch.watch(dir.path());
        let soon = Duration::from_secs(5);
        std::fs::File::create(dir.path().join("a")).unwrap();
        tokio::time::timeout(soon, watch.changed()).await.unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        tokio::time::timeout(soon, watch.changed()).await.unwrap();
    }
}
