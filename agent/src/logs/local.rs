//! `sink: local`: newline-delimited JSON files instead of a service, each line exactly once.
//!
//! `local/<group, with _ for />.ndjson` holds `{"ts","group","stream","message"}` lines. The last
//! line of each batch also says how far its lane got: `"upto":[lane,position]`. So the file itself
//! is the record of what was delivered: after the death of the agent, at any instant, lines behind
//! the last such mark are cut away and sent again, and the marks tell the shipper where to go on.
//! `local/state` remembers the marks up to a length of each file, so that only the end is read.
//!
//! At 64 MiB a file becomes `.1`, `.1` becomes `.2`, and so on up to `.5`; older lines are gone.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    batch::Batch,
    checkpoint::read_all,
    ports::{CloudLogs, Delivered, Failure, NewGroups, Outcome, SpoolFile, SpoolFs},
};

/// A file is put aside when it has this many bytes.
pub const LOCAL_FILE_BYTES: u64 = 64 << 20;
/// So many files are kept beside the one that is written.
pub const LOCAL_FILES: u32 = 5;
/// Lanes remembered in the state; of more, those not written to for longest are forgotten, which
/// the checkpoint covers long since.
const MAX_LANES: usize = 4096;
const STATE: &str = "state";
const MARK: &[u8] = b",\"upto\":[";

/// The sink.
#[derive(Clone, Debug)]
pub struct LocalSink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fs: Arc<dyn SpoolFs>,
    dir: PathBuf,
    outputs: Mutex<Outputs>,
}

#[derive(Debug, Default)]
struct Outputs {
    open: BTreeMap<String, Output>,
    lanes: HashMap<u64, Lane>,
    puts: u64,
    dirty: bool,
}

#[derive(Clone, Debug)]
struct Output {
    file: Arc<dyn SpoolFile>,
    len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    upto: u64,
    last_put: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    v: u32,
    /// Length of each file for which `lanes` holds all marks.
    files: BTreeMap<String, u64>,
    lanes: Vec<(u64, u64)>,
}

