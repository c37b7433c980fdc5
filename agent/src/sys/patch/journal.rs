//! Runs on disk: `run.json` for the one that goes on or was the last, `history.ndjson` for those that
//! are over.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::state;
use crate::patch::{HISTORY, Journal, Record};

/// The files in a directory.
#[derive(Clone, Debug)]
pub struct DiskJournal {
    dir: PathBuf,
}

impl DiskJournal {
    /// In `dir`, which is made when first written to.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn run(&self) -> PathBuf {
        self.dir.join("run.json")
    }

    fn past(&self) -> PathBuf {
        self.dir.join("history.ndjson")
    }
}

impl Journal for DiskJournal {
    fn load(&self) -> io::Result<Option<Record>> {
        let Some(bytes) = state::read(&self.run())? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        state::write(&self.run(), &serde_json::to_vec(record)?)
    }

    fn close(&mut self, record: &Record) -> io::Result<()> {
        // A history that cannot be read must not keep runs from ever ending.
        let mut past = self.history(HISTORY).unwrap_or_else(|e| {
            tracing::warn!(error = %e, "the history of patch runs cannot be read and begins anew");
            Vec::new()
        });
        // Closed twice if the power went between the two files.
        past.retain(|r| r.id != record.id);
        past.push(record.clone());
        let mut text = Vec::new();
        for r in past.iter().skip(past.len().saturating_sub(HISTORY)) {
            serde_json::to_writer(&mut text, r)?;
            text.push(b'\n');
        }
        state::write(&self.past(), &text)?;
        self.save(record)
    }

    fn history(&self, n: usize) -> io::Result<Vec<Record>> {
        let bytes = state::read(&self.past())?.unwrap_or_default();
        let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        // A line of a later version that cannot be read hides itself and not the others.
        let all: Vec<Record> = lines.filter_map(|l| serde_json::from_slice(l).ok()).collect();
        Ok(all.iter().skip(all.len().saturating_sub(n)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, patch::Trigger};

    #[test]
    fn a_run_is_read_back_and_the_history_is_bounded_and_has_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut j = DiskJournal::new(&dir.path().join("patch"));
        assert_eq!(j.load().unwrap(), None);
        let run = |i| Record::new(Trigger::Window, "", Timestamp::from_secs(i), None);
        // As many as fit, in one go, with a line that nobody can read.
        let kept = i64::try_from(HISTORY).unwrap();
        let lines = (0..kept).map(|i| serde_json::to_string(&run(i)).unwrap() + "\n");
        let text = lines.collect::<String>() + "{\"v\":9}\n";
        state::write(&j.past(), text.as_bytes()).unwrap();
        for i in [kept, kept, kept + 1] {
            j.save(&run(i)).unwrap();
            j.close(&run(i)).unwrap();
            assert_eq!(j.load().unwrap(), Some(run(i)));
        }
        let past = j.history(usize::MAX).unwrap();
        assert_eq!((past.len(), past[0].started), (HISTORY, Timestamp::from_secs(2)));
        assert_eq!(j.history(2).unwrap().len(), 2);
    }
}
