//! One directory: what became of the known files in it, and which are new.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    compare::{continues, is_copy, starts_like},
    glob,
    packed::Packed,
    reader::{FINGERPRINT, Fingerprint, fingerprint, tail_hash},
    scan::{Finding, Known, Look, Loss, MAX_OPEN, Name},
};
use crate::logs::ports::{TailEntry, TailFile, TailStat};

pub(super) struct Directory<'a, 'b> {
    all: &'a mut Look<'b>,
    dir: &'a Path,
    patterns: &'a [String],
    entries: Vec<TailEntry>,
    /// Places in `entries` of each file; several if it has several names.
    by_id: HashMap<(u64, u64), Vec<usize>>,
}

/// An open file, what it is, and how it begins.
type Opened = (Arc<dyn TailFile>, TailStat, Fingerprint);

fn id(s: &TailStat) -> (u64, u64) {
    (s.dev, s.ino)
}

impl<'a, 'b> Directory<'a, 'b> {
    pub(super) fn new(
        all: &'a mut Look<'b>,
        dir: &'a Path,
        patterns: &'a [String],
        mut entries: Vec<TailEntry>,
    ) -> Self {
        // Of the names of one file, one that is no link counts.
        entries.sort_by(|a, b| (a.link, &a.name).cmp(&(b.link, &b.name)));
        let mut by_id: HashMap<_, Vec<usize>> = HashMap::new();
        for (i, e) in entries.iter().enumerate() {
            by_id.entry(id(&e.stat)).or_default().push(i);
        }
        Self { all, dir, patterns, entries, by_id }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.patterns.iter().any(|p| glob::matches(p, name))
    }

