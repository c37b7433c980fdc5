//! Twins of the ports: they behave like the real thing, in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    model::{Offered, Stage},
    ports::{
        Answer, Hits, ReloadError, Reloaded, SecretSource, Server, SourceError, Store, TestError,
    },
    render::{File, Site},
    secret::Secret,
    settings::{HeaderName, Leave, Location, Nginx, Reload, Settings},
};
use crate::clock::Timestamp;

/// The n-th secret of a test.
#[must_use]
#[expect(clippy::expect_used, reason = "a helper of tests")]
pub fn secret(n: u32) -> Secret {
    Secret::parse(&format!("Secret{n:04}abcdefghijKLMNOPQRST")).expect("letters and digits")
}

/// What a source has.
#[must_use]
pub fn offered(n: u32, stage: Stage) -> Offered {
    Offered { secret: secret(n), stage, version: format!("v{n}"), created: None }
}

/// Seconds since the epoch.
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// Settings with everything below `dir`.
#[must_use]
#[expect(clippy::expect_used, reason = "a helper of tests")]
pub fn settings(dir: &Path) -> Settings {
    Settings {
        header: HeaderName::parse("X-Origin-Verify").expect("a name"),
        source: Location::File(dir.join("secret")),
        every: Duration::from_secs(60),
        leave: Leave { unused_for: Duration::from_secs(600), at_most: Duration::from_secs(86_400) },
        nginx: Nginx {
            map: dir.join("palisade/origin.map"),
            reload: Reload::After(Duration::from_secs(30)),
            program: "/usr/sbin/nginx".into(),
            config: Some(dir.join("nginx.conf")),
            pid: dir.join("nginx.pid"),
            group: None,
            hits: dir.join("palisade-origin.hits"),
        },
        health: None,
        real_ip: None,
        state_dir: dir.join("state"),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source that has what a test says.
#[derive(Clone, Debug, Default)]
pub struct FakeSource(Arc<Mutex<SourceState>>);

#[derive(Debug, Default)]
struct SourceState {
    offered: Vec<Offered>,
    refused: Vec<String>,
    is_away: bool,
    version: u32,
}

impl FakeSource {
    /// Has this from now on.
    pub fn has(&self, offered: Vec<Offered>) {
        self.has_bad(offered, Vec::new());
    }

    /// Has this, and something that is no secret.
    pub fn has_bad(&self, offered: Vec<Offered>, refused: Vec<String>) {
        let mut state = lock(&self.0);
        state.version += 1;
        (state.offered, state.refused, state.is_away) = (offered, refused, false);
    }

    /// Answers no more.
    pub fn is_away(&self) {
        lock(&self.0).is_away = true;
    }
}

impl SecretSource for FakeSource {
    async fn read(&self, _: &Location, tag: Option<&str>) -> Result<Answer, SourceError> {
        let state = lock(&self.0);
        let version = state.version.to_string();
        if state.is_away {
            return Err(SourceError { what: "it is away".to_owned(), hint: None, source: None });
        }
        if tag == Some(version.as_str()) {
            return Ok(Answer::Unchanged);
        }
        let (offered, refused) = (state.offered.clone(), state.refused.clone());
        Ok(Answer::Offer { offered, refused, tag: Some(version) })
    }
}

/// A web server with files in memory, which answers by those that it read last.
#[derive(Clone, Debug, Default)]
pub struct FakeServer(Arc<Mutex<ServerState>>);

#[derive(Debug, Default)]
struct ServerState {
    files: BTreeMap<PathBuf, Vec<u8>>,
    loaded: BTreeMap<PathBuf, Vec<u8>>,
    reloads: usize,
    tests: VecDeque<Result<(), String>>,
    apart: Option<String>,
    is_down: bool,
    is_deaf: bool,
    puts_left: Option<usize>,
}

impl FakeServer {
    /// What the next tests of the whole configuration say; afterwards all is well.
    pub fn next_tests(&self, results: impl IntoIterator<Item = Result<(), &'static str>>) {
        lock(&self.0).tests = results.into_iter().map(|r| r.map_err(str::to_owned)).collect();
    }

    /// Refuses files by themselves, or not.
    pub fn refuses_apart(&self, why: Option<&str>) {
        lock(&self.0).apart = why.map(str::to_owned);
    }

    /// Does not run; once it starts, it answers by the files that are there.
    pub fn is_down(&self, is_down: bool) {
        let mut state = lock(&self.0);
        state.is_down = is_down;
        if !is_down {
            state.loaded = state.files.clone();
        }
    }

    /// Runs, and does not listen to a word.
    pub fn is_deaf(&self, is_deaf: bool) {
        lock(&self.0).is_deaf = is_deaf;
    }

    /// Takes so many files more.
    pub fn takes_only(&self, files: usize) {
        lock(&self.0).puts_left = Some(files);
    }

    /// How often it was told to read its files.
    #[must_use]
    pub fn reloads(&self) -> usize {
        lock(&self.0).reloads
    }

    /// A file as it answers by it.
    #[must_use]
    pub fn loaded(&self, path: &Path) -> Option<String> {
        lock(&self.0).loaded.get(path).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// A file as it is on disk.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<String> {
        lock(&self.0).files.get(path).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// Somebody else writes a file.
    pub fn overwrite(&self, path: &Path, text: &str) {
        lock(&self.0).files.insert(path.to_owned(), text.as_bytes().to_vec());
    }
}

impl Server for FakeServer {
    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0).files.get(path).cloned())
    }

    async fn put(&self, file: &File) -> io::Result<()> {
        let mut state = lock(&self.0);
        if let Some(left) = &mut state.puts_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the disk is full"))?;
        }
        state.files.insert(file.path.clone(), file.content.to_vec());
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).files.remove(path);
        Ok(())
    }

    async fn test_apart(&self, _: &Site<'_>) -> Result<(), TestError> {
        lock(&self.0).apart.clone().map_or(Ok(()), |why| Err(TestError::Refused(why)))
    }

    async fn test(&self) -> Result<(), TestError> {
        let next = lock(&self.0).tests.pop_front();
        next.unwrap_or(Ok(())).map_err(TestError::Refused)
    }

    async fn is_running(&self) -> bool {
        !lock(&self.0).is_down
    }

    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut state = lock(&self.0);
        if state.is_down {
            return Ok(Reloaded::NotRunning);
        }
        state.reloads += 1;
        if state.is_deaf {
            return Err(ReloadError::Deaf(10));
        }
        state.loaded = state.files.clone();
        Ok(Reloaded::Yes)
    }
}

/// Notes of nginx that a test writes.
#[derive(Clone, Debug, Default)]
pub struct FakeHits(Arc<Mutex<Vec<u8>>>);

impl FakeHits {
    /// A request with this secret.
    pub fn hit(&self, at: Timestamp, secret: &Secret) {
        let (s, ms) = (at.as_secs(), at.as_millis().rem_euclid(1000));
        let line = format!("{s}.{ms:03} 1 {} 1\n", secret.id());
        lock(&self.0).extend(line.as_bytes());
    }
}

impl Hits for FakeHits {
    async fn read(&mut self) -> io::Result<(Vec<u8>, bool)> {
        Ok((std::mem::take(&mut *lock(&self.0)), true))
    }
}

/// A state file in memory.
#[derive(Clone, Debug, Default)]
pub struct FakeStore(Arc<Mutex<Option<Vec<u8>>>>);

impl Store for FakeStore {
    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0).clone())
    }

    async fn save(&self, bytes: &[u8]) -> io::Result<()> {
        *lock(&self.0) = Some(bytes.to_vec());
        Ok(())
    }
}
