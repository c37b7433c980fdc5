//! How far everything was delivered, on disk.
//!
//! `checkpoint` is written anew at most once a second and at the end (new name, sync, rename), and
//! the one before is kept: a damaged file costs a second of duplicates and not the whole history.
//! `acks` notes each acknowledgement as it comes, without sync, so that the death of the agent
//! repeats only what was on its way. Positions of a lane only rise and a lane's number is never used
//! again, so a note can be old but not wrong.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    local::LocalSink,
    ports::{SpoolFile, SpoolFs},
    source::Fingerprint,
    spool::LaneKey,
};

const FILE: &str = "checkpoint";
const PREVIOUS: &str = "checkpoint.old";
const NEW: &str = "checkpoint.new";
const ACKS: &str = "acks";
/// The notes are begun anew beyond this.
const MAX_ACKS: u64 = 64 << 10;
/// lane, position, CRC-32 of both.
const ACK_BYTES: usize = 20;

/// What is known about all lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Version of this form.
    pub(super) v: u32,
    /// When it was made, in milliseconds since the epoch.
    pub(super) saved_at: i64,
    /// The number of the next new lane.
    pub(super) next_lane: u64,
    pub(super) files: Vec<FileMark>,
    pub(super) spools: Vec<SpoolMark>,
}

/// A followed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileMark {
    pub(super) lane: u64,
    pub(super) path: PathBuf,
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) head: Fingerprint,
    pub(super) acked: u64,
    /// Hash of the bytes before `acked`, unless it stands in the middle of a request.
    pub(super) tail: Option<u64>,
    pub(super) finished: bool,
}

/// A process's spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SpoolMark {
    pub(super) lane: u64,
    pub(super) program: String,
    pub(super) process: String,
    pub(super) acked: u64,
}

impl SpoolMark {
    pub(super) fn is_of(&self, key: &LaneKey) -> bool {
        self.program == key.program.as_str() && self.process == key.process.as_str()
    }
}

/// The files.
#[derive(Debug)]
pub(super) struct Store {
    fs: Arc<dyn SpoolFs>,
    dir: PathBuf,
    acks: Arc<dyn SpoolFile>,
    acks_len: u64,
    places: u64,
    last: Arc<Mutex<u64>>,
}

impl Store {
    /// Reads the newest good checkpoint and the notes after it. The text says what was wrong with
    /// the files, if anything was.
    pub(super) fn open(
        fs: Arc<dyn SpoolFs>,
        dir: PathBuf,
    ) -> io::Result<(Self, Checkpoint, Option<String>)> {
        let acks = fs.open(&dir.join(ACKS))?;
        let names = fs.list(&dir)?;
        let (mut found, mut problem) = (None, None);
        for name in [FILE, PREVIOUS] {
            if !names.iter().any(|n| n == name) {
                continue;
            }
            match parse(&read_all(fs.open(&dir.join(name))?.as_ref())?) {
                Ok(c) => {
                    found = Some(c);
                    break;
                }
                Err(why) => {
                    problem = Some(format!("{} is damaged: {why}", dir.join(name).display()));
                }
            }
        }
        let notes = read_all(acks.as_ref())?;
        let mut store = Self { fs, dir, acks, acks_len: 0, places: 0, last: Arc::default() };
        let Some(mut checkpoint) = found else {
            // Lanes are numbered from 1 again, so old notes would be about others.
            store.acks.set_len(0)?;
            let fresh = Checkpoint { v: 1, next_lane: 1, ..Checkpoint::default() };
            return Ok((store, fresh, problem));
        };
        let mut good = 0;
        let mut acked: HashMap<u64, u64> = HashMap::new();
        for record in notes.chunks_exact(ACK_BYTES) {
            let Some((lane, upto)) = parse_ack(record) else { break };
            let known = acked.entry(lane).or_default();
            *known = upto.max(*known);
            good += ACK_BYTES as u64;
        }
        store.acks.set_len(good)?;
        store.acks_len = good;
        // The notes may tell of lanes that an older checkpoint knows nothing of. A number is never used
        // again: the old note would make the new lane skip lines.
        let above = acked.keys().max().map_or(0, |lane| lane.saturating_add(1));
        checkpoint.next_lane = checkpoint.next_lane.max(above);
        checkpoint.raise(&acked);
        Ok((store, checkpoint, problem))
    }

