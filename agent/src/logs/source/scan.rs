//! Looking at the directories: which files there are, which of them are known, and what happened to
//! those: grown, renamed away, emptied after being copied, gone.
//!
//! A scan is the truth about files; hints only make it come sooner. It reads and decides, and
//! changes nothing: what it found is a list for the task to act on.
//!
//! A file is known by device and inode together with a hash of its first bytes, at most 1,024, as
//! many as it had. Emptying is noticed by its length or by the bytes before the position. If it
//! happens after a copy (`copytruncate`), the copy is found by content, and the rest is read there.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    glob,
    reader::{Fingerprint, fingerprint, tail_hash},
};
use crate::logs::{
    ports::{TailEntry, TailFile, TailFs, TailStat},
    settings::FileSource,
};

/// Most files followed at a time; each holds a file descriptor. More are reported, not followed.
pub(crate) const MAX_FILES: usize = 1000;
/// Changes of a rotated file this long before the checkpoint may still be unread.
const CLOCK_SLACK_MS: i64 = 2_000;
/// Bytes compared to tell a copy from a file that only begins alike.
const COMPARE_BYTES: u64 = 4 << 20;

/// A file that the task knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its lane.
    pub lane: u64,
    /// Where it was found first: names its stream, whatever it is renamed to.
    pub path: PathBuf,
    /// Device and inode.
    pub id: (u64, u64),
    /// Its beginning.
    pub head: Fingerprint,
    /// Read up to here; delivered up to here, where it is not open.
    pub position: u64,
    /// Hash of the bytes before `position`, where they are known.
    pub tail: Option<u64>,
    /// Open, unless it comes from a checkpoint or is read to its end and closed.
    pub file: Option<Arc<dyn TailFile>>,
    /// Read to its end after it was renamed away.
    pub finished: bool,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// A known file as it is now.
    Seen {
        /// Its lane.
        lane: u64,
        /// Open, perhaps anew, perhaps its copy.
        file: Arc<dyn TailFile>,
        /// The file behind it.
        stat: TailStat,
        /// Its beginning, which grows with it.
        head: Fingerprint,
        /// It does not have its own name any more: nobody will write to it for long.
        rotated: bool,
    },
    /// A known file that can no longer be read: what was not read of it is lost.
    Lost {
        /// Its lane.
        lane: u64,
        /// What happened.
        why: Loss,
    },
    /// A file to be read from its beginning. They come in the order to be read in.
    New {
        /// Its own name, which names its stream.
        path: PathBuf,
        /// Open.
        file: Arc<dyn TailFile>,
        /// The file behind it.
        stat: TailStat,
        /// Its beginning.
        head: Fingerprint,
        /// It does not have its own name any more.
        rotated: bool,
    },
    /// Something could not be read; it is tried again.
    Trouble {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// How a file was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It was emptied and no copy holds what it had.
    Emptied,
    /// It was there when the agent stopped and is not now.
    Vanished,
    /// It was read to its end before, and is gone now.
    Finished,
}

/// Looks at all directories once. `since_ms` is when a scan or a checkpoint last knew everything.
pub(crate) fn scan(
    fs: &dyn TailFs,
    sources: &[FileSource],
    known: &[Known],
    since_ms: i64,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut directories: HashMap<PathBuf, Vec<String>> = HashMap::new();
    for source in sources {
        if let (Some(dir), Some(name)) = (source.path.parent(), source.path.file_name()) {
            directories
                .entry(dir.to_owned())
                .or_default()
                .push(name.to_string_lossy().into_owned());
        }
    }
    for k in known {
        // A file whose setting is gone is still read to its end.
        if let Some(dir) = k.path.parent() {
            directories.entry(dir.to_owned()).or_default();
        }
    }
    let mut dirs: Vec<_> = directories.into_iter().collect();
    dirs.sort();
    let mut left = MAX_FILES.saturating_sub(known.iter().filter(|k| !k.finished).count());
    for (dir, patterns) in dirs {
        let here: Vec<&Known> = known.iter().filter(|k| k.path.parent() == Some(&dir)).collect();
        match fs.list(&dir) {
            Ok(entries) => {
                let mut d = Directory { fs, dir: &dir, entries, taken: HashSet::new() };
                d.look(&patterns, &here, since_ms, &mut left, &mut found);
            }
            Err(e) => found.push(Finding::Trouble { path: dir, why: e.to_string() }),
        }
    }
    found
}

