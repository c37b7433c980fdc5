//! How far everything was delivered, on disk.
//!
//! `checkpoint` is written anew at most once a second and at the end (other name, sync, rename), and
//! the one before is kept: a damaged file costs a second of duplicates and not the whole history. The
//! new one is written over the blocks of the one before the last: a full disk is emptied only by what
//! a checkpoint covers, so a checkpoint must not need room.
//! `acks` notes each acknowledgement as it comes, with the hash of the bytes before it, without sync, so
//! that the death of the agent repeats only what was on its way. A power cut may take these notes, and
//! then what was acknowledged since the last checkpoint comes again: at most about a second of it. Positions of a lane only rise and a lane's number is never used
//! again, so a note can be old but not wrong.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    journal::JournalPlace,
    local::LocalSink,
    ports::{SpoolFile, SpoolFs},
    source::Fingerprint,
    spool::LaneKey,
};

/// The first line is this and the checksum of the rest.
const MAGIC: &str = "palisade-checkpoint ";
const HEAD: usize = MAGIC.len() + 8 + 1;
const FILE: &str = "checkpoint";
const PREVIOUS: &str = "checkpoint.old";
const NEW: &str = "checkpoint.new";
const ACKS: &str = "acks";
/// Checkpoints are filled up to a multiple of this, which lets them grow a little on a full disk.
const BLOCK: usize = 16 << 10;
/// The notes are begun anew beyond this.
const MAX_ACKS: u64 = 64 << 10;
/// lane, position, hash of what is before it or 0 if that is not known, CRC-32 of the three.
pub(super) const ACK_BYTES: usize = 28;

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
    /// Absent if no journal was ever followed.
    #[serde(default)]
    pub(super) journal: Option<JournalMark>,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JournalMark {
    /// Everything up to here is acknowledged.
    pub(super) done: JournalPlace,
    pub(super) lanes: Vec<JournalLaneMark>,
}