    /// Notes that a lane was delivered up to here.
    pub(super) fn note(&mut self, lane: u64, upto: u64) -> io::Result<()> {
        self.acks.write_all_at(&ack(lane, upto), self.acks_len)?;
        self.acks_len += ACK_BYTES as u64;
        Ok(())
    }

    /// Begins the notes anew, if they are long, with these positions.
    pub(super) fn compact(&mut self, all: impl Iterator<Item = (u64, u64)>) -> io::Result<()> {
        if self.acks_len < MAX_ACKS {
            return Ok(());
        }
        self.acks.set_len(0)?;
        let bytes: Vec<u8> = all.flat_map(|(lane, upto)| ack(lane, upto)).collect();
        self.acks_len = 0;
        self.acks.write_all_at(&bytes, 0)?;
        self.acks_len = bytes.len() as u64;
        Ok(())
    }

    /// Where the next checkpoint goes. One that is written late does not replace a later one.
    pub(super) fn place(&mut self) -> Place {
        self.places += 1;
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        Place { fs, dir, number: self.places, last: self.last.clone() }
    }
}

/// Where one checkpoint goes.
#[derive(Debug)]
pub(super) struct Place {
    fs: Arc<dyn SpoolFs>,
    dir: PathBuf,
    number: u64,
    /// Number of the last one written; held while one is.
    last: Arc<Mutex<u64>>,
}

impl Place {
    /// Writes a checkpoint so that it, or the one before, is whole whatever happens.
    pub(super) fn save(&self, c: &Checkpoint) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.number > *last {
            save(self.fs.as_ref(), &self.dir, c)?;
            *last = self.number;
        }
        drop(last);
        Ok(())
    }

    pub(super) fn local_sink(self) -> LocalSink {
        LocalSink::new(self.fs, self.dir.join("local"))
    }
}

impl Checkpoint {
    /// Moves lanes forward to where they are known to be. The bytes before a new position are not
    /// known.
    pub(super) fn raise(&mut self, acked: &HashMap<u64, u64>) {
        for f in &mut self.files {
            if let Some(upto) = acked.get(&f.lane)
                && *upto > f.acked
            {
                (f.acked, f.tail) = (*upto, None);
            }
        }
        for s in &mut self.spools {
            s.acked = acked.get(&s.lane).map_or(s.acked, |upto| s.acked.max(*upto));
        }
    }
}