impl LocalSink {
    /// The sink that writes below `dir`. Files are looked at when it is first asked what it has.
    #[must_use]
    pub fn new(fs: Arc<dyn SpoolFs>, dir: PathBuf) -> Self {
        Self(Arc::new(Inner { fs, dir, outputs: Mutex::default() }))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

impl CloudLogs for LocalSink {
    async fn put(&self, group: &str, stream: &str, batch: &Arc<Batch>) -> Outcome {
        let name = format!("{}.ndjson", group.replace('/', "_"));
        let (group, stream, batch) = (group.to_owned(), stream.to_owned(), batch.clone());
        let written = self.blocking(move |inner| {
            let lines = render(&group, &stream, &batch)?;
            inner.append(&name, &lines, batch.lane(), batch.upto())
        });
        match written.await {
            Ok(()) => Outcome::Accepted,
            Err(e) => Outcome::Failed(Failure::Unavailable(format!("write the local file: {e}"))),
        }
    }

    async fn ensure_stream(&self, _: &str, _: &str, _: &NewGroups) -> Result<(), Failure> {
        Ok(())
    }

    async fn delivered(&self) -> io::Result<Vec<Delivered>> {
        self.blocking(Inner::recover).await
    }

    async fn settle(&self) -> io::Result<()> {
        self.blocking(Inner::settle).await
    }

    fn keeps_positions(&self) -> bool {
        true
    }
}

fn render(group: &str, stream: &str, batch: &Batch) -> serde_json::Result<Vec<u8>> {
    let middle = format!(
        "\",\"group\":{},\"stream\":{},\"message\":",
        serde_json::to_string(group)?,
        serde_json::to_string(stream)?
    );
    let mut out = Vec::with_capacity(batch.json().len() + batch.len() * (middle.len() + 24));
    let mut stamp = (None, String::new());
    for (at, text) in batch.events() {
        if stamp.0 != Some(at) {
            stamp = (Some(at), format!("{{\"ts\":\"{at}"));
        }
        out.extend_from_slice(stamp.1.as_bytes());
        out.extend_from_slice(middle.as_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(b"}\n");
    }
    if out.ends_with(b"}\n") {
        out.truncate(out.len() - 2);
        out.extend_from_slice(MARK);
        // Writing to a Vec cannot fail.
        writeln!(out, "{},{}]}}", batch.lane(), batch.upto()).unwrap_or_default();
    }
    Ok(out)
}

/// The mark at the end of a line.
fn parse_mark(line: &[u8]) -> Option<(u64, u64)> {
    let at = memchr::memmem::rfind(line, MARK)?;
    let numbers = line.get(at + MARK.len()..)?.strip_suffix(b"]}")?;
    let (lane, upto) = std::str::from_utf8(numbers).ok()?.split_once(',')?;
    Some((lane.parse().ok()?, upto.parse().ok()?))
}

impl Inner {
    fn append(&self, name: &str, lines: &[u8], lane: u64, upto: u64) -> io::Result<()> {
        let mut outputs = self.lock();
        let full = outputs.open.get(name).is_some_and(|o| o.len >= LOCAL_FILE_BYTES);
        if full {
            self.rotate(name, &mut outputs)?;
        }
        if !outputs.open.contains_key(name) {
            let file = self.fs.open(&self.dir.join(name))?;
            let len = file.len()?;
            outputs.open.insert(name.to_owned(), Output { file, len });
        }
        let Some(out) = outputs.open.get_mut(name) else { return Ok(()) };
        if let Err(e) = out.file.write_all_at(lines, out.len) {
            out.file.set_len(out.len).unwrap_or_default();
            return Err(e);
        }
        out.len += lines.len() as u64;
        outputs.puts += 1;
        let last_put = outputs.puts;
        outputs.lanes.insert(lane, Lane { upto, last_put });
        outputs.dirty = true;
        drop(outputs);
        Ok(())
    }

    /// Puts a full file aside. The state is written before anything goes to the new one, so that a
    /// file shorter than the state says can only mean that this was interrupted.
    fn rotate(&self, name: &str, outputs: &mut Outputs) -> io::Result<()> {
        if let Some(out) = outputs.open.get(name) {
            out.file.sync()?;
        }
        let path = |n: u32| {
            let suffix = if n == 0 { String::new() } else { format!(".{n}") };
            self.dir.join(format!("{name}{suffix}"))
        };
        let names = self.fs.list(&self.dir)?;
        for n in (0..LOCAL_FILES).rev() {
            let from = path(n);
            if names.iter().any(|have| from.file_name().is_some_and(|f| f == have.as_str())) {
                self.fs.rename(&from, &path(n + 1))?;
            }
        }
        self.fs.sync_dir(&self.dir)?;
        outputs.open.remove(name);
        let file = self.fs.open(&path(0))?;
        outputs.open.insert(name.to_owned(), Output { file, len: 0 });
        self.save(&outputs.state())
    }

    fn settle(&self) -> io::Result<()> {
        let (files, state) = {
            let mut outputs = self.lock();
            if !std::mem::take(&mut outputs.dirty) {
                return Ok(());
            }
            outputs.forget();
            let files: Vec<_> = outputs.open.values().map(|o| o.file.clone()).collect();
            (files, outputs.state())
        };
        let done = (|| {
            for f in files {
                f.sync()?;
            }
            self.save(&state)
        })();
        if done.is_err() {
            self.lock().dirty = true;
        }
        done
    }

    fn save(&self, state: &State) -> io::Result<()> {
        let new = self.dir.join(format!("{STATE}.new"));
        let file = self.fs.open(&new)?;
        file.set_len(0)?;
        file.write_all_at(&serde_json::to_vec(state).map_err(io::Error::other)?, 0)?;
        file.sync()?;
        self.fs.rename(&new, &self.dir.join(STATE))?;
        self.fs.sync_dir(&self.dir)
    }

    /// Reads the marks behind what the state remembers and cuts what has none.
    fn recover(&self) -> io::Result<Vec<Delivered>> {
        let names = self.fs.list(&self.dir)?;
        let mut state = State::default();
        if names.iter().any(|n| n == STATE) {
            let bytes = read_all(self.fs.open(&self.dir.join(STATE))?.as_ref())?;
            // Without it, all marks are read again: that takes longer and gives the same.
            state = serde_json::from_slice(&bytes).unwrap_or_default();
        }
        let mut lanes: HashMap<u64, u64> = state.lanes.iter().copied().collect();
        let mut open = BTreeMap::new();
        for name in names.iter().filter(|n| n.ends_with(".ndjson")) {
            let file = self.fs.open(&self.dir.join(name))?;
            let (known, len) = (state.files.get(name).copied(), file.len()?);
            let mut from = known.unwrap_or(0);
            if from > len || known.is_none() {
                // Put aside since, or never known: the marks before are in the file before.
                let aside = format!("{name}.1");
                if names.contains(&aside) {
                    let aside = self.fs.open(&self.dir.join(aside))?;
                    marks(aside.as_ref(), from, &mut lanes)?;
                }
                from = 0;
            }
            let end = marks(file.as_ref(), from, &mut lanes)?;
            if end < len {
                file.set_len(end)?;
            }
            open.insert(name.clone(), Output { file, len: end });
        }
        let mut outputs = self.lock();
        outputs.open = open;
        outputs.lanes =
            lanes.iter().map(|(id, upto)| (*id, Lane { upto: *upto, last_put: 0 })).collect();
        outputs.dirty = true;
        drop(outputs);
        Ok(lanes.into_iter().map(|(lane, upto)| Delivered { lane, upto }).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Outputs> {
        // Lengths move on only after the write, so a panic in between leaves them true.
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outputs {
    fn state(&self) -> State {
        State {
            v: 1,
            files: self.open.iter().map(|(name, o)| (name.clone(), o.len)).collect(),
            lanes: self.lanes.iter().map(|(id, lane)| (*id, lane.upto)).collect(),
        }
    }

    fn forget(&mut self) {
        if self.lanes.len() > MAX_LANES {
            let mut puts: Vec<u64> = self.lanes.values().map(|l| l.last_put).collect();
            puts.sort_unstable();
            let oldest = puts.get(puts.len() / 2).copied().unwrap_or(0);
            self.lanes.retain(|_, l| l.last_put >= oldest);
        }
    }
}

/// Collects the marks from `from` on; gives the end of the last line that has one.
fn marks(file: &dyn SpoolFile, from: u64, lanes: &mut HashMap<u64, u64>) -> io::Result<u64> {
    const BLOCK: usize = 1 << 20;
    let (mut end, mut base, mut buf) = (from, from, Vec::new());
    loop {
        let have = buf.len();
        buf.resize(have + BLOCK, 0);
        let n = file.read_at(&mut buf[have..], base + have as u64)?;
        buf.truncate(have + n);
        if n == 0 {
            return Ok(end);
        }
        let mut done = 0;
        for newline in memchr::memchr_iter(b'\n', &buf) {
            if let Some((lane, upto)) = buf.get(done..newline).and_then(parse_mark) {
                let known = lanes.entry(lane).or_default();
                *known = upto.max(*known);
                end = base + newline as u64 + 1;
            }
            done = newline + 1;
        }
        buf.drain(..done);
        base += done as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, logs::testutil::MemFs};

    fn batch(lane: u64, lines: &[&str], upto: u64) -> Arc<Batch> {
        let mut b = Batch::new(lane, 0);
        for line in lines {
            b.push(Timestamp::from_secs(1), line, upto).unwrap();
        }
        Arc::new(b)
    }

    fn sink(fs: &MemFs) -> LocalSink {
        LocalSink::new(Arc::new(fs.clone()), "/l".into())
    }

    fn content(fs: &MemFs) -> String {
        let file = fs.open(std::path::Path::new("/l/_g_web.ndjson")).unwrap();
        String::from_utf8(read_all(file.as_ref()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn lines_are_json_and_the_last_of_a_batch_has_the_mark() {
        let fs = MemFs::default();
        let text = ",\"upto\":[9,9]}";
        let put = sink(&fs).put("/g/web", "i/\"web\"", &batch(3, &[text, "two"], 7)).await;
        assert_eq!(put, Outcome::Accepted);
        let lines: Vec<serde_json::Value> =
            content(&fs).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["message"], text);
        assert_eq!(
            (&lines[0]["group"], &lines[0]["stream"]),
            (&"/g/web".into(), &"i/\"web\"".into())
        );
        assert_eq!(lines[0]["ts"], "1970-01-01T00:00:01.000Z");
        assert_eq!((lines[0].get("upto"), &lines[1]["upto"]), (None, &serde_json::json!([3, 7])));
    }

    #[tokio::test]
    async fn wherever_the_writing_stops_each_line_is_there_once_in_the_end() {
        let whole = render("/g/web", "s", &batch(1, &["c", "d"], 4)).unwrap();
        for cut in 0..=whole.len() {
            let fs = MemFs::default();
            let first = sink(&fs);
            first.put("/g/web", "s", &batch(1, &["a", "b"], 2)).await;
            if cut % 2 == 0 {
                first.settle().await.unwrap();
            }
            let file = fs.open(std::path::Path::new("/l/_g_web.ndjson")).unwrap();
            file.write_all_at(&whole[..cut], file.len().unwrap()).unwrap();
            let again = sink(&fs);
            let delivered = again.delivered().await.unwrap();
            let upto = if cut == whole.len() { 4 } else { 2 };
            assert_eq!(delivered, [Delivered { lane: 1, upto }], "cut at {cut}");
            if upto == 2 {
                again.put("/g/web", "s", &batch(1, &["c", "d"], 4)).await;
            }
            assert_eq!(content(&fs).matches("\"message\"").count(), 4, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_its_marks_are_not_forgotten() {
        let fs = MemFs::default();
        let long = "x".repeat(1_000_000);
        let first = sink(&fs);
        let puts = LOCAL_FILE_BYTES / 1_000_000 + 3;
        for i in 1..=puts {
            first.put("/g/web", "s", &batch(i % 2 + 1, &[&long], i)).await;
        }
        assert!(fs.paths().iter().any(|p| p.ends_with("_g_web.ndjson.1")));
        let mut delivered = sink(&fs).delivered().await.unwrap();
        delivered.sort_by_key(|d| d.upto);
        let upto: Vec<u64> = delivered.iter().map(|d| d.upto).collect();
        assert_eq!(upto, [puts - 1, puts]);
    }
}
