//! What a file is known by: inodes that come back with another file, device numbers that change, and volumes
//! that are mounted late.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use palisade_agent::{
    logs::{TailEntry, TailFile, TailFs, TailStat},
    sys::tail_fs::Disk,
};

use crate::common::*;

#[tokio::test]
async fn a_file_with_the_inode_of_an_empty_one_has_a_stream_of_its_own() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("a.log"), "");
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("it to be known", || agent.handle.status().sources.len() == 1).await;
    fs::rename(place.log("a.log"), place.log("a.log.1")).unwrap();
    wait_until("it to be closed", || agent.handle.status().sources.is_empty()).await;
    // Stands for a file that was made after the other was removed.
    fs::rename(place.log("a.log.1"), place.log("b.log")).unwrap();
    write(&place.log("b.log"), &numbered(0..10));
    wait_until("its lines", || cloud.lines().len() >= 10).await;
    agent.flush().await;
    agent.stop().await;
    let streams = cloud.streams();
    assert!(streams.len() == 1 && streams[0].ends_with("b.log"), "{streams:?}");
    assert_eq!(lost_and_doubled(&cloud.lines(), 10), (0, 0));
}

/// The disk, under a device number that is so much higher, and inodes too if it says so.
#[derive(Debug, Default)]
struct Moved {
    by: AtomicU64,
    inodes: bool,
}

#[derive(Debug)]
struct MovedFile {
    file: Arc<dyn TailFile>,
    by: (u64, u64),
}

impl Moved {
    fn by(&self) -> (u64, u64) {
        let by = self.by.load(Ordering::SeqCst);
        (by, if self.inodes { by } else { 0 })
    }
}

fn moved(stat: TailStat, by: (u64, u64)) -> TailStat {
    TailStat { dev: stat.dev + by.0, ino: stat.ino + by.1 * 1_000_000, ..stat }
}

impl TailFs for Moved {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        let mut entries = Disk.list(dir)?;
        entries.iter_mut().for_each(|e| e.stat = moved(e.stat, self.by()));
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        Ok(Arc::new(MovedFile { file: Disk.open(path)?, by: self.by() }))
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Ok(Disk.device(dir)? + self.by().0)
    }
}

impl TailFile for MovedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buf, at)
    }

    fn stat(&self) -> io::Result<TailStat> {
        Ok(moved(self.file.stat()?, self.by))
    }
}

#[tokio::test]
async fn files_are_known_again_under_another_device_number() {
    for (pattern, inodes) in [("app.log", false), ("app.log*", false), ("app.log", true)] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let files = Arc::new(Moved { inodes, ..Moved::default() });
        let path = place.log("app.log");
        let start = async || {
            let around = Around { files: files.clone(), ..Around::default() };
            Agent::start_with(place.settings(pattern), Some(cloud.clone()), around).await
        };
        write(&path, &numbered(0..300));
        let agent = start().await;
        agent.flush().await;
        fs::rename(&path, place.log("app.log.1")).unwrap();
        write(&path, &numbered(300..400));
        wait_until("the new file", || cloud.lines().len() >= 400).await;
        wait_until("the old to be closed", || agent.handle.status().sources.len() == 1).await;
        agent.stop().await;
        // Changed, the same again, and changed back; the last with a rename meanwhile.
        for (round, by) in [1, 1, 0].into_iter().enumerate() {
            files.by.store(by, Ordering::SeqCst);
            let first = 400 + 100 * round;
            write(&path, &numbered(first..first + 50));
            if by == 0 {
                fs::rename(place.log("app.log.1"), place.log("app.log.2")).unwrap();
                fs::rename(&path, place.log("app.log.1")).unwrap();
            }
            let agent = start().await;
            write(&path, &numbered(first + 50..first + 100));
            wait_until("all lines", || cloud.lines().len() >= first + 100).await;
            agent.flush().await;
            let incidents = agent.handle.status().incidents;
            agent.stop().await;
            assert_eq!(
                lost_and_doubled(&cloud.lines(), first + 100),
                (0, 0),
                "{pattern} {inodes} {round}"
            );
            assert!(incidents.is_empty(), "{incidents:?}");
        }
    }
}

/// The disk, where a volume is not mounted yet over an empty directory, and where looks are counted.
#[derive(Debug, Default)]
struct Late {
    hidden: AtomicBool,
    looks: AtomicUsize,
}

impl TailFs for Late {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.hidden.load(Ordering::SeqCst) { Ok(Vec::new()) } else { Disk.list(dir) }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        Disk.open(path)
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Ok(Disk.device(dir)? + u64::from(self.hidden.load(Ordering::SeqCst)))
    }
}

async fn mounted_late(with_directory: bool) {
    let (place, cloud, files) = (Place::new(), Cloud::default(), Arc::new(Late::default()));
    let (path, dir) = (place.log("app.log"), place.dir.path().join("log"));
    let start = async || {
        let around = Around { files: files.clone(), hints: false, ..Around::default() };
        Agent::start_with(place.settings("app.log"), Some(cloud.clone()), around).await
    };
    write(&path, &numbered(0..300));
    let agent = start().await;
    agent.flush().await;
    agent.stop().await;
    // The first was read in part, the second never seen.
    write(&path, &numbered(300..400));
    fs::rename(&path, place.log("app.log.2")).unwrap();
    write(&place.log("app.log.1"), &numbered(400..500));
    write(&path, &numbered(500..600));
    let away = place.dir.path().join("away");
    if with_directory {
        files.hidden.store(true, Ordering::SeqCst);
    } else {
        fs::rename(&dir, &away).unwrap();
    }
    let begun = files.looks.load(Ordering::SeqCst);
    let agent = start().await;
    // Beyond what a look takes for new by the time of its last change.
    wait_until("five looks", || files.looks.load(Ordering::SeqCst) >= begun + 5).await;
    if with_directory {
        let told = || agent.handle.status().incidents.iter().any(|i| i.contains("mounted"));
        wait_until("the empty directory to be told", told).await;
        files.hidden.store(false, Ordering::SeqCst);
    } else {
        fs::rename(&away, &dir).unwrap();
    }
    wait_until("all lines", || lost_and_doubled(&cloud.lines(), 600).0 == 0).await;
    agent.flush().await;
    let incidents = agent.handle.status().incidents;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 600), (0, 0));
    assert_eq!(incidents.len(), usize::from(with_directory), "{incidents:?}");
}

#[tokio::test]
async fn files_of_a_volume_that_is_mounted_late_are_known_again() {
    tokio::join!(mounted_late(false), mounted_late(true));
}
