//! Events that the service will never take: kept beside, counted, never sent again.
//!
//! The file is `dead-letter.ndjson`; at 16 MiB it becomes `dead-letter.ndjson.1` and the one before
//! is gone.

use std::{io, path::PathBuf, sync::Arc};

use super::{batch::Batch, ports::SpoolFs};

const NAME: &str = "dead-letter.ndjson";
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct DeadLetters {
    fs: Arc<dyn SpoolFs>,
    dir: PathBuf,
}

impl DeadLetters {
    pub(super) fn new(fs: Arc<dyn SpoolFs>, dir: PathBuf) -> Self {
        Self { fs, dir }
    }

    /// Writes some events of a batch, with the reason.
    pub(super) fn bury(
        &self,
        group: &str,
        stream: &str,
        reason: &str,
        batch: &Batch,
        indices: &[usize],
    ) -> io::Result<()> {
        let mut out = Vec::new();
        for (_, (at, text)) in
            batch.events().enumerate().filter(|(i, _)| indices.binary_search(i).is_ok())
        {
            let line = serde_json::json!({
                "ts": at.to_string(), "group": group, "stream": stream, "reason": reason,
                "message": serde_json::from_slice::<String>(text).map_err(io::Error::other)?,
            });
            serde_json::to_writer(&mut out, &line).map_err(io::Error::other)?;
            out.push(b'\n');
        }
        let path = self.dir.join(NAME);
        let mut file = self.fs.open(&path)?;
        if file.len()? > MAX_BYTES {
            self.fs.rename(&path, &self.dir.join(format!("{NAME}.1")))?;
            file = self.fs.open(&path)?;
        }
        let end = file.len()?;
        if let Err(e) = file.write_all_at(&out, end) {
            // Half a line would spoil the next one; the first error is the one to tell.
            file.set_len(end).unwrap_or_default();
            return Err(e);
        }
        file.sync()
    }
}
