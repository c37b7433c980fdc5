//! nginx as the origin guard sees it: its files, its test, and the signal that makes it read them.
//!
//! The signal goes to the master process itself, by the pid in its file: `nginx -s reload` would read the
//! whole configuration once more to find the same pid, and a service manager may not be there. What a
//! signal does is seen by the workers: new ones come, and the old ones say that they are shutting down.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::Signal,
    unistd::{Gid, Group},
};
use tokio::{
    task::spawn_blocking,
    time::{self, Instant},
};

use super::{
    children::Children,
    exec::{self, Cmd},
    files, pidfd, proc,
};
use zeroize::Zeroizing;

use crate::{
    errors::one_line,
    origin::{Access, File, Nginx, ReloadError, Reloaded, Server, Site, TestError},
};

/// How long a test may take: it resolves the names that a site uses.
const TEST: Duration = Duration::from_secs(20);
/// How long new workers may take to come.
const WORKERS: Duration = Duration::from_secs(10);
/// By then the old ones know that they are to end, also those whose words about it are cut.
const TOLD: Duration = Duration::from_secs(2);
/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// As much of nginx's own words as is shown.
const MAX_WORDS: usize = 600;
/// Largest file of ours that is read.
const MAX_FILE: u64 = 8 << 20;

/// What nginx calls its processes.
const MASTER: &str = "nginx: master process";
const CACHE: &str = "nginx: cache";
const ENDING: &str = "is shutting down";

/// The nginx of this host.
#[derive(Clone, Debug)]
pub struct LocalNginx {
    children: Children,
    at: Nginx,
    /// Where files are tested by themselves.
    apart: PathBuf,
}

impl LocalNginx {
    /// The nginx that the settings name; `state_dir` is the guard's own directory.
    #[must_use]
    pub fn new(children: Children, at: &Nginx, state_dir: &Path) -> Self {
        Self { children, at: at.clone(), apart: state_dir.join("try") }
    }

    async fn ask(&self, config: Option<&Path>) -> Result<(), TestError> {
        let mut cmd = Cmd::new(&self.at.program).args(["-t", "-q"]).deadline(TEST);
        if let Some(config) = config {
            cmd = cmd.args([Path::new("-c"), config]);
        }
        let cmd = cmd.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let out = exec::run(&self.children, cmd).await.map_err(|e| TestError::Ask(Box::new(e)))?;
        if out.code == Some(0) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        let said: Vec<&str> = said.lines().filter(|l| !l.ends_with("test failed")).collect();
        Err(TestError::Refused(one_line(&said.join("; ")).chars().take(MAX_WORDS).collect()))
    }

    /// Its whole configuration, as `nginx -T` prints it: with the secrets, so it is wiped when dropped.
    ///
    /// # Errors
    /// When nginx refuses it or cannot be asked.
    pub async fn printed(&self) -> Result<Zeroizing<String>, TestError> {
        let mut cmd = Cmd::new(&self.at.program).args(["-T", "-q"]).deadline(TEST);
        if let Some(config) = &self.at.config {
            cmd = cmd.args([Path::new("-c"), config]);
        }
        let cmd = cmd.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let out = exec::run(&self.children, cmd).await.map_err(|e| TestError::Ask(Box::new(e)))?;
        let printed = Zeroizing::new(out.stdout);
        if out.code != Some(0) {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(TestError::Refused(one_line(&said).chars().take(MAX_WORDS).collect()));
        }
        Ok(Zeroizing::new(String::from_utf8_lossy(&printed).into_owned()))
    }

    /// The master process, if it runs.
    fn master(&self) -> Option<i32> {
        let pid = fs::read_to_string(&self.at.pid).ok()?.trim().parse().ok()?;
        // A pid may be another's by now. What a process calls itself is cut where it has little room.
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let program = fs::canonicalize(&self.at.program);
        // A binary that was replaced has something behind its name.
        let is_it = program.is_ok_and(|p| exe.to_string_lossy().starts_with(&*p.to_string_lossy()));
        (is_it || title(pid).is_some_and(|t| t.starts_with(MASTER))).then_some(pid)
    }
}

