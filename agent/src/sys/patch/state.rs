//! Small documents under `STATE_DIR/patch`, and files for one command.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::super::files;
use crate::patch::{HostError, lists::Fetches};

/// Largest document that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a file that may be absent.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if meta.len() > MAX_BYTES => {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        Ok(_) | Err(_) => {}
    }
    fs::read(path).map(Some)
}

/// Writes a file so that it survives a power cut, making its directory where needed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        files::ensure_dir(dir, 0o700)?;
    }
    files::write_atomic(path, bytes, 0o600)
}

/// What is remembered of fetches; one that cannot be read says that nothing was ever fetched.
pub(super) fn fetches(dir: &Path) -> Fetches {
    let bytes = read(&dir.join("fetches.json")).ok().flatten();
    bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
}

/// Remembers fetches.
pub(super) fn remember(dir: &Path, fetches: &Fetches) -> Result<(), HostError> {
    let path = dir.join("fetches.json");
    let bytes = serde_json::to_vec(fetches).map_err(|e| HostError::because("write fetches", e))?;
    write(&path, &bytes).map_err(|e| HostError::because(format!("write {}", path.display()), e))
}

/// A file that is there for one command of this process.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(dir: &Path, name: &str, text: &str) -> Result<Self, HostError> {
        let path = dir.join(format!("{name}.{}", std::process::id()));
        let failed = |e| HostError::because(format!("write {}", path.display()), e);
        files::ensure_dir(dir, 0o700).map_err(failed)?;
        files::write_atomic_volatile(&path, text.as_bytes(), 0o644).map_err(failed)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it does no harm: the next of this name replaces it.
        fs::remove_file(&self.0).unwrap_or_default();
    }
}
