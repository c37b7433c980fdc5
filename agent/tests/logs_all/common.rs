//! The log path with a service in memory and real files, for the tests of this folder.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock},
    logs::{
        self, Batch, CloudLogs, Failure, FileSource, Handle, Host, Journals, LineRules, LineSource,
        NewGroups, NoHints, NoJournal, OnFull, Outcome, OutputStream, Redactor, Settings, Sink,
        Spool, TailFs,
    },
    sys::{spool_fs::DiskFs, tail_fs::Disk, watch_files::DirectoryWatch},
    task::Scope,
};
use palisade_types::ByteSize;
use tokio_util::sync::CancellationToken;

/// A service in memory that answers as told.
#[derive(Clone, Default)]
pub(crate) struct Cloud(Arc<Mutex<Inside>>);

type Rule = Box<dyn FnMut(&[String]) -> Option<Outcome> + Send>;

#[derive(Default)]
struct Inside {
    streams: BTreeMap<String, Vec<String>>,
    retention: HashMap<String, Option<u32>>,
    rule: Option<Rule>,
    puts: usize,
    on_their_way: usize,
    most_on_their_way: usize,
}

impl Cloud {
    /// From now on, what this says of a batch's lines is the answer; where it says nothing, the
    /// lines are taken.
    pub(crate) fn answer(&self, rule: impl FnMut(&[String]) -> Option<Outcome> + Send + 'static) {
        self.0.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().rule = None;
    }

    /// Everything taken, stream by stream.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().streams.values().flatten().cloned().collect()
    }

    pub(crate) fn streams(&self) -> Vec<String> {
        self.0.lock().unwrap().streams.keys().cloned().collect()
    }

    pub(crate) fn retention(&self) -> Vec<Option<u32>> {
        self.0.lock().unwrap().retention.values().copied().collect()
    }

    pub(crate) fn forget_streams(&self) -> Vec<String> {
        let mut inside = self.0.lock().unwrap();
        inside.retention.clear();
        let old = std::mem::take(&mut inside.streams);
        old.into_values().flatten().collect()
    }

    pub(crate) fn puts(&self) -> usize {
        self.0.lock().unwrap().puts
    }

    pub(crate) fn most_on_their_way(&self) -> usize {
        self.0.lock().unwrap().most_on_their_way
    }
}

impl CloudLogs for Cloud {
    async fn put(&self, group: &str, stream: &str, batch: &Arc<Batch>) -> Outcome {
        let lines: Vec<String> =
            batch.events().map(|(_, t)| serde_json::from_slice(t).unwrap()).collect();
        let times: Vec<_> = batch.events().map(|(at, _)| at).collect();
        assert!(!lines.is_empty() && times.is_sorted() && batch.bytes() <= logs::MAX_BYTES);
        {
            let mut inside = self.0.lock().unwrap();
            inside.on_their_way += 1;
            inside.most_on_their_way = inside.most_on_their_way.max(inside.on_their_way);
        }
        tokio::task::yield_now().await;
        let mut inside = self.0.lock().unwrap();
        inside.on_their_way -= 1;
        inside.puts += 1;
        if let Some(rule) = &mut inside.rule
            && let Some(answer) = rule(&lines)
        {
            return answer;
        }
        match inside.streams.get_mut(&format!("{group} {stream}")) {
            Some(have) => have.extend(lines),
            None => return Outcome::Failed(Failure::Missing),
        }
        Outcome::Accepted
    }

    async fn ensure_stream(
        &self,
        group: &str,
        stream: &str,
        new: &NewGroups,
    ) -> Result<(), Failure> {
        let mut inside = self.0.lock().unwrap();
        inside.streams.entry(format!("{group} {stream}")).or_default();
        inside.retention.insert(group.to_owned(), new.retention_days);
        drop(inside);
        Ok(())
    }
}

/// Directories of one test.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        Self { dir }
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn settings(&self, pattern: &str) -> Settings {
        Settings {
            group: "/t/{program}".to_owned(),
            stream: "h/{process}".to_owned(),
            new_groups: NewGroups { retention_days: Some(30), kms_key: None },
            programs: true,
            program_lines: Arc::new(LineRules::plain()),
            redact: Redactor::none(),
            agent: true,
            journald: None,
            files: vec![FileSource {
                path: self.log(pattern),
                lines: Arc::new(LineRules::plain()),
            }],
            spool: Spool { max: ByteSize::mib(64), on_full: OnFull::Block, reserve_permille: 0 },
            compress: false,
            sink: Sink::CloudWatch,
            new_relic: None,
            flush_every: Duration::from_millis(20),
            state_dir: self.state(),
        }
    }
}

/// A clock that stands.
#[derive(Clone, Copy, Debug)]
struct Standing(Timestamp);

