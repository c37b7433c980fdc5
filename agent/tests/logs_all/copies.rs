//! Copies of followed files that are hard to come by: not to be opened for a while, written over the one before,
//! or without the last lines.

use std::{
    fmt, fs,
    fs::OpenOptions,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
};

use palisade_agent::{
    logs::{TailEntry, TailFile, TailFs, TailStat},
    sys::tail_fs::Disk,
};

use crate::common::*;

type Act = Box<dyn FnOnce() + Send>;

/// The disk, where something happens right before a look, and `app.log.1` cannot be opened so many times.
#[derive(Default)]
struct Hooked {
    before_look: Mutex<Option<Act>>,
    looks: AtomicUsize,
    /// How often, and the error.
    fails: Mutex<(usize, i32)>,
    /// Name of a copy that one look lists, before the other, though it is gone.
    ghost: Mutex<Option<String>>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    fn before_next_look(&self, act: impl FnOnce() + Send + 'static) {
        *self.before_look.lock().unwrap() = Some(Box::new(act));
    }

    fn is_done(&self) -> bool {
        self.before_look.lock().unwrap().is_none()
    }

    /// Waits until so many looks began from now on.
    async fn wait_for_looks(&self, count: usize) {
        let before = self.looks.load(Ordering::SeqCst);
        wait_until("further looks", || self.looks.load(Ordering::SeqCst) >= before + count).await;
    }
}

impl TailFs for Hooked {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let mut act = self.before_look.lock().unwrap();
        if let Some(act) = act.take() {
            act();
        }
        drop(act);
        let mut entries = Disk.list(dir)?;
        let copy = entries.iter().find(|e| e.name == "app.log.1").cloned();
        if let Some(mut ghost) = copy
            && let Some(name) = self.ghost.lock().unwrap().take()
        {
            ghost.name = name;
            ghost.stat.ino += 1_000_000;
            ghost.stat.modified_ms -= 1;
            entries.push(ghost);
        }
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        let mut fails = self.fails.lock().unwrap();
        if path.ends_with("app.log.1") && fails.0 > 0 {
            fails.0 -= 1;
            return Err(io::Error::from_raw_os_error(fails.1));
        }
        drop(fails);
        Disk.open(path)
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Disk.device(dir)
    }
}

fn empty(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

async fn start(place: &Place, cloud: &Cloud, files: &Arc<Hooked>) -> Agent {
    let around = Around { files: files.clone(), ..Around::default() };
    Agent::start_with(place.settings("app.log"), Some(cloud.clone()), around).await
}

/// What `app.log` is after a copy and an emptying, with this in the way of the looks that follow.
async fn copied_with(hindrance: impl FnOnce(&Hooked)) -> (Vec<String>, Vec<String>) {
    let (place, cloud, files) = (Place::new(), Cloud::default(), Arc::new(Hooked::default()));
    let (path, copy) = (place.log("app.log"), place.log("app.log.1"));
    write(&path, &numbered(0..500));
    let agent = start(&place, &cloud, &files).await;
    agent.flush().await;
    hindrance(&files);
    let log = path.clone();
    files.before_next_look(move || {
        fs::copy(&log, copy).unwrap();
        empty(&log);
    });
    wait_until("the copy", || files.is_done()).await;
    wait_until("all failures", || files.fails.lock().unwrap().0 == 0).await;
    agent.flush().await;
    write(&path, &numbered(500..600));
    wait_until("the new lines", || lost_and_doubled(&cloud.lines(), 600).0 == 0).await;
    agent.flush().await;
    let incidents = agent.handle.status().incidents;
    agent.stop().await;
    (cloud.lines(), incidents)
}

#[tokio::test]
async fn a_copy_that_cannot_be_opened_for_a_while_leaves_one_reader_of_the_file() {
    for times in [1, 5] {
        let (lines, incidents) = copied_with(|files| {
            *files.fails.lock().unwrap() = (times, 5); // EIO
        })
        .await;
        assert_eq!(lost_and_doubled(&lines, 600), (0, 0), "{times}");
        assert!(!incidents.iter().any(|i| i.contains("lost")), "{incidents:?}");
    }
}

#[tokio::test]
async fn a_copy_that_is_gone_once_it_is_opened_is_not_the_only_one_looked_at() {
    let (lines, incidents) = copied_with(|files| {
        *files.ghost.lock().unwrap() = Some("app.log.2".to_owned());
    })
    .await;
    assert_eq!(lost_and_doubled(&lines, 600), (0, 0));
    assert!(!incidents.iter().any(|i| i.contains("lost")), "{incidents:?}");
    // It has another name by then: the next look knows it.
    let (lines, incidents) = copied_with(|files| {
        *files.fails.lock().unwrap() = (1, 2); // ENOENT
    })
    .await;
    assert_eq!(lost_and_doubled(&lines, 600), (0, 0));
    assert!(!incidents.iter().any(|i| i.contains("lost")), "{incidents:?}");
}

async fn copied_over(name: &str) {
    let (place, cloud, files) = (Place::new(), Cloud::default(), Arc::new(Hooked::default()));
    let (path, copy) = (place.log("app.log"), place.log(name));
    let agent = start(&place, &cloud, &files).await;
    let mut written = 0;
    for round in 1..3 {
        let (from, last) = (written, written + 200 * round);
        write(&path, &numbered(from..last - 50));
        agent.flush().await;
        let (log, copy) = (path.clone(), copy.clone());
        files.before_next_look(move || {
            write(&log, &numbered(last - 50..last));
            fs::copy(&log, copy).unwrap();
            empty(&log);
        });
        written = last;
        wait_until("the copy", || files.is_done()).await;
        wait_until("its lane", || agent.handle.status().sources.len() == 2).await;
        wait_until("it to be closed", || agent.handle.status().sources.len() == 1).await;
    }
    let incidents = agent.handle.status().incidents;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), written), (0, 0), "{name}");
    assert!(incidents.is_empty(), "{incidents:?}");
}

