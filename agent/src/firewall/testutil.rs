//! Twins of the ports in memory: they behave like the real things and can be told to fail.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    observe::{Base, Chain, Observed, Table},
    plan::{CHAIN, Change, Extent, PRIORITY},
    ports::{Changed, Changes, Feed, FetchError, Fetched, Files, Kernel, KernelError},
    render,
    settings::FeedLocation,
};

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our table in memory.
#[derive(Clone, Debug, Default)]
pub struct MemKernel(Arc<Mutex<MemTable>>);

#[derive(Debug)]
struct MemTable {
    observed: Observed,
    applied: u32,
    refuse: Option<String>,
    accent: bool,
}

impl Default for MemTable {
    fn default() -> Self {
        Self { observed: Observed::Absent, applied: 0, refuse: None, accent: false }
    }
}

impl MemKernel {
    /// What is there.
    #[must_use]
    pub fn observed(&self) -> Observed {
        lock(&self.0).observed.clone()
    }

    /// Puts something there, as another program would.
    pub fn tamper(&self, f: impl FnOnce(&mut Observed)) {
        f(&mut lock(&self.0).observed);
    }

    /// How many transactions were made.
    #[must_use]
    pub fn applied(&self) -> u32 {
        lock(&self.0).applied
    }

    /// Prints rules in other words than they are written in, as another version of nft may.
    pub fn set_accent(&self, accent: bool) {
        lock(&self.0).accent = accent;
    }

    /// Refuses everything with this word, or nothing any more.
    pub fn refuse(&self, why: Option<&str>) {
        lock(&self.0).refuse = why.map(str::to_owned);
    }
}

impl MemTable {
    fn check(&self) -> Result<(), KernelError> {
        match &self.refuse {
            Some(why) => Err(KernelError { what: why.clone(), hint: None, source: None }),
            None => Ok(()),
        }
    }
}

impl Kernel for MemKernel {
    async fn read(&mut self) -> Result<Observed, KernelError> {
        let table = lock(&self.0);
        table.check()?;
        Ok(table.observed.clone())
    }

    async fn apply(&mut self, change: &Change) -> Result<(), KernelError> {
        let mut table = lock(&self.0);
        table.check()?;
        if change.extent == Extent::Nothing {
            table.applied += 1;
            table.observed = Observed::Absent;
            return Ok(());
        }
        let base = Base {
            kind: "filter".to_owned(),
            hook: "input".to_owned(),
            priority: PRIORITY.into(),
            policy: "drop".to_owned(),
        };
        let mut rules = render::expected_rules(&change.want);
        if table.accent {
            for rule in &mut rules {
                rule.statements = serde_json::json!([{ "said": rule.statements }]);
            }
        }
        let chain = Chain { base: Some(base), rules };
        table.applied += 1;
        table.observed = Observed::Table(Box::new(Table {
            chains: [(CHAIN.to_owned(), chain)].into(),
            sets: change.want.kernel_sets(),
            counters: change.want.counters().into_iter().map(|n| (n, 0)).collect(),
            strange: Vec::new(),
        }));
        Ok(())
    }
}

/// Word of changes that a test sends.
#[derive(Debug)]
pub struct MemChanges(mpsc::Receiver<Changed>);

impl MemChanges {
    /// Word of changes, and the end to send it by.
    #[must_use]
    pub fn new() -> (mpsc::Sender<Changed>, Self) {
        let (tx, rx) = mpsc::channel(64);
        (tx, Self(rx))
    }
}

impl Changes for MemChanges {
    async fn next(&mut self) -> Changed {
        match self.0.recv().await {
            Some(changed) => changed,
            None => std::future::pending().await,
        }
    }

    fn drain(&mut self) -> Option<Changed> {
        std::iter::from_fn(|| self.0.try_recv().ok()).last()
    }
}

/// A list that a test puts there, with a tag that changes with it.
#[derive(Clone, Debug, Default)]
pub struct MemFeed(Arc<Mutex<(u64, Option<Vec<u8>>)>>);

impl MemFeed {
    /// Puts a list there.
    pub fn put(&self, bytes: impl Into<Vec<u8>>) {
        let mut feed = lock(&self.0);
        *feed = (feed.0 + 1, Some(bytes.into()));
    }

    /// Makes every read fail.
    pub fn take_down(&self) {
        lock(&self.0).1 = None;
    }
}

impl Feed for MemFeed {
    async fn fetch(&self, _: &FeedLocation, tag: Option<&str>) -> Result<Fetched, FetchError> {
        let feed = lock(&self.0);
        let bytes = feed.1.clone().ok_or_else(|| FetchError::new("the source is down"))?;
        let now = feed.0.to_string();
        if tag == Some(now.as_str()) {
            return Ok(Fetched::NotModified);
        }
        Ok(Fetched::Body { bytes, tag: Some(now) })
    }
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub struct MemFiles(Arc<Mutex<MemDisk>>);

#[derive(Debug, Default)]
struct MemDisk {
    files: BTreeMap<PathBuf, Vec<u8>>,
    full: bool,
}

impl MemFiles {
    /// All files.
    #[must_use]
    pub fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        lock(&self.0).files.clone()
    }

    /// Changes the files behind the agent's back.
    pub fn tamper(&self, f: impl FnOnce(&mut BTreeMap<PathBuf, Vec<u8>>)) {
        f(&mut lock(&self.0).files);
    }

    /// Whether the disk is full.
    pub fn set_full(&self, full: bool) {
        lock(&self.0).full = full;
    }
}

impl Files for MemFiles {
    async fn read(&self, path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
        let found = lock(&self.0).files.get(path).cloned();
        match found {
            Some(bytes) if bytes.len() > max => Err(io::ErrorKind::FileTooLarge.into()),
            found => Ok(found),
        }
    }

    async fn write(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let mut disk = lock(&self.0);
        if disk.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.files.insert(path.to_owned(), bytes);
        Ok(())
    }
}
