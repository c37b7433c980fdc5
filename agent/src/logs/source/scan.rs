//! Looking at the directories: which files there are, which of them are known, and what happened to
//! those: grown, renamed away, emptied after being copied, gone.
//!
//! A scan is the truth about files; hints only make it come sooner. It reads and decides, and
//! changes nothing: what it found is a list for the task to act on.
//!
//! A file is known by device and inode together with a hash of its first bytes, at most 1,024, as
//! many as it had. Emptying is noticed by its length or by the bytes before the position. If it
//! happens after a copy (`copytruncate`), the copy is found by content, also if it was packed by gzip
//! meanwhile, and the rest is read there.
//!
//! Bounds: at most [`MAX_OPEN`] files are held open and [`MAX_KNOWN`] known. While more than the first
//! have something new, those that have not are closed and looked into again when they grow.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{directory::Directory, reader::Fingerprint};
use crate::logs::{
    ports::{TailFile, TailFs, TailStat},
    settings::FileSource,
};

/// Most files held open at a time.
pub(crate) const MAX_OPEN: usize = 1000;
/// Most files known at a time. More are reported, not followed.
pub(crate) const MAX_KNOWN: usize = 20_000;

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
    /// Its length at the last look; `position` where it is not open.
    pub size: u64,
    /// Open, unless it comes from a checkpoint or is read to its end and closed.
    pub file: Option<Arc<dyn TailFile>>,
    /// Read to its end and closed for want of room.
    pub resting: bool,
    /// Read to its end after it was renamed away.
    pub finished: bool,
}

/// What a known file is called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// As when it was found.
    Own,
    /// It was rotated: nobody will write to it for long.
    Other,
    /// It is not in its directory any more.
    None,
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
        /// What it is called now.
        name: Name,
    },
    /// A known file that is not open, has nothing new, and need not be open.
    Still {
        /// Its lane.
        lane: u64,
    },
    /// A known file of which all is read and that need not be open, by what it is known from now on: it was
    /// emptied and its copy is shorter than what was read, or it has another device number.
    Read {
        /// Its lane.
        lane: u64,
        /// The file or its copy.
        stat: TailStat,
        /// Its beginning.
        head: Fingerprint,
        /// Hash of its last bytes.
        tail: u64,
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
    /// So many files have something new and could not be opened: as many are open as may be. Those with
    /// nothing new are to be closed.
    Crowded(usize),
    /// What a file is depends on how much was read of another, which had just begun. The next scan will
    /// know.
    Undecided,
    /// A directory that is not there, or not mounted, while files of it are known. What becomes of them is
    /// seen when it is.
    Absent {
        /// Which.
        dir: PathBuf,
        /// What a look at it is to go by once it is there.
        since: Since,
        /// That it is probably not mounted, if there is a directory.
        why: Option<String>,
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

/// What a look goes by to tell what is new.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// When a scan or a checkpoint last knew everything, in milliseconds since the epoch; 0 if none did.
    pub ms: i64,
    /// No scan was before this one in the agent's life.
    pub first: bool,
}

/// Looks at all directories once. `absent` are those that were not there until now, with what counts for
/// them.
pub(crate) fn scan(
    fs: &dyn TailFs,
    sources: &[FileSource],
    known: &[Known],
    since: Since,
    absent: &BTreeMap<PathBuf, Since>,
) -> Vec<Finding> {
    let mut directories: BTreeMap<&Path, (Vec<String>, Vec<&Known>)> = BTreeMap::new();
    for source in sources {
        if let (Some(dir), Some(name)) = (source.path.parent(), source.path.file_name()) {
            let patterns = &mut directories.entry(dir).or_default().0;
            patterns.push(name.to_string_lossy().into_owned());
        }
    }
    for k in known {
        // A file whose setting is gone stays known.
        if let Some(dir) = k.path.parent() {
            directories.entry(dir).or_default().1.push(k);
        }
    }
    let open = known.iter().filter(|k| k.file.is_some()).count();
    let mut look = Look {
        fs,
        since,
        known,
        taken: known.iter().map(|k| k.id).collect(),
        may_open: MAX_OPEN.saturating_sub(open),
        may_know: MAX_KNOWN.saturating_sub(known.len()),
        crowded: 0,
        ignored: 0,
        found: Vec::new(),
    };
    for (dir, (patterns, here)) in directories {
        look.since = absent.get(dir).copied().unwrap_or(since);
        match fs.list(dir) {
            Ok(entries) if entries.is_empty() && is_unmounted(fs, dir, &here) => {
                let why = "it is empty, and on another device than the files of it that are known: \
                           is its volume mounted?";
                look.absent(dir, &patterns, &here, Some(why.to_owned()));
            }
            Ok(entries) => Directory::new(&mut look, dir, &patterns, entries).look(&here),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                look.absent(dir, &patterns, &here, None);
            }
            Err(e) => look.trouble(dir.to_owned(), e.to_string()),
        }
    }
    if look.crowded > 0 {
        look.found.push(Finding::Crowded(look.crowded));
    }
    if look.ignored > 0 {
        let path = sources.first().map(|s| s.path.clone()).unwrap_or_default();
        let why = format!("more than {MAX_KNOWN} files match; some are not followed");
        look.trouble(path, why);
    }
    look.found
}

/// Whether all files of an empty directory that are not open were on another device than it is.
fn is_unmounted(fs: &dyn TailFs, dir: &Path, known: &[&Known]) -> bool {
    // A file that was lost has no device.
    let mut devices = known.iter().filter(|k| k.file.is_none() && k.id.0 != 0).map(|k| k.id.0);
    let Some(first) = devices.next() else { return false };
    fs.device(dir).is_ok_and(|here| first != here && devices.all(|d| d != here))
}

/// What one scan has in common for all directories.
pub(super) struct Look<'a> {
    pub(super) fs: &'a dyn TailFs,
    pub(super) since: Since,
    pub(super) known: &'a [Known],
    /// Files that belong to a lane. A file with several names, also in several directories, is one.
    pub(super) taken: HashSet<(u64, u64)>,
    pub(super) may_open: usize,
    pub(super) may_know: usize,
    /// Files that were not opened for want of room.
    pub(super) crowded: usize,
    /// New files beyond all bounds.
    pub(super) ignored: usize,
    pub(super) found: Vec<Finding>,
}

impl Look<'_> {
    pub(super) fn trouble(&mut self, path: PathBuf, why: String) {
        self.found.push(Finding::Trouble { path, why });
    }

    /// Goes on with the files that are open, and leaves the others alone: they are not lost.
    fn absent(&mut self, dir: &Path, patterns: &[String], known: &[&Known], why: Option<String>) {
        let open: Vec<&Known> = known.iter().copied().filter(|k| k.file.is_some()).collect();
        Directory::new(self, dir, patterns, Vec::new()).look(&open);
        if open.len() < known.len() {
            let (dir, since) = (dir.to_owned(), self.since);
            self.found.push(Finding::Absent { dir, since, why });
        }
    }

    /// Whether a file modified then may have something that nobody read.
    pub(super) fn is_fresh(&self, stat: &TailStat) -> bool {
        /// Changes of a rotated file this long before the checkpoint may still be unread.
        const CLOCK_SLACK_MS: i64 = 2_000;
        self.since.ms > 0 && stat.modified_ms >= self.since.ms - CLOCK_SLACK_MS
    }
}