impl WallClock for Standing {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What a log path is run with.
pub(crate) struct Around {
    pub(crate) journals: Arc<dyn Journals>,
    pub(crate) files: Arc<dyn TailFs>,
    /// Whether inotify hints.
    pub(crate) hints: bool,
}

impl Default for Around {
    fn default() -> Self {
        Self { journals: Arc::new(NoJournal), files: Arc::new(Disk), hints: true }
    }
}

/// A running log path.
pub(crate) struct Agent {
    pub(crate) handle: Handle,
    scope: Scope,
}

impl Agent {
    pub(crate) async fn start(settings: Settings, cloud: &Cloud) -> Self {
        Self::start_with(settings, Some(cloud.clone()), Around::default()).await
    }

    pub(crate) async fn start_with_journal(
        settings: Settings,
        cloud: &Cloud,
        journals: Arc<dyn Journals>,
    ) -> Self {
        let around = Around { journals, ..Around::default() };
        Self::start_with(settings, Some(cloud.clone()), around).await
    }

    /// With `sink: local`.
    pub(crate) async fn start_local(settings: Settings) -> Self {
        Self::start_with(settings, None, Around::default()).await
    }

    pub(crate) async fn start_with(
        settings: Settings,
        cloud: Option<Cloud>,
        around: Around,
    ) -> Self {
        // An aborted agent's last blocking job may hold the lock a little longer.
        let mut disk = None;
        wait_until("the lock of the state directory", || {
            disk = DiskFs::lock(&settings.state_dir).ok();
            disk.is_some()
        })
        .await;
        let host = Host::new(Arc::new(disk.unwrap()), around.files, SystemClock)
            .with_journal(around.journals);
        let (handle, mut shipper) = logs::open(settings, host).unwrap();
        let mut scope = Scope::new(&CancellationToken::new());
        let (stop, hints) = (scope.stop(), DirectoryWatch::new());
        match cloud {
            Some(cloud) if !around.hints => scope.spawn("logs", shipper.run(cloud, NoHints, stop)),
            Some(cloud) => scope.spawn("logs", shipper.run(cloud, hints, stop)),
            None => {
                let sink = shipper.local_sink();
                scope.spawn("logs", shipper.run(sink, hints, stop));
            }
        }
        Self { handle, scope }
    }

    /// With lines in its spool that all came at one moment.
    pub(crate) async fn start_after(
        settings: Settings,
        cloud: &Cloud,
        lines: &[(LineSource, String)],
    ) -> Self {
        let disk = DiskFs::lock(&settings.state_dir).unwrap();
        let host = Host::new(Arc::new(disk), Arc::new(Disk), Standing(SystemClock.now()));
        let (handle, shipper) = logs::open(settings, host).unwrap();
        for (from, text) in lines {
            handle.append(from, text.as_bytes()).await.unwrap();
        }
        let mut scope = Scope::new(&CancellationToken::new());
        let (stop, hints) = (scope.stop(), DirectoryWatch::new());
        scope.spawn("logs", shipper.run(cloud.clone(), hints, stop));
        Self { handle, scope }
    }

    /// Ends at once, without a last checkpoint, as SIGKILL would.
    pub(crate) async fn kill(self) {
        drop(self.scope);
        tokio::task::yield_now().await;
    }

    pub(crate) async fn stop(self) {
        self.handle.stop(Duration::from_secs(10)).await;
    }

    pub(crate) async fn flush(&self) {
        self.handle.flush(Duration::from_secs(30)).await.unwrap();
    }
}

pub(crate) fn down(cloud: &Cloud) {
    cloud.answer(|_| Some(Outcome::Failed(Failure::Unavailable("away".to_owned()))));
}

pub(crate) fn source(process: &str) -> LineSource {
    LineSource {
        program: "web".parse().unwrap(),
        process: process.parse().unwrap(),
        stream: OutputStream::Stdout,
    }
}

/// Appends to a file as a program does, making it if need be.
pub(crate) fn write(path: &Path, text: &str) {
    let mut f = OpenOptions::new().append(true).create(true).open(path).unwrap();
    f.write_all(text.as_bytes()).unwrap();
}

pub(crate) fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{i:07} a line of some log with \"quotes\"\n")).collect()
}

/// How many of the numbered lines are missing and how many came more than once.
pub(crate) fn lost_and_doubled(lines: &[String], wanted: usize) -> (usize, usize) {
    let all: BTreeSet<&String> = lines.iter().collect();
    let text = numbered(0..wanted);
    let missing = text.lines().filter(|l| !all.contains(&(*l).to_owned())).count();
    (missing, lines.len() - all.len())
}

/// Looks again and again until it is so, for at most half a minute.
pub(crate) async fn wait_until(what: &str, mut cond: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if cond() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}