/// A unit of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JournalLaneMark {
    pub(super) lane: u64,
    pub(super) unit: String,
    /// The number of its last entry that was acknowledged, and the hash of that one's cursor. The entry
    /// may be ahead of what is done of the whole journal.
    pub(super) acked: u64,
    pub(super) tail: Option<u64>,
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
            let bytes = read_all(fs.open(&dir.join(name))?.as_ref())?;
            match parse(&bytes) {
                Err(_) if bytes.iter().all(|b| *b == 0) => {}
                Ok(c) => {
                    found = Some(c);
                    break;
                }
                Err(why) => {
                    problem = Some(format!("{} is damaged: {why}", dir.join(name).display()));
                }
            }
        }
        set_room_aside(fs.as_ref(), &dir, &names);
        let notes = read_all(acks.as_ref())?;
        let mut store = Self { fs, dir, acks, acks_len: 0, places: 0, last: Arc::default() };
        let Some(mut checkpoint) = found else {
            // Lanes are numbered from 1 again, so old notes would be about others.
            store.acks.set_len(0)?;
            let fresh = Checkpoint { v: 1, next_lane: 1, ..Checkpoint::default() };
            return Ok((store, fresh, problem));
        };
        let mut good = 0;
        let mut acked: HashMap<u64, (u64, Option<u64>)> = HashMap::new();
        for record in notes.chunks_exact(ACK_BYTES) {
            let Some((lane, upto, tail)) = parse_ack(record) else { break };
            let known = acked.entry(lane).or_default();
            if upto >= known.0 {
                *known = (upto, tail);
            }
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
    pub(super) fn note(&mut self, lane: u64, upto: u64, tail: Option<u64>) -> io::Result<()> {
        self.acks.write_all_at(&ack(lane, upto, tail), self.acks_len)?;
        self.acks_len += ACK_BYTES as u64;
        Ok(())
    }

    /// Begins the notes anew, if they are long, with the positions that are beyond the last checkpoint.
    pub(super) fn compact(
        &mut self,
        all: impl Iterator<Item = (u64, u64, Option<u64>)>,
    ) -> io::Result<()> {
        if self.acks_len < MAX_ACKS {
            return Ok(());
        }
        self.acks.set_len(0)?;
        let bytes: Vec<u8> = all.flat_map(|(lane, upto, tail)| ack(lane, upto, tail)).collect();
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
    /// How far each lane is.
    pub(super) fn positions(&self) -> HashMap<u64, u64> {
        let files = self.files.iter().map(|f| (f.lane, f.acked));
        let spools = self.spools.iter().map(|s| (s.lane, s.acked));
        let units = self.journal.iter().flat_map(|j| &j.lanes).map(|l| (l.lane, l.acked));
        files.chain(spools).chain(units).collect()
    }

    /// Moves lanes forward to where they are known to be, with the hash of what is before that, if that
    /// is known.
    pub(super) fn raise(&mut self, acked: &HashMap<u64, (u64, Option<u64>)>) {
        for f in &mut self.files {
            if let Some((upto, tail)) = acked.get(&f.lane)
                && *upto > f.acked
            {
                (f.acked, f.tail) = (*upto, *tail);
            }
        }
        for s in &mut self.spools {
            s.acked = acked.get(&s.lane).map_or(s.acked, |(upto, _)| s.acked.max(*upto));
        }
        for l in self.journal.iter_mut().flat_map(|j| &mut j.lanes) {
            if let Some((upto, tail)) = acked.get(&l.lane)
                && *upto > l.acked
            {
                (l.acked, l.tail) = (*upto, *tail);
            }
        }
    }
}

fn save(fs: &dyn SpoolFs, dir: &Path, c: &Checkpoint) -> io::Result<()> {
    let mut json = serde_json::to_vec(c).map_err(io::Error::other)?;
    json.resize((HEAD + json.len()).next_multiple_of(BLOCK) - HEAD, b' ');
    let mut bytes = format!("{MAGIC}{:08x}\n", crc32fast::hash(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    let names = fs.list(dir)?;
    let has = |name: &str| names.iter().any(|n| n == name);
    // A new one is there if the last try failed; its blocks are as good.
    if has(PREVIOUS) && !has(NEW) {
        fs.rename(&dir.join(PREVIOUS), &dir.join(NEW))?;
    }
    let file = fs.open(&dir.join(NEW))?;
    file.write_all_at(&bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync()?;
    if has(FILE) {
        fs.rename(&dir.join(FILE), &dir.join(PREVIOUS))?;
    }
    fs.rename(&dir.join(NEW), &dir.join(FILE))?;
    fs.sync_dir(dir)
}

/// Makes what the next checkpoints are written over, where there is nothing yet. Without the room for it
/// they are tried all the same.
fn set_room_aside(fs: &dyn SpoolFs, dir: &Path, names: &[String]) {
    let spare: &[&str] = match names.iter().any(|n| n == FILE) {
        true => &[PREVIOUS],
        false => &[PREVIOUS, NEW],
    };
    for name in spare.iter().filter(|name| !names.iter().any(|n| n == **name)) {
        let made = fs.open(&dir.join(name)).and_then(|file| file.write_all_at(&[0; BLOCK], 0));
        made.unwrap_or_default();
    }
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, String> {
    let newline = bytes.iter().position(|b| *b == b'\n').ok_or("it has no first line")?;
    let (head, json) = bytes.split_at(newline);
    let json = json.get(1..).unwrap_or_default();
    let crc = std::str::from_utf8(head)
        .ok()
        .and_then(|h| h.strip_prefix(MAGIC))
        .and_then(|h| u32::from_str_radix(h, 16).ok())
        .ok_or("its first line is not that of a checkpoint")?;
    if crc != crc32fast::hash(json) {
        return Err("its checksum is wrong".to_owned());
    }
    let c: Checkpoint = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if c.v == 1 { Ok(c) } else { Err(format!("its version is {} and not 1", c.v)) }
}

fn ack(lane: u64, upto: u64, tail: Option<u64>) -> [u8; ACK_BYTES] {
    let mut out = [0; ACK_BYTES];
    out[..8].copy_from_slice(&lane.to_le_bytes());
    out[8..16].copy_from_slice(&upto.to_le_bytes());
    out[16..24].copy_from_slice(&tail.unwrap_or(0).to_le_bytes());
    let crc = crc32fast::hash(&out[..24]);
    out[24..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn parse_ack(record: &[u8]) -> Option<(u64, u64, Option<u64>)> {
    let (lane, rest) = record.split_first_chunk::<8>()?;
    let (upto, rest) = rest.split_first_chunk::<8>()?;
    let (tail, crc) = rest.split_first_chunk::<8>()?;
    let good = crc32fast::hash(record.get(..24)?) == u32::from_le_bytes(*crc.first_chunk()?);
    let tail = Some(u64::from_le_bytes(*tail)).filter(|t| *t != 0);
    good.then(|| (u64::from_le_bytes(*lane), u64::from_le_bytes(*upto), tail))
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
            store.note(1, upto, None).unwrap();
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
    fn a_checkpoint_needs_no_room_on_a_full_disk() {
        let fs = MemFs::default();
        let (mut store, _, problem) = open(&fs);
        assert_eq!(problem, None);
        fs.set_room(Some(0));
        for acked in 1..5 {
            store.place().save(&checkpoint(acked)).unwrap();
            let (_, found, problem) = open(&fs);
            assert_eq!((found, problem), (checkpoint(acked), None));
        }
        // One that does not fit leaves the last one, and does not stop the next.
        let spools = (1..2000).map(|lane| mark(lane, 1)).collect();
        store.place().save(&Checkpoint { spools, ..checkpoint(0) }).unwrap_err();
        assert_eq!(open(&fs).1, checkpoint(4));
        store.place().save(&checkpoint(5)).unwrap();
        assert_eq!(open(&fs).1, checkpoint(5));
    }

    #[test]
    fn a_saved_checkpoint_survives_a_power_cut() {
        let fs = MemFs::default();
        save(&fs, Path::new("/c"), &checkpoint(5)).unwrap();
        save(&fs, Path::new("/c"), &checkpoint(6)).unwrap();
        assert_eq!(open(&fs.after_power_cut(0)).1, checkpoint(6));
    }
}