/// What a process calls itself.
fn title(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_end_matches('\0').replace('\0', " ")).filter(|t| !t.is_empty())
}

/// Workers of a master, each with whether it says that it is shutting down.
fn workers(master: i32) -> BTreeMap<i32, bool> {
    let children = proc::pids().into_iter();
    let children = children.filter(|pid| proc::stat(*pid).is_ok_and(|s| s.parent == master));
    let titles = children.filter_map(|pid| Some((pid, title(pid)?)));
    titles
        .filter(|(_, t)| !t.starts_with(CACHE))
        .map(|(pid, t)| (pid, t.contains(ENDING)))
        .collect()
}

impl Server for LocalNginx {
    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            // What is too long, or no file, is not ours: it is replaced, or that fails.
            Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => Ok(Some(Vec::new())),
            Ok(_) => fs::read(&path).map(Some),
        })
        .await
    }

    async fn put(&self, file: &File) -> io::Result<()> {
        let (file, group) = (file.clone(), self.at.group.clone());
        blocking(move || {
            if let Some(dir) = file.path.parent() {
                files::ensure_dir(dir, 0o755)?;
            }
            match (file.access, group) {
                (Access::Public, _) => files::write_atomic(&file.path, &file.content, 0o644),
                (Access::Secret, None) => files::write_atomic(&file.path, &file.content, 0o600),
                (Access::Secret, Some(group)) => {
                    let gid = gid(&group)?;
                    files::write_atomic_for(&file.path, &file.content, 0o640, gid)
                }
            }
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn test_apart(&self, site: &Site<'_>) -> Result<(), TestError> {
        let failed = |e: io::Error| TestError::Ask(Box::new(e));
        let files = site.apart(&self.apart);
        let Some(conf) = files.last().map(|f| f.path.clone()) else { return Ok(()) };
        let dir = self.apart.clone();
        let made = blocking(move || {
            // Of an agent that was killed in the middle, too.
            fs::remove_dir_all(&dir).or_else(absent)?;
            files::ensure_dir(&dir, 0o700)?;
            for file in &files {
                files::write_atomic_volatile(&file.path, &file.content, 0o600)?;
            }
            Ok(())
        });
        made.await.map_err(failed)?;
        let said = self.ask(Some(&conf)).await;
        let dir = self.apart.clone();
        blocking(move || fs::remove_dir_all(&dir).or_else(absent)).await.map_err(failed)?;
        said
    }

    async fn test(&self) -> Result<(), TestError> {
        self.ask(self.at.config.as_deref()).await
    }

    async fn is_running(&self) -> bool {
        self.master().is_some()
    }

    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let Some(master) = self.master() else { return Ok(Reloaded::NotRunning) };
        let Ok(process) = pidfd::open(master) else { return Ok(Reloaded::NotRunning) };
        // Looked at again, now that the descriptor holds it.
        if self.master() != Some(master) {
            return Ok(Reloaded::NotRunning);
        }
        let before = workers(master);
        pidfd::send_signal(process.as_fd(), Signal::SIGHUP).map_err(ReloadError::Tell)?;
        let until = Instant::now() + WORKERS;
        let mut came = None;
        while Instant::now() < until {
            time::sleep(LOOK).await;
            let now = workers(master);
            let is_new = now.keys().any(|pid| !before.contains_key(pid));
            let answers_by_old =
                now.iter().any(|(pid, is_ending)| before.contains_key(pid) && !is_ending);
            let since = is_new.then(|| *came.get_or_insert_with(Instant::now));
            // New ones come only where nginx took its configuration; the old are told right after.
            if since.is_some_and(|at| !answers_by_old || at.elapsed() > TOLD) {
                return Ok(Reloaded::Yes);
            }
            if pidfd::has_ended(process.as_fd()) {
                return Ok(Reloaded::NotRunning);
            }
        }
        Err(ReloadError::Deaf(WORKERS.as_secs()))
    }
}

fn gid(group: &str) -> io::Result<Gid> {
    let found = Group::from_name(group)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group}"))
    })?;
    Ok(found.gid)
}

/// What is not there need not be taken away.
fn absent(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(f).await.map_err(io::Error::other)?
}
