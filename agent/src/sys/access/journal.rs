//! The journal of grants: one file below the run directory, readable by root only, gone at a reboot.

use std::{fs, io, path::PathBuf};

use super::super::{files, proc};
use crate::access::{Journal, Settings};

/// A larger journal is not ours.
const MAX_BYTES: u64 = 4 << 20;

/// A journal in `RUN_DIR/access`.
#[derive(Debug)]
pub struct RunJournal {
    path: PathBuf,
}

impl RunJournal {
    /// The journal of the agent with this run directory.
    #[must_use]
    pub fn new(run_dir: &std::path::Path) -> Self {
        Self { path: Settings::journal(run_dir) }
    }
}

impl Journal for RunJournal {
    fn boot_id(&self) -> String {
        proc::boot_id()
    }

    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(meta) if meta.len() > MAX_BYTES => Err(io::Error::other("it is too large")),
            Ok(_) | Err(_) => fs::read(&self.path).map(Some),
        }
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            files::ensure_dir(dir, 0o700)?;
        }
        files::write_atomic_volatile(&self.path, bytes, 0o600)
    }
}
