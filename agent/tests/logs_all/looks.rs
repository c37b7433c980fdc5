//! What happens to files while one look at them goes on.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use palisade_agent::{
    logs::{TailEntry, TailFile, TailFs, TailStat},
    sys::tail_fs::Disk,
};

use crate::common::*;

/// The disk, where `app.log` is emptied in the moment in which its copy is first opened.
#[derive(Debug, Default)]
struct EmptiedMeanwhile(AtomicBool);

impl EmptiedMeanwhile {
    fn happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl TailFs for EmptiedMeanwhile {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        if path.ends_with("app.log.1") && !self.happened() {
            OpenOptions::new().write(true).open(path.with_extension(""))?.set_len(0)?;
            self.0.store(true, Ordering::SeqCst);
        }
        Disk.open(path)
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Disk.device(dir)
    }
}

#[tokio::test]
async fn a_file_that_is_emptied_while_its_copy_is_looked_at_is_not_read_twice() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let files = Arc::new(EmptiedMeanwhile::default());
    let around = Around { files: files.clone(), ..Around::default() };
    let agent = Agent::start_with(place.settings("app.log"), Some(cloud.clone()), around).await;
    write(&place.log("app.log"), &numbered(0..500));
    wait_until("the first lines", || cloud.lines().len() >= 500).await;
    fs::copy(place.log("app.log"), place.log("app.log.1")).unwrap();
    wait_until("the copy to be looked at", || files.happened()).await;
    write(&place.log("app.log"), &numbered(500..600));
    wait_until("the new lines", || lost_and_doubled(&cloud.lines(), 600).0 == 0).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 600), (0, 0));
}

/// Nobody passes before it is opened.
#[derive(Debug)]
struct Gate(Mutex<mpsc::Receiver<()>>);

impl Gate {
    /// Closed; dropping the other half opens it for good.
    fn closed() -> (mpsc::Sender<()>, Self) {
        let (key, lock) = mpsc::channel();
        (key, Self(Mutex::new(lock)))
    }

    fn pass(&self) {
        self.0.lock().unwrap().recv().unwrap_err();
    }
}

/// [`EmptiedMeanwhile`], where lines are read and the second look lists the directory when a test says so.
#[derive(Debug)]
struct Gated {
    files: EmptiedMeanwhile,
    looks: AtomicUsize,
    second_look: Gate,
    reading: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn TailFile>,
    reading: Arc<Gate>,
}

impl TailFs for Gated {
    fn list(&self, dir: &Path) -> io::Result<Vec<TailEntry>> {
        if self.looks.fetch_add(1, Ordering::SeqCst) > 0 {
            self.second_look.pass();
        }
        self.files.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn TailFile>> {
        Ok(Arc::new(GatedFile { file: self.files.open(path)?, reading: self.reading.clone() }))
    }

    fn device(&self, dir: &Path) -> io::Result<u64> {
        Disk.device(dir)
    }
}

impl TailFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        // A look takes less, to know a file by.
        if buf.len() > 4096 {
            self.reading.pass();
        }
        self.file.read_at(buf, at)
    }

    fn stat(&self) -> io::Result<TailStat> {
        self.file.stat()
    }
}

#[tokio::test]
async fn a_file_that_is_read_copied_and_emptied_within_one_look_is_not_read_twice() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let ((look, second_look), (read, reading)) = (Gate::closed(), Gate::closed());
    let files = Arc::new(Gated {
        files: EmptiedMeanwhile::default(),
        looks: AtomicUsize::new(0),
        second_look,
        reading: Arc::new(reading),
    });
    write(&place.log("app.log"), &numbered(0..500));
    let around = Around { files: files.clone(), ..Around::default() };
    let agent = Agent::start_with(place.settings("app.log"), Some(cloud.clone()), around).await;
    wait_until("the second look to begin", || files.looks.load(Ordering::SeqCst) == 2).await;
    drop(read);
    wait_until("the first lines", || cloud.lines().len() >= 500).await;
    fs::copy(place.log("app.log"), place.log("app.log.1")).unwrap();
    drop(look);
    wait_until("the copy to be looked at", || files.files.happened()).await;
    write(&place.log("app.log"), &numbered(500..600));
    wait_until("the new lines", || lost_and_doubled(&cloud.lines(), 600).0 == 0).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 600), (0, 0));
}
