//! Keeps good lists on disk: which files, in which order, and what to do when one fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    cache::{self, Good},
    ports::Files,
    settings::{Settings, SourceName},
    sources::{FeedKey, Sources},
};
use crate::errors::Chain;

/// The files of all feeds.
#[derive(Debug)]
pub(super) struct Keeper<S> {
    files: S,
    unsaved: BTreeSet<FeedKey>,
    error: Option<String>,
}

/// Places of a source that are looked at, for lists that moved.
const MOVED: usize = 8;

fn paths(dir: &Path, key: &FeedKey) -> [PathBuf; 2] {
    ["current", "previous"].map(|which| dir.join(format!("{}.{which}.json", key.file_stem())))
}

impl<S: Files> Keeper<S> {
    pub(super) fn new(files: S) -> Self {
        Self { files, unsaved: BTreeSet::new(), error: None }
    }

    /// Feeds whose last good list is not on disk yet.
    pub(super) fn unsaved(&self) -> Vec<FeedKey> {
        self.unsaved.iter().cloned().collect()
    }

    /// What last went wrong, until it goes right.
    pub(super) fn error(&self) -> Option<String> {
        self.error.clone()
    }

    /// What the disk has for the sources of `settings`, of each list the current file, else the
    /// previous one. Lists that are no longer configured are among them: the files are named by place,
    /// and a list may have moved.
    pub(super) async fn load(&mut self, settings: &Settings) -> BTreeMap<FeedKey, Good> {
        let mut all = BTreeMap::new();
        let mut feeds: BTreeMap<SourceName, usize> = BTreeMap::new();
        for (key, _) in Sources::feeds_of(settings) {
            feeds.insert(key.source, key.nth + 1);
        }
        for (source, count) in feeds {
            for nth in 0..count.max(MOVED) {
                let key = FeedKey { source: source.clone(), nth };
                for path in paths(&settings.state_dir, &key) {
                    if let Some(good) = self.read(&path).await {
                        all.insert(key, good);
                        break;
                    }
                }
            }
        }
        all
    }

    async fn read(&mut self, path: &Path) -> Option<Good> {
        let why = match self.files.read(path, cache::MAX_BYTES).await {
            Ok(None) => return None,
            Ok(Some(bytes)) => match cache::decode(&bytes) {
                Ok(good) => return Some(good),
                Err(e) => Chain(&e).to_string(),
            },
            Err(e) => e.to_string(),
        };
        tracing::error!(path = %path.display(), why, "kept address list is unusable");
        self.error = Some(format!("read {}: {why}", path.display()));
        None
    }

    /// Writes a list; on failure the old files stand and it is tried again later.
    pub(super) async fn store(&mut self, dir: &Path, key: &FeedKey, good: &Good) {
        match self.write(dir, key, good).await {
            Ok(()) => {
                self.unsaved.remove(key);
                if self.unsaved.is_empty() {
                    self.error = None;
                }
            }
            Err(why) => {
                tracing::error!(source = key.source.as_str(), why, "address list not kept on disk");
                self.unsaved.insert(key.clone());
                self.error = Some(why);
            }
        }
    }

    async fn write(&self, dir: &Path, key: &FeedKey, good: &Good) -> Result<(), String> {
        let [current, previous] = paths(dir, key);
        let fail = |path: &Path, e: std::io::Error| format!("write {}: {e}", path.display());
        let bytes = cache::encode(good).map_err(|e| e.to_string())?;
        // A damaged current file must not take the place of a good previous one.
        let old = self.files.read(&current, cache::MAX_BYTES).await.unwrap_or_default();
        if let Some(old) = old.filter(|o| cache::decode(o).is_ok()) {
            self.files.write(&previous, old).await.map_err(|e| fail(&previous, e))?;
        }
        self.files.write(&current, bytes).await.map_err(|e| fail(&current, e))
    }
}
