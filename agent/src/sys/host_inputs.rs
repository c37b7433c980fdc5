//! What processes of this host read, and the notes that one agent leaves to the next.

use std::{fs, io, path::PathBuf};

use palisade_types::ProcessName;

use super::{files, host::LinuxHost, input::Input};
use crate::supervise::{Inputs, Notes, ProcessSpec};

impl LinuxHost {
    pub(super) fn input_path(&self, name: &ProcessName) -> PathBuf {
        self.run_dir.join("output").join(format!("{name}.stdin"))
    }

    fn note_path(&self, key: &str) -> PathBuf {
        self.run_dir.join("events").join(key)
    }
}

impl Inputs for LinuxHost {
    type Input = Input;

    fn new_input(&self, name: &ProcessName, spec: &ProcessSpec) -> io::Result<Input> {
        Input::make(&self.input_path(name), Self::owner_of(spec))
    }

    fn old_input(&self, name: &ProcessName) -> io::Result<Input> {
        Input::open(&self.input_path(name))
    }
}

impl Notes for LinuxHost {
    fn note(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.note_path(key);
        if let Some(dir) = path.parent() {
            files::ensure_dir(dir, 0o700)?;
        }
        files::write_atomic_volatile(&path, bytes, 0o600)
    }

    fn noted(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.note_path(key)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn forget(&self, key: &str) {
        match fs::remove_file(self.note_path(key)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(key, error = %e, "note not removed");
            }
            _ => {}
        }
    }
}