struct Directory<'a> {
    fs: &'a dyn TailFs,
    dir: &'a Path,
    entries: Vec<TailEntry>,
    /// Files that belong to a lane.
    taken: HashSet<(u64, u64)>,
}

fn id(s: &TailStat) -> (u64, u64) {
    (s.dev, s.ino)
}

impl Directory<'_> {
    fn look(
        &mut self,
        patterns: &[String],
        known: &[&Known],
        since_ms: i64,
        left: &mut usize,
        found: &mut Vec<Finding>,
    ) {
        self.taken.extend(known.iter().map(|k| k.id));
        for k in known {
            let own = k.path.file_name().map(|n| n.to_string_lossy().into_owned());
            let before = found.len();
            if let Err(e) = self.follow(k, &own.unwrap_or_default(), found) {
                found.truncate(before);
                found.push(Finding::Trouble { path: k.path.clone(), why: e.to_string() });
            }
        }
        let mut fresh: Vec<(TailEntry, String)> = Vec::new();
        for e in &self.entries {
            if self.taken.contains(&id(&e.stat)) || glob::is_compressed(&e.name) {
                continue;
            }
            if patterns.iter().any(|p| glob::matches(p, &e.name)) {
                let base = self.base_of(&e.name, patterns).unwrap_or_else(|| e.name.clone());
                fresh.push((e.clone(), base));
            } else if since_ms > 0 && e.stat.modified_ms >= since_ms - CLOCK_SLACK_MS {
                // Written and rotated away since the last look, be that a second ago or before the
                // agent stopped.
                let own = glob::bases(&e.name)
                    .find(|base| patterns.iter().any(|p| glob::matches(p, base)));
                fresh.extend(own.map(|own| (e.clone(), own.to_owned())));
            }
        }
        // Oldest first; the one that still has its own name is written to and comes last.
        fresh.sort_by_key(|(e, own)| {
            (e.name == *own, e.stat.modified_ms, Reverse(glob::rotation_number(own, &e.name)))
        });
        for (e, own) in fresh {
            let path = self.dir.join(&own);
            if *left == 0 {
                let why = format!("more than {MAX_FILES} files match; this one is not followed");
                found.push(Finding::Trouble { path, why });
                continue;
            }
            match self.begin(&e, &own, known) {
                Ok(Some((file, head))) => {
                    *left -= 1;
                    let rotated = e.name != own;
                    found.push(Finding::New { path, file, stat: e.stat, head, rotated });
                }
                Ok(None) => {}
                Err(why) => found.push(Finding::Trouble { path, why: why.to_string() }),
            }
        }
    }

    /// The name, also matched, of which `name` is a rotated form.
    fn base_of(&self, name: &str, patterns: &[String]) -> Option<String> {
        let mut bases = self.entries.iter().map(|e| &e.name).filter(|base| {
            glob::is_rotation(base, name) && patterns.iter().any(|p| glob::matches(p, base))
        });
        bases.next().cloned()
    }

    /// What became of one known file.
    fn follow(&mut self, k: &Known, own: &str, found: &mut Vec<Finding>) -> io::Result<()> {
        let entry = self.entries.iter().find(|e| id(&e.stat) == k.id).cloned();
        let Some(file) = &k.file else { return self.reopen(k, own, entry, found) };
        let stat = file.stat()?;
        let head = fingerprint(file.as_ref(), None)?;
        let same_head = head.len >= k.head.len
            && (head == k.head || fingerprint(file.as_ref(), Some(k.head.len))? == k.head);
        // Emptied and refilled beyond the position, between two looks.
        let refilled = stat.size > k.position
            && match k.tail {
                Some(tail) => tail_hash(file.as_ref(), k.position)? != tail,
                None => false,
            };
        if stat.size < k.position || !same_head || refilled {
            return self.emptied(k, own, found);
        }
        let rotated = entry.is_none_or(|e| e.name != own);
        found.push(Finding::Seen { lane: k.lane, file: file.clone(), stat, head, rotated });
        Ok(())
    }

    /// A file that is not open: from a checkpoint, or finished.
    fn reopen(
        &mut self,
        k: &Known,
        own: &str,
        entry: Option<TailEntry>,
        found: &mut Vec<Finding>,
    ) -> io::Result<()> {
        if let Some(e) = entry {
            // A finished file is only looked into if it grew again.
            if k.finished && e.stat.size == k.position {
                return Ok(());
            }
            let file = self.fs.open(&self.dir.join(&e.name))?;
            if self.continues(k, file.as_ref())? {
                let (stat, head) = (file.stat()?, fingerprint(file.as_ref(), None)?);
                let rotated = e.name != own;
                found.push(Finding::Seen { lane: k.lane, file, stat, head, rotated });
                return Ok(());
            }
            return self.emptied(k, own, found);
        }
        if k.finished {
            found.push(Finding::Lost { lane: k.lane, why: Loss::Finished });
            return Ok(());
        }
        match self.copy(k, own)? {
            Some(copy) => found.push(copy),
            None => found.push(Finding::Lost { lane: k.lane, why: Loss::Vanished }),
        }
        Ok(())
    }

    /// The file lost its content. Its inode is free for a new lane; the old one goes on in a copy.
    fn emptied(&mut self, k: &Known, own: &str, found: &mut Vec<Finding>) -> io::Result<()> {
        self.taken.remove(&k.id);
        let why = if k.finished { Loss::Finished } else { Loss::Emptied };
        let copy = if k.finished { None } else { self.copy(k, own)? };
        found.push(copy.unwrap_or(Finding::Lost { lane: k.lane, why }));
        Ok(())
    }

    /// A rotated file that has the same content up to our position.
    fn copy(&mut self, k: &Known, own: &str) -> io::Result<Option<Finding>> {
        let mut candidates: Vec<&TailEntry> = self
            .entries
            .iter()
            .filter(|e| glob::is_rotation(own, &e.name) && !glob::is_compressed(&e.name))
            .filter(|e| id(&e.stat) != k.id && !self.taken.contains(&id(&e.stat)))
            .filter(|e| e.stat.size >= k.position && k.head.len > 0)
            .collect();
        candidates.sort_by_key(|e| e.stat.modified_ms);
        for e in candidates {
            let file = self.fs.open(&self.dir.join(&e.name))?;
            if self.continues(k, file.as_ref())? {
                let (stat, head) = (file.stat()?, fingerprint(file.as_ref(), None)?);
                self.taken.insert(id(&stat));
                return Ok(Some(Finding::Seen { lane: k.lane, file, stat, head, rotated: true }));
            }
        }
        Ok(None)
    }

    /// Whether a file is the known one as far as that was read.
    fn continues(&self, k: &Known, file: &dyn TailFile) -> io::Result<bool> {
        let same_head = fingerprint(file, Some(k.head.len))? == k.head;
        let same_tail = match k.tail {
            Some(tail) => tail_hash(file, k.position)? == tail,
            None => true,
        };
        Ok(same_head && same_tail && file.stat()?.size >= k.position)
    }

    /// Opens a file that no lane has, unless it is a copy of one that a lane has: that copy is about
    /// to take the lane over, or was made by hand.
    fn begin(
        &self,
        e: &TailEntry,
        own: &str,
        known: &[&Known],
    ) -> io::Result<Option<(Arc<dyn TailFile>, Fingerprint)>> {
        let file = self.fs.open(&self.dir.join(&e.name))?;
        let head = fingerprint(file.as_ref(), None)?;
        if e.name != own && head.len == 0 {
            // A copy in the making, maybe: it is looked at again when there is something in it.
            return Ok(None);
        }
        if e.name != own {
            for k in known.iter().filter(|k| k.path.file_name().is_some_and(|n| n == own)) {
                if let Some(theirs) = &k.file
                    && is_copy(file.as_ref(), theirs.as_ref())?
                {
                    return Ok(None);
                }
            }
        }
        Ok(Some((file, head)))
    }
}

/// Whether one file is the beginning of the other, as far as it is worth comparing.
fn is_copy(a: &dyn TailFile, b: &dyn TailFile) -> io::Result<bool> {
    let common = a.stat()?.size.min(b.stat()?.size).min(COMPARE_BYTES);
    let (mut one, mut two) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = 0;
    while at < common {
        let n = a.read_at(&mut one, at)?;
        let m = b.read_at(&mut two, at)?;
        let both = n.min(m);
        if both == 0 || one.get(..both) != two.get(..both) {
            return Ok(false);
        }
        at += both as u64;
    }
    Ok(common > 0)
}