    pub(super) fn look(&mut self, known: &[&Known]) {
        // First those that are not open: what is taken for theirs by its inode alone may be a new copy that
        // was written over an old one, and is then free to be found.
        let (open, closed): (Vec<&Known>, Vec<&Known>) =
            known.iter().copied().partition(|k| k.file.is_some());
        for k in closed.into_iter().chain(open) {
            let own = k.path.file_name().map(|n| n.to_string_lossy().into_owned());
            let own = own.unwrap_or_default();
            if !self.is_wanted(&own) && self.by_id.contains_key(&k.id) {
                // Its setting is gone. Should it come back, reading goes on where it stopped.
                continue;
            }
            match self.follow(k, &own) {
                Ok(None) => {}
                Ok(Some(finding)) => self.all.found.push(finding),
                // Renamed, packed or removed since it was listed. The next look knows.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.all.found.push(Finding::Undecided);
                }
                Err(e) => self.all.trouble(k.path.clone(), e.to_string()),
            }
        }
        for (e, own) in self.fresh() {
            // Known under another name, of this directory or of one before.
            if self.all.taken.contains(&id(&e.stat)) {
                continue;
            }
            if self.all.may_know == 0 {
                self.all.ignored += 1;
                continue;
            }
            if self.all.may_open == 0 {
                self.all.crowded += 1;
                continue;
            }
            let path = self.dir.join(&own);
            match self.begin(&e, &own, known) {
                Ok(Some((file, stat, head))) => {
                    self.all.taken.insert(id(&stat));
                    self.all.may_open -= 1;
                    self.all.may_know -= 1;
                    let rotated = e.name != own;
                    self.all.found.push(Finding::New { path, file, stat, head, rotated });
                }
                Ok(None) => {}
                Err(why) => self.all.trouble(path, why.to_string()),
            }
        }
    }

    /// Files that no lane has, each with the name that names its stream, in the order to be read in.
    fn fresh(&self) -> Vec<(TailEntry, String)> {
        let names: HashSet<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        let wanted = |name: &str| self.is_wanted(name);
        let mut fresh: Vec<(TailEntry, String)> = Vec::new();
        for e in self.entries.iter().filter(|e| !self.all.taken.contains(&id(&e.stat))) {
            let packed = glob::is_compressed(&e.name);
            // What was packed while an agent ran was read before.
            if packed && !(self.all.since.first && glob::is_gzip(&e.name)) {
                continue;
            }
            if !packed && wanted(&e.name) {
                let mut bases = glob::bases(&e.name).filter(|b| names.contains(b) && wanted(b));
                let base = bases.next().unwrap_or(&e.name).to_owned();
                fresh.push((e.clone(), base));
            } else if self.all.is_fresh(&e.stat) {
                // Written and rotated away since the last look, be that a second ago or before the
                // agent stopped.
                let own = glob::bases(&e.name).find(|base| wanted(base));
                fresh.extend(own.map(|own| (e.clone(), own.to_owned())));
            }
        }
        // Oldest first; the one that still has its own name is written to and comes last.
        fresh.sort_by_key(|(e, own)| {
            (e.name == *own, e.stat.modified_ms, Reverse(glob::rotation_number(own, &e.name)))
        });
        fresh
    }

    /// The present name of a file, its own one if it has that too.
    fn entry(&self, file: (u64, u64), own: &str) -> Option<&TailEntry> {
        let mut names = self.by_id.get(&file)?.iter().filter_map(|i| self.entries.get(*i));
        let first = names.next()?;
        if first.name == own { Some(first) } else { names.find(|e| e.name == own).or(Some(first)) }
    }

    /// What became of one known file.
    fn follow(&mut self, k: &Known, own: &str) -> io::Result<Option<Finding>> {
        let Some(file) = &k.file else { return self.reopen(k, own) };
        let name = match self.entry(k.id, own) {
            Some(e) if e.name == own => Name::Own,
            Some(_) => Name::Other,
            None => Name::None,
        };
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
        let shrunk = stat.size < k.position || stat.size < k.size;
        if shrunk || !same_head || refilled || self.is_outgrown(file.as_ref(), own, name)? {
            return self.emptied(k, own, Loss::Emptied).map(Some);
        }
        let file = file.clone();
        Ok(Some(Finding::Seen { lane: k.lane, file, stat, head, name }))
    }

    /// A file that begins like ours, was just rotated away, and is longer: ours was copied there, emptied,
    /// and refilled with the same beginning, a header perhaps, before anybody looked.
    fn is_outgrown(&self, file: &dyn TailFile, own: &str, name: Name) -> io::Result<bool> {
        if name != Name::Own {
            return Ok(false);
        }
        for e in self.entries.iter().filter(|e| glob::is_rotation(own, &e.name)) {
            let candidate = !glob::is_compressed(&e.name)
                && !self.all.taken.contains(&id(&e.stat))
                && self.all.is_fresh(&e.stat);
            // Its length was taken before ours is, which only grows.
            if candidate
                && e.stat.size > file.stat()?.size
                && is_copy(self.all.fs.open(&self.dir.join(&e.name))?.as_ref(), file)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A file that is not open: from a checkpoint, finished, or closed for want of room.
    fn reopen(&mut self, k: &Known, own: &str) -> io::Result<Option<Finding>> {
        let here = self.entry(k.id, own).cloned();
        let Some(e) = here.map_or_else(|| self.moved(k, own), |e| Ok(Some(e)))? else {
            if k.finished {
                return Ok(Some(Finding::Lost { lane: k.lane, why: Loss::Finished }));
            }
            let why = if k.resting { Loss::Finished } else { Loss::Vanished };
            let lost = Finding::Lost { lane: k.lane, why };
            return Ok(Some(self.copy(k, own)?.unwrap_or(lost)));
        };
        let moved = id(&e.stat) != k.id;
        if moved {
            self.all.taken.insert(id(&e.stat));
        }
        let size = if glob::is_compressed(&e.name) { None } else { Some(e.stat.size) };
        // What is read to its end is only looked into if it grew again.
        let closed = k.finished || k.resting;
        if closed && !moved && size.is_none_or(|size| size == k.position) {
            return Ok(None);
        }
        if self.all.may_open == 0 && size != Some(k.position) {
            self.all.crowded += 1;
            return Ok(None);
        }
        if !moved && self.is_another(k, own) {
            return self.emptied(k, own, Loss::Vanished).map(Some);
        }
        let file = self.open(&e)?;
        if !continues(k, file.as_ref())? {
            return self.emptied(k, own, Loss::Emptied).map(Some);
        }
        let (stat, head) = (file.stat()?, fingerprint(file.as_ref(), None)?);
        if closed && moved && stat.size == k.position {
            let tail = tail_hash(file.as_ref(), stat.size)?;
            return Ok(Some(Finding::Read { lane: k.lane, stat, head, tail }));
        }
        if stat.size == k.position && self.all.may_open <= MAX_OPEN / 2 {
            return Ok(Some(Finding::Still { lane: k.lane }));
        }
        self.all.may_open -= 1;
        let name = if e.name == own { Name::Own } else { Name::Other };
        Ok(Some(Finding::Seen { lane: k.lane, file, stat, head, name }))
    }

    /// A file that is not open under another device number, which a restart of the host or a volume that is
    /// attached anew may bring, or under another inode too, but with its own name and content.
    fn moved(&self, k: &Known, own: &str) -> io::Result<Option<TailEntry>> {
        let free = |e: &&TailEntry| !self.all.taken.contains(&id(&e.stat));
        // One that was lost has no number.
        let same_number = |e: &&TailEntry| e.stat.ino == k.id.1 && k.id.0 != 0;
        // Without a number, only with enough of the content.
        let sure = k.id.0 != 0 && !k.finished && k.head.len > 0;
        let sure = sure && (k.tail.is_some() || k.position == 0);
        let numbers = self.entries.iter().filter(same_number);
        let names = self.entries.iter().filter(|e| sure && e.name == own && !same_number(e));
        for e in numbers.chain(names).filter(free) {
            if k.head.len == 0 && e.name != own {
                continue;
            }
            let file = match self.open(e) {
                Ok(file) => file,
                // A damaged archive.
                Err(_) if glob::is_compressed(&e.name) => continue,
                Err(why) => return Err(why),
            };
            if continues(k, file.as_ref())? {
                return Ok(Some(e.clone()));
            }
        }
        Ok(None)
    }

    /// Whether a file that is not open has our inode and perhaps nothing else of ours: it has no name that ours
    /// may have got, and so little is known of ours that another may well begin like it. Where that one is
    /// followed by itself, at worst this little comes twice.
    fn is_another(&self, k: &Known, own: &str) -> bool {
        let places = self.by_id.get(&k.id).into_iter().flatten();
        let names = || places.clone().filter_map(|i| self.entries.get(*i)).map(|e| e.name.as_str());
        if k.head.len >= FINGERPRINT || names().any(|n| n == own || glob::is_rotation(own, n)) {
            return false;
        }
        let wanted = names().any(|n| self.is_wanted(n));
        let alike = names().any(|n| glob::is_alike(own, n));
        if k.head.len == 0 { wanted || !alike } else { wanted && !alike }
    }

    /// The file lost its content. Its inode is free for a new lane; the old one goes on in a copy.
    fn emptied(&mut self, k: &Known, own: &str, why: Loss) -> io::Result<Finding> {
        let why = if k.finished || k.resting { Loss::Finished } else { why };
        let copy = if k.finished { None } else { self.copy(k, own)? };
        // Not before: until its copy can be looked at, the lane stays and has the file. Nor if another has it.
        if !self.all.known.iter().any(|other| other.lane != k.lane && other.id == k.id) {
            self.all.taken.remove(&k.id);
        }
        Ok(copy.unwrap_or(Finding::Lost { lane: k.lane, why }))
    }

    /// A file with the same content up to our position: under a rotated name, packed or not, or failing
    /// that under another name that begins alike.
    fn copy(&mut self, k: &Known, own: &str) -> io::Result<Option<Finding>> {
        if k.head.len == 0 {
            return Ok(None);
        }
        let usable = |e: &&TailEntry| {
            id(&e.stat) != k.id
                && !self.all.taken.contains(&id(&e.stat))
                && (!glob::is_compressed(&e.name) || glob::is_gzip(&e.name))
        };
        let mut candidates: Vec<TailEntry> = Vec::new();
        let rotations = self.entries.iter().filter(usable);
        candidates.extend(rotations.filter(|e| glob::is_rotation(own, &e.name)).cloned());
        // By content alone, and so only with enough of it.
        let loose = |e: &&TailEntry| {
            k.position > 0
                && self.all.is_fresh(&e.stat)
                && glob::is_alike(own, &e.name)
                && !glob::is_rotation(own, &e.name)
        };
        let others = self.entries.iter().filter(usable).filter(loose);
        let others: Vec<TailEntry> = others.cloned().collect();
        candidates.sort_by_key(|e| (glob::is_compressed(&e.name), e.stat.modified_ms));
        let mut gone = None;
        for e in candidates.iter().chain(&others) {
            let packed = glob::is_compressed(&e.name);
            if !packed && e.stat.size < k.position && !self.all.is_fresh(&e.stat) {
                continue;
            }
            let file = match self.open(e) {
                Ok(file) => file,
                // Perhaps it was only renamed; another may be what we look for all the same.
                Err(why) if why.kind() == io::ErrorKind::NotFound => {
                    gone = Some(why);
                    continue;
                }
                // A damaged archive is not what we look for; it is told, and not in the way of others.
                Err(why) if packed => {
                    self.all.trouble(self.dir.join(&e.name), why.to_string());
                    continue;
                }
                Err(why) => return Err(why),
            };
            if continues(k, file.as_ref())? {
                let (stat, head) = (file.stat()?, fingerprint(file.as_ref(), None)?);
                self.all.taken.insert(id(&stat));
                let name = Name::Other;
                return Ok(Some(Finding::Seen { lane: k.lane, file, stat, head, name }));
            }
            let stat = file.stat()?;
            let shorter = stat.size < k.position;
            if shorter && self.all.is_fresh(&e.stat) && starts_like(k, file.as_ref())? {
                // It was copied before the last lines that were read came, and those were read.
                let tail = tail_hash(file.as_ref(), stat.size)?;
                let head = fingerprint(file.as_ref(), None)?;
                self.all.taken.insert(id(&stat));
                return Ok(Some(Finding::Read { lane: k.lane, stat, head, tail }));
            }
        }
        gone.map_or(Ok(None), Err)
    }

    /// Opens a file that no lane has, unless it is a copy of one that a lane has: that copy is about
    /// to take the lane over, or was made by hand.
    fn begin(&mut self, e: &TailEntry, own: &str, known: &[&Known]) -> io::Result<Option<Opened>> {
        let file = self.open(e)?;
        // In this order: whatever is to be read has a beginning to be known by.
        let (stat, head) = (file.stat()?, fingerprint(file.as_ref(), None)?);
        if e.name != own && head.len == 0 {
            // A copy in the making, maybe: it is looked at again when there is something in it.
            return Ok(None);
        }
        if e.name != own {
            let packed = glob::is_compressed(&e.name);
            for k in known.iter().filter(|k| k.path.file_name().is_some_and(|n| n == own)) {
                // Theirs may be emptied since it was looked at a moment ago; what was read of it is known.
                let theirs = match &k.file {
                    Some(theirs) => is_copy(file.as_ref(), theirs.as_ref())?,
                    None => false,
                };
                let tells = if k.file.is_some() { k.tail.is_some() } else { packed };
                if theirs || tells && k.head.len > 0 && continues(k, file.as_ref())? {
                    if !theirs && k.position == 0 {
                        // It begins like theirs, and how much was read of that since is not known here.
                        self.all.found.push(Finding::Undecided);
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some((file, stat, head)))
    }

    /// Opens a file, or what is packed in it.
    fn open(&self, e: &TailEntry) -> io::Result<Arc<dyn TailFile>> {
        let file = self.all.fs.open(&self.dir.join(&e.name))?;
        if glob::is_compressed(&e.name) { Ok(Arc::new(Packed::open(file)?)) } else { Ok(file) }
    }
}
