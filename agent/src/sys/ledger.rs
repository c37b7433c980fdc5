//! What is kept of schedules: one small file for each process, below the agent's state directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use palisade_types::ProcessName;

use super::files;
use crate::supervise::Ledger;

const SUFFIX: &str = ".json";

/// A directory of records.
#[derive(Clone, Debug)]
pub struct DiskLedger {
    dir: PathBuf,
}

impl DiskLedger {
    /// In `schedule` below the state directory, which is made when something is to be kept.
    #[must_use]
    pub fn below(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("schedule") }
    }

    fn path(&self, name: &ProcessName) -> PathBuf {
        self.dir.join(format!("{name}{SUFFIX}"))
    }
}

impl Ledger for DiskLedger {
    fn names(&self) -> io::Result<Vec<ProcessName>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |e: fs::DirEntry| e.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok();
        Ok(entries.filter_map(|e| e.ok().and_then(name)).collect())
    }

    fn load(&self, name: &ProcessName) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn save(&self, name: &ProcessName, record: &[u8]) -> io::Result<()> {
        files::ensure_dir(&self.dir, 0o700)?;
        files::write_atomic(&self.path(name), record, 0o600)
    }

    fn remove(&self, name: &ProcessName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_and_what_is_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = DiskLedger::below(dir.path());
        let name: ProcessName = "nightly".parse().unwrap();
        assert_eq!(ledger.names().unwrap(), []);
        assert_eq!(ledger.load(&name).unwrap(), None);
        ledger.save(&name, b"{}").unwrap();
        assert_eq!(ledger.load(&name).unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(ledger.names().unwrap(), std::slice::from_ref(&name));
        ledger.remove(&name).unwrap();
        ledger.remove(&name).unwrap();
        assert_eq!(ledger.load(&name).unwrap(), None);
    }
}