fn save(fs: &dyn SpoolFs, dir: &std::path::Path, c: &Checkpoint) -> io::Result<()> {
    let json = serde_json::to_vec(c).map_err(io::Error::other)?;
    let mut bytes = format!("palisade-checkpoint {:08x}\n", crc32fast::hash(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    let file = fs.open(&dir.join(NEW))?;
    file.set_len(0)?;
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    if fs.list(dir)?.iter().any(|n| n == FILE) {
        fs.rename(&dir.join(FILE), &dir.join(PREVIOUS))?;
    }
    fs.rename(&dir.join(NEW), &dir.join(FILE))?;
    fs.sync_dir(dir)
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let newline = bytes.iter().position(|b| *b == b'\n').ok_or("it has no first line")?;
    let (head, json) = bytes.split_at(newline);
    let json = json.get(1..).unwrap_or_default();
    let crc = std::str::from_utf8(head)
        .ok()
        .and_then(|h| h.strip_prefix("palisade-checkpoint "))
        .and_then(|h| u32::from_str_radix(h, 16).ok())
        .ok_or("its first line is not that of a checkpoint")?;
    if crc != crc32fast::hash(json) {
        return Err("its checksum is wrong".to_owned());
    }
    let c: Checkpoint = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if c.v == 1 { Ok(c) } else { Err(format!("its version is {} and not 1", c.v)) }
}

fn ack(lane: u64, upto: u64) -> [u8; ACK_BYTES] {
    let mut out = [0; ACK_BYTES];
    out[..8].copy_from_slice(&lane.to_le_bytes());
    out[8..16].copy_from_slice(&upto.to_le_bytes());
    let crc = crc32fast::hash(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn parse_ack(record: &[u8]) -> Option<(u64, u64)> {
    let (lane, rest) = record.split_first_chunk::<8>()?;
    let (upto, crc) = rest.split_first_chunk::<8>()?;
    let good = crc32fast::hash(record.get(..16)?) == u32::from_le_bytes(*crc.first_chunk()?);
    good.then(|| (u64::from_le_bytes(*lane), u64::from_le_bytes(*upto)))
}

/// A whole file of ours.
pub(super) fn read_all(file: &dyn SpoolFile) -> io::Result<Vec<u8>> {
    let mut out = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    let mut have = 0;
    while have < out.len() {
        let n = file.read_at(&mut out[have..], have as u64)?;
        if n == 0 {
            break;
        }
        have += n;
    }
    out.truncate(have);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::logs::testutil::MemFs;

    fn mark(lane: u64, acked: u64) -> SpoolMark {
        SpoolMark { lane, program: "web".into(), process: "web".into(), acked }
    }

    fn checkpoint(acked: u64) -> Checkpoint {
        Checkpoint { v: 1, next_lane: 2, spools: vec![mark(1, acked)], ..Checkpoint::default() }
    }

    fn open(fs: &MemFs) -> (Store, Checkpoint, Option<String>) {
        Store::open(Arc::new(fs.clone()), "/c".into()).unwrap()
    }

    #[test]
    fn a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so() {
        let fs = MemFs::default();
        for acked in [5, 9] {
            save(&fs, Path::new("/c"), &checkpoint(acked)).unwrap();
        }
        assert_eq!(open(&fs).1, checkpoint(9));
        fs.flip(Path::new("/c/checkpoint"), 60);
        let (_, c, problem) = open(&fs);
        assert_eq!(c, checkpoint(5));
        assert!(problem.unwrap().contains("checksum"));
        fs.flip(Path::new("/c/checkpoint.old"), 3);
        assert_eq!(open(&fs).1.next_lane, 1);
    }

    #[test]
    fn acknowledgements_after_the_checkpoint_count_and_a_torn_one_does_not() {
        let fs = MemFs::default();
        save(&fs, Path::new("/c"), &checkpoint(5)).unwrap();
        let (mut store, ..) = open(&fs);
        for upto in [7, 12] {
            store.note(1, upto).unwrap();
        }
        assert_eq!(open(&fs).1.spools[0].acked, 12);
        fs.flip(Path::new("/c/acks"), ACK_BYTES + 9);
        assert_eq!(open(&fs).1.spools[0].acked, 7);
    }

    #[test]
    fn a_checkpoint_that_comes_late_does_not_replace_a_later_one() {
        let fs = MemFs::default();
        let (mut store, ..) = open(&fs);
        let (early, late) = (store.place(), store.place());
        late.save(&checkpoint(9)).unwrap();
        early.save(&checkpoint(5)).unwrap();
        assert_eq!(open(&fs).1, checkpoint(9));
    }

    #[test]
    fn a_saved_checkpoint_survives_a_power_cut() {
        let fs = MemFs::default();
        save(&fs, Path::new("/c"), &checkpoint(5)).unwrap();
        save(&fs, Path::new("/c"), &checkpoint(6)).unwrap();
        assert_eq!(open(&fs.after_power_cut(0)).1, checkpoint(6));
    }
}
