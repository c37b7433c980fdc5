//! In-memory twins of the ports.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::ports::{Room, SpoolFile, SpoolFs};

/// A file system in memory that knows what would survive a power cut.
#[derive(Clone, Debug, Default)]
pub struct MemFs(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Bytes that may still be written before the disk is full.
    room: Option<u64>,
    /// What the disk says of its own room.
    told: Option<Room>,
    is_read_only: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    content: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct MemFile(Arc<Mutex<Disk>>, usize);

impl MemFs {
    /// What the machine finds after a power cut: synced content under synced names, plus the first
    /// `torn` bytes of what was appended to a file and not synced.
    #[must_use]
    pub fn after_power_cut(&self, torn: usize) -> Self {
        let disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = disk.nodes.iter().map(|n| {
            let mut content = n.durable.clone();
            let more = n.content.get(content.len()..).unwrap_or_default();
            content.extend_from_slice(&more[..torn.min(more.len())]);
            Node { durable: content.clone(), content }
        });
        let names = disk.durable_names.clone();
        let after = Disk {
            nodes: nodes.collect(),
            names: names.clone(),
            durable_names: names,
            room: None,
            told: None,
            is_read_only: false,
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// Lets so many more bytes be written, or any number.
    pub fn set_room(&self, room: Option<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).room = room;
    }

    /// Takes no more writes, as a file system after an error of its disk; or takes them again.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_read_only = is_read_only;
    }

    /// Changes one byte of a file.
    pub fn flip(&self, path: &Path, at: usize) {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = disk.names.get(path).copied()
            && let Some(b) = disk.nodes[i].content.get_mut(at)
        {
            *b ^= 0x10;
        }
    }

    /// All files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).names.keys().cloned().collect()
    }
}

impl SpoolFs for MemFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn SpoolFile>> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let i = match disk.names.get(path) {
            Some(i) => *i,
            None => {
                disk.nodes.push(Node::default());
                let i = disk.nodes.len() - 1;
                disk.names.insert(path.to_owned(), i);
                i
            }
        };
        drop(disk);
        Ok(Arc::new(MemFile(self.0.clone(), i)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = disk
            .names
            .keys()
            .filter_map(|p| p.strip_prefix(dir).ok()?.iter().next()?.to_str().map(str::to_owned))
            .collect();
        drop(disk);
        names.dedup();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        disk.names.remove(path);
        drop(disk);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let i = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), i);
        drop(disk);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |p: &Path| p.parent() == Some(dir);
        let now: Vec<_> =
            disk.names.iter().filter(|(p, _)| here(p)).map(|(p, i)| (p.clone(), *i)).collect();
        disk.durable_names.retain(|p, _| !here(p));
        disk.durable_names.extend(now);
        drop(disk);
        Ok(())
    }

    fn room(&self, _dir: &Path) -> io::Result<Room> {
        let disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(disk.told.unwrap_or(Room { free: 1 << 40, all: 1 << 40 }))
    }
}

impl MemFs {
    /// What the disk says of its room from now on; until then it is empty.
    pub fn tell_room(&self, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).told = Some(room);
    }
}

impl SpoolFile for MemFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let rest = disk.nodes[self.1].content.get(at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        drop(disk);
        Ok(n)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let at = usize::try_from(at).map_err(io::Error::other)?;
        // What is written over takes no room.
        let there = disk.nodes[self.1].content.len();
        let more = (at + bytes.len()).saturating_sub(there) as u64;
        let lacks = more.saturating_sub(disk.room.unwrap_or(more));
        if let Some(r) = &mut disk.room {
            *r -= more - lacks;
        }
        let fits = bytes.len() - usize::try_from(lacks).map_err(io::Error::other)?.min(bytes.len());
        let content = &mut disk.nodes[self.1].content;
        if content.len() < at + fits {
            content.resize(at + fits, 0);
        }
        content[at..at + fits].copy_from_slice(&bytes[..fits]);
        drop(disk);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).nodes[self.1].content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        disk.nodes[self.1].content.resize(len, 0);
        drop(disk);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = &mut disk.nodes[self.1];
        node.durable = node.content.clone();
        drop(disk);
        Ok(())
    }
}
