//! Twins of the ports in memory: they behave like the real things and can be told to fail.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time};

use super::{
    history::HistoryFile,
    observe::{Base, Claim, Observed, SeenChain, Table},
    plan::{Change, Extent, PRIORITY, expected, hook_number},
    ports::{Changed, Changes, Feed, FetchError, Fetched, Files, Kernel, KernelError},
    rules::{Policy, chains},
    settings::{Ec2List, FeedLocation},
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
    deaf: bool,
    only_tables: bool,
}

impl Default for MemTable {
    fn default() -> Self {
        Self {
            observed: Observed::Absent,
            applied: 0,
            refuse: None,
            deaf: false,
            only_tables: false,
        }
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

    /// Says that it did everything and does nothing.
    pub fn set_deaf(&self, deaf: bool) {
        lock(&self.0).deaf = deaf;
    }

    /// Refuses every change of a table that leaves something of it there.
    pub fn refuse_all_but_new_tables(&self) {
        lock(&self.0).only_tables = true;
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
        if table.only_tables && matches!(change.extent, Extent::Sets(_) | Extent::Rules { .. }) {
            let what = "something is in the way".to_owned();
            return Err(KernelError { what, hint: None, source: None });
        }
        if change.extent == Extent::Nothing {
            table.applied += 1;
            table.observed = Observed::Absent;
            return Ok(());
        }
        table.applied += 1;
        if table.deaf {
            return Ok(());
        }
        let seen = |chain: &super::rules::Chain| SeenChain {
            base: Some(Base {
                kind: "filter".to_owned(),
                hook: hook_number(chain.hook),
                priority: PRIORITY,
                drops: chain.policy == Policy::Drop,
            }),
            rules: expected(chain),
        };
        let all = chains(&change.want);
        table.observed = Observed::Table(Box::new(Table {
            chains: all.iter().map(|c| (c.hook.name().to_owned(), seen(c))).collect(),
            sets: change.want.kernel_sets(),
            counters: change.want.counters().into_iter().map(|n| (n, 0)).collect(),
            strange: Vec::new(),
            claim: Claim::default(),
            generation: table.applied,
            read_at: 0,
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

/// Lists that a test puts there: a published one, with a tag that changes with it, and those of EC2.
#[derive(Clone, Debug, Default)]
pub struct MemFeed(Arc<Mutex<MemLists>>);

#[derive(Debug, Default)]
struct MemLists {
    version: u64,
    published: Option<Vec<u8>>,
    /// By what EC2 is asked for.
    answers: BTreeMap<String, Vec<String>>,
    own: Vec<String>,
    /// How long an answer is under way.
    slowness: Duration,
}

impl MemLists {
    fn read(&self, at: &FeedLocation, tag: Option<&str>) -> Result<Fetched, FetchError> {
        let down = || FetchError::new("the source is down");
        if let FeedLocation::Ec2(list) = at {
            let prefixes = self.answers.get(&list.to_string()).cloned().ok_or_else(down)?;
            return Ok(Fetched::Prefixes { prefixes, is_amazons: false });
        }
        let bytes = self.published.clone().ok_or_else(down)?;
        let now = self.version.to_string();
        if tag == Some(now.as_str()) {
            return Ok(Fetched::NotModified);
        }
        Ok(Fetched::Body { bytes, tag: Some(now) })
    }
}

impl MemFeed {
    /// Puts a published list there.
    pub fn put(&self, bytes: impl Into<Vec<u8>>) {
        let mut lists = lock(&self.0);
        lists.version += 1;
        lists.published = Some(bytes.into());
    }

    /// Makes every read of the published list fail.
    pub fn take_down(&self) {
        lock(&self.0).published = None;
    }

    /// Lets every answer be under way for so long; it is what was there when it was asked for.
    pub fn slow_down(&self, by: Duration) {
        lock(&self.0).slowness = by;
    }

    /// Puts an answer of EC2 there, or makes the question fail.
    pub fn answer(&self, list: &Ec2List, prefixes: Option<&[&str]>) {
        let mut lists = lock(&self.0);
        match prefixes {
            Some(p) => {
                let prefixes = p.iter().map(|p| (*p).to_owned()).collect();
                lists.answers.insert(list.to_string(), prefixes);
            }
            None => drop(lists.answers.remove(&list.to_string())),
        }
    }

    /// The host's own networks.
    pub fn set_own(&self, networks: &[&str]) {
        lock(&self.0).own = networks.iter().map(|n| (*n).to_owned()).collect();
    }
}

impl Feed for MemFeed {
    async fn fetch(&self, at: &FeedLocation, tag: Option<&str>) -> Result<Fetched, FetchError> {
        let (answer, slowness) = {
            let lists = lock(&self.0);
            (lists.read(at, tag), lists.slowness)
        };
        if !slowness.is_zero() {
            time::sleep(slowness).await;
        }
        answer
    }

    async fn own_networks(&self) -> Vec<String> {
        lock(&self.0).own.clone()
    }
}

/// A record in memory.
#[derive(Clone, Debug, Default)]
pub struct MemHistory(Arc<Mutex<Vec<u8>>>);

impl HistoryFile for MemHistory {
    async fn append(&mut self, line: Vec<u8>) -> io::Result<()> {
        lock(&self.0).extend(line);
        Ok(())
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(lock(&self.0).clone())
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
