//! Events that the service will never take: kept beside, counted, never sent again.
//!
//! The file is `dead-letter.ndjson`; at 16 MiB it becomes `dead-letter.ndjson.1`, and the one before
//! is given up, which is told with the number of its events.

use std::{io, path::PathBuf, sync::Arc};

use super::{
    batch::Batch,
    ports::{SpoolFile, SpoolFs},
};

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

    /// Writes some events of a batch, with the reason. Says how many older ones made room for them.
    pub(super) fn bury(
        &self,
        group: &str,
        stream: &str,
        reason: &str,
        batch: &Batch,
        indices: &[usize],
    ) -> io::Result<u64> {
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
        let mut given_up = 0;
        if file.len()? > MAX_BYTES {
            let older = self.dir.join(format!("{NAME}.1"));
            given_up = lines(&*self.fs.open(&older)?)?;
            self.fs.rename(&path, &older)?;
            file = self.fs.open(&path)?;
        }
        let end = file.len()?;
        if let Err(e) = file.write_all_at(&out, end) {
            // Half a line would spoil the next one; the first error is the one to tell.
            file.set_len(end).unwrap_or_default();
            return Err(e);
        }
        file.sync()?;
        if end == 0 {
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(given_up)
    }
}

fn lines(file: &dyn SpoolFile) -> io::Result<u64> {
    let (mut at, mut found) = (0, 0);
    let mut buf = vec![0; 64 << 10];
    loop {
        let n = file.read_at(&mut buf, at)?;
        if n == 0 {
            return Ok(found);
        }
        found += buf[..n].iter().filter(|b| **b == b'\n').count() as u64;
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{clock::Timestamp, logs::testutil::MemFs};

    #[test]
    fn what_makes_room_for_new_dead_letters_is_counted_and_the_rest_outlives_a_power_cut() {
        let fs = MemFs::default();
        let dead = DeadLetters::new(Arc::new(fs.clone()), PathBuf::from("/d"));
        let mut batch = Batch::new(1, 0);
        for _ in 0..4 {
            batch.push(Timestamp::from_millis(1), &"x".repeat(200_000), 1).unwrap();
        }
        let bury = || dead.bury("/g", "s", "poison", &batch, &[0, 1, 2, 3]).unwrap();
        let counted = |fs: &MemFs| {
            let of = |name: &str| lines(&*fs.open(&Path::new("/d").join(name)).unwrap()).unwrap();
            of(NAME) + of("dead-letter.ndjson.1")
        };
        // A file takes 84, and there are three of them.
        let given_up: u64 = (0..63).map(|_| bury()).sum();
        assert_eq!(given_up, 84);
        assert_eq!(counted(&fs), 2 * 84);
        assert_eq!(counted(&fs.after_power_cut(0)), 2 * 84);
    }
}