#[tokio::test]
async fn a_copy_that_is_written_over_the_one_before_is_found_each_time() {
    tokio::join!(copied_over("app.log.1"), copied_over("app.log.old"));
}

#[tokio::test]
async fn a_copy_without_the_last_lines_that_were_read_is_not_read_again() {
    let (place, cloud, files) = (Place::new(), Cloud::default(), Arc::new(Hooked::default()));
    let path = place.log("app.log");
    write(&path, &numbered(0..500));
    let agent = start(&place, &cloud, &files).await;
    agent.flush().await;
    fs::copy(&path, place.log("app.log.1")).unwrap();
    write(&path, &numbered(500..510));
    wait_until("what the copy lacks", || cloud.lines().len() >= 510).await;
    empty(&path);
    files.wait_for_looks(4).await;
    write(&path, &numbered(510..520));
    wait_until("the new lines", || lost_and_doubled(&cloud.lines(), 520).0 == 0).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 520), (0, 0));
    // Nor by the next agent, under another name; what is added to it is.
    fs::rename(place.log("app.log.1"), place.log("app.log.2")).unwrap();
    let agent = start(&place, &cloud, &files).await;
    agent.flush().await;
    write(&place.log("app.log.2"), &numbered(520..530));
    wait_until("what was added", || lost_and_doubled(&cloud.lines(), 530).0 == 0).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 530), (0, 0));
}

#[tokio::test]
async fn what_was_not_delivered_is_read_in_a_copy_without_the_last_lines() {
    let (place, cloud, files) = (Place::new(), Cloud::default(), Arc::new(Hooked::default()));
    let path = place.log("app.log");
    write(&path, &numbered(0..510));
    down(&cloud);
    let agent = start(&place, &cloud, &files).await;
    wait_until("all to be read", || cloud.puts() > 0).await;
    write(&place.log("app.log.1"), &numbered(0..500));
    empty(&path);
    files.wait_for_looks(4).await;
    agent.kill().await;
    cloud.heal();
    let agent = start(&place, &cloud, &files).await;
    wait_until("what the copy has", || cloud.lines().len() >= 500).await;
    agent.flush().await;
    agent.stop().await;
    // The last ten were nowhere but in the memory of the agent that was killed.
    assert_eq!(lost_and_doubled(&cloud.lines(), 510), (10, 0));
}

/// The disk, where the task itself cannot read a copy so many times. Looks and reading are other threads'.
#[derive(Debug)]
struct Stumbling {
    task: ThreadId,
    left: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct StumblingFile {
    file: Arc<dyn TailFile>,
    task: ThreadId,
    left: Arc<AtomicUsize>,
}

impl TailFs for Stumbling {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        let file = Disk.open(path)?;
        if !path.ends_with("app.log.1") {
            return Ok(file);
        }
        Ok(Arc::new(StumblingFile { file, task: self.task, left: self.left.clone() }))
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Disk.device(dir)
    }
}

impl TailFile for StumblingFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let fewer = |n: usize| n.checked_sub(1);
        let stumbles = thread::current().id() == self.task
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok();
        if stumbles {
            Err(io::Error::from_raw_os_error(libc::EIO))
        } else {
            self.file.read_at(buf, at)
        }
    }

    fn stat(&self) -> io::Result<TailStat> {
        self.file.stat()
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_read_at_first_is_read_later() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let (path, copy) = (place.log("app.log"), place.log("app.log.1"));
    let files = Stumbling { task: thread::current().id(), left: Arc::new(AtomicUsize::new(2)) };
    let around = Around { files: Arc::new(files), hints: false, ..Around::default() };
    write(&path, &numbered(0..500));
    let agent = Agent::start_with(place.settings("app.log"), Some(cloud.clone()), around).await;
    agent.flush().await;
    write(&path, &numbered(500..600));
    fs::copy(&path, &copy).unwrap();
    empty(&path);
    write(&path, &numbered(600..700));
    wait_until("all lines", || lost_and_doubled(&cloud.lines(), 700).0 == 0).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 700), (0, 0));
}
