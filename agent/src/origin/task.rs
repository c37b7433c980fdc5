//! The loop: wait for a reason, read the source, count requests, put files in force, report.
//!
//! One task owns all state. Whatever asks for new files within a second, or sooner after a reload than
//! the settings allow, is put in force by one reload.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    handle::{Command, Handle, QUEUE},
    hits,
    kept::{self, Kept},
    model::{Change, DropRefusal, Secrets, Why},
    place::{Placed, place},
    ports::{Answer, Hits, Reloaded, SecretSource, Server, SourceError, Store},
    render::Site,
    secret::SecretId,
    settings::{Reload, Settings},
    status::{self, Refreshed, SourceStatus, State, Status},
};
use crate::{
    clock::{Timestamp, WallClock},
    errors::Chain,
};

/// What comes together goes into one reload: a pending secret and a new list of ranges, for instance.
const SETTLE: Duration = Duration::from_secs(1);
/// The files are looked at this often: somebody may have changed them.
const RECHECK: Duration = Duration::from_secs(60);
/// How often requests are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Counts alone are kept on disk no more often than this; what a crash loses of them is read again.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// A read of the source is given up after this; adapters give up sooner themselves.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Rest after a failure to put files in force; it doubles up to [`MAX_REST`].
const REST: Duration = Duration::from_secs(5);
const MAX_REST: Duration = Duration::from_secs(60);
/// Pieces of notes that are counted at once; more wait for the next time.
const MAX_PIECES: usize = 16;

/// What the guard needs of the outside.
#[derive(Debug)]
pub struct Ports<S, N, H, K, W> {
    /// Where secrets are read.
    pub source: S,
    /// The web server.
    pub server: N,
    /// What it notes about requests.
    pub hits: H,
    /// Where state is kept.
    pub store: K,
    /// The time of day.
    pub clock: W,
}

/// The guard's task, ready to run.
#[derive(Debug)]
pub struct Origin<S, N, H, K, W> {
    settings: Settings,
    ports: Ports<S, N, H, K, W>,
    commands: mpsc::Receiver<Command>,
    ranges: watch::Receiver<Vec<IpNet>>,
    published: watch::Sender<Status>,
    kept: Kept,
    /// What the source called what it said last, if all of it was good.
    tag: Option<String>,
    /// Whether the last read of the source was good as a whole.
    is_fresh: bool,
    source: SourceStatus,
    state: State,
    failures: u32,
    last_reload: Option<Timestamp>,
    counted: Option<Timestamp>,
    store_trouble: Option<String>,
    hits_trouble: Option<String>,
    next_read: Instant,
    next_count: Instant,
    next_place: Instant,
    /// No reload before this.
    reload_from: Instant,
    /// When counts were last kept; none if there is nothing new.
    keep_counts: Option<Instant>,
}

enum Reason {
    Stop,
    Command(Option<Command>),
    Ranges,
    Time,
}

/// The task, and the handle to talk to it. `ranges` are the addresses of the firewall's sources that
/// `real_ip` names; empty as long as they are not known.
pub fn new<S: SecretSource, N: Server, H: Hits, K: Store, W: WallClock>(
    settings: Settings,
    ranges: watch::Receiver<Vec<IpNet>>,
    ports: Ports<S, N, H, K, W>,
) -> (Handle, Origin<S, N, H, K, W>) {
    let (ask, commands) = mpsc::channel(QUEUE);
    let source = SourceStatus { location: settings.source.to_string(), ..SourceStatus::default() };
    let (published, status) = watch::channel(Status {
        state: State::Starting,
        header: settings.header.as_str().to_owned(),
        source: source.clone(),
        secrets: Vec::new(),
        secret_age_seconds: None,
        refused: 0,
        last_refused: None,
        counted: None,
        last_reload: None,
        troubles: Vec::new(),
    });
    let now = Instant::now();
    let task = Origin {
        settings,
        ports,
        commands,
        ranges,
        published,
        kept: Kept::default(),
        tag: None,
        is_fresh: false,
        source,
        state: State::Starting,
        failures: 0,
        last_reload: None,
        counted: None,
        store_trouble: None,
        hits_trouble: None,
        next_read: now,
        next_count: now,
        next_place: now,
        reload_from: now,
        keep_counts: None,
    };
    (Handle { commands: ask, status }, task)
}

impl<S: SecretSource, N: Server, H: Hits, K: Store, W: WallClock> Origin<S, N, H, K, W> {
    /// Runs until told to stop. The files stay in force afterwards.
    pub async fn run(mut self, stop: CancellationToken) {
        self.load().await;
        loop {
            match self.reason(&stop).await {
                // Nobody can ask any more, so nobody holds the guard.
                Reason::Stop | Reason::Command(None) => break,
                Reason::Command(Some(c)) => self.answer(c).await,
                Reason::Ranges => self.place_soon(),
                Reason::Time => {
                    // Ending does not wait for a source; what it was about to say is asked for again.
                    let ticked = stop.run_until_cancelled(self.read_if_due()).await;
                    if ticked.is_none() {
                        break;
                    }
                    self.count_if_due().await;
                    if Instant::now() >= self.next_place {
                        self.place().await;
                    }
                }
            }
            self.publish();
        }
        if self.keep_counts.is_some() {
            self.keep().await;
        }
    }

    async fn reason(&mut self, stop: &CancellationToken) -> Reason {
        let wake = self.next_read.min(self.next_count).min(self.next_place);
        // Every arm only waits: a cancelled wait on a token, a channel or a timer takes nothing out of it.
        tokio::select! {
            biased;
            () = stop.cancelled() => Reason::Stop,
            command = self.commands.recv() => Reason::Command(command),
            Ok(()) = self.ranges.changed() => Reason::Ranges,
            () = time::sleep_until(wake) => Reason::Time,
        }
    }

    async fn load(&mut self) {
        match self.ports.store.load().await {
            Ok(Some(bytes)) => match kept::decode(&bytes) {
                Ok(kept) => self.kept = kept,
                Err(e) => {
                    let why = format!("what was kept {}", Chain(&e));
                    tracing::error!(why, "the accepted secrets are asked for anew");
                    self.store_trouble = Some(why);
                }
            },
            Ok(None) => {}
            Err(e) => self.store_trouble = Some(format!("what was kept cannot be read: {e}")),
        }
        self.last_reload = self.kept.loaded.as_ref().map(|(_, at)| *at);
    }

    async fn keep(&mut self) {
        self.keep_counts = None;
        let saved = match kept::encode(&self.kept) {
            Ok(bytes) => self.ports.store.save(&bytes).await,
            Err(e) => Err(e.into()),
        };
        self.store_trouble = saved.err().map(|e| {
            tracing::error!(error = %Chain(&e), "the accepted secrets could not be kept");
            // Counts as new until it is there.
            self.keep_counts = Some(Instant::now());
            format!("the accepted secrets cannot be kept: {e}")
        });
    }

    async fn read_if_due(&mut self) {
        if Instant::now() >= self.next_read {
            self.read().await;
        }
    }

    /// Reads the source and takes over what it has. Returns what changed.
    async fn read(&mut self) -> Vec<Change> {
        let read = self.ports.source.read(&self.settings.source, self.tag.as_deref());
        let got = time::timeout(READ_DEADLINE, read).await;
        self.next_read = Instant::now() + spread(self.settings.every);
        let late = || SourceError {
            what: format!("no answer within {} s", READ_DEADLINE.as_secs()),
            hint: None,
            source: None,
        };
        match got.unwrap_or_else(|_| Err(late())) {
            Ok(Answer::Unchanged) => {
                self.source_is_well();
                Vec::new()
            }
            Ok(Answer::Offer { offered, refused, tag }) => {
                let now = self.ports.clock.now();
                let mut faults = refused;
                let changes = self.kept.secrets.take(&offered, now).unwrap_or_else(|e| {
                    faults.push(e.to_string());
                    Vec::new()
                });
                if faults.is_empty() {
                    self.source_is_well();
                    self.tag = tag;
                } else {
                    let hint =
                        "a secret is 16 to 512 of A-Z a-z 0-9; what was accepted before stays";
                    self.source_failed(&faults.join("; "), Some(hint.to_owned()));
                }
                self.changed(&changes).await;
                changes
            }
            Err(e) => {
                let why = self.kept.secrets.scrub(&Chain(&e).to_string());
                self.source_failed(&why, e.hint);
                Vec::new()
            }
        }
    }

    fn source_is_well(&mut self) {
        self.is_fresh = true;
        self.source.checked = Some(self.ports.clock.now());
        self.source.failures = 0;
        (self.source.error, self.source.hint) = (None, None);
    }

    fn source_failed(&mut self, why: &str, hint: Option<String>) {
        self.is_fresh = false;
        self.tag = None;
        self.source.failures = self.source.failures.saturating_add(1);
        if self.source.error.as_deref() != Some(why) {
            tracing::warn!(
                source = self.source.location,
                why,
                "origin secret not read; what was accepted stays"
            );
        }
        (self.source.error, self.source.hint) = (Some(why.to_owned()), hint);
    }

    /// Keeps what changed, and has it put in force.
    async fn changed(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            tracing::info!(change = words(change), "accepted origin secrets changed");
        }
        self.keep().await;
        self.place_soon();
    }

    async fn count_if_due(&mut self) {
        if Instant::now() < self.next_count {
            return;
        }
        self.next_count = Instant::now() + COUNT_EVERY;
        self.count().await;
        if self.is_fresh {
            let (leave, now) = (self.settings.leave, self.ports.clock.now());
            let dropped = self.kept.secrets.expire(&leave, now, self.counted);
            self.changed(&dropped).await;
        }
        if self.keep_counts.is_some_and(|since| since.elapsed() >= KEEP_EVERY) {
            self.keep().await;
        }
    }

    async fn count(&mut self) {
        for _ in 0..MAX_PIECES {
            let before = self.ports.clock.now();
            match self.ports.hits.read().await {
                Ok((bytes, is_all)) => {
                    self.hits_trouble = None;
                    if !bytes.is_empty() {
                        self.kept.secrets.count(hits::parse(&bytes));
                        self.keep_counts.get_or_insert_with(Instant::now);
                    }
                    if is_all {
                        self.counted = Some(earlier(before));
                        return;
                    }
                }
                Err(e) => {
                    self.hits_trouble = Some(format!(
                        "requests are not counted, so an old secret stays for the longest time set: {e}"
                    ));
                    return;
                }
            }
        }
    }

    /// Has the files put in force, together with whatever else comes until then.
    fn place_soon(&mut self) {
        let at = (Instant::now() + SETTLE).max(self.reload_from);
        // A failure's rest ends here: what changed may be what mends it.
        self.next_place = at;
    }

    async fn place(&mut self) {
        let ranges = self.ranges.borrow_and_update().clone();
        let site = Site { settings: &self.settings, secrets: &self.kept.secrets, ranges: &ranges };
        let placed = place(&self.ports.server, &site).await;
        let (is_new, digest) = match placed {
            Ok(Placed { is_new, digest }) => (is_new, digest),
            Err(e) => {
                let hint = e.hint();
                return self.failed(Chain(&e).to_string(), Some(hint));
            }
        };
        let is_loaded = self.kept.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == digest);
        if is_new && is_loaded {
            tracing::warn!(
                "files of the origin guard were changed by somebody else; they are back"
            );
        }
        if is_new || !is_loaded {
            let Reload::After(interval) = self.settings.nginx.reload else {
                return self.stands(State::Written);
            };
            // An agent before this one may have ended between writing and testing.
            if !is_new && let Err(e) = self.ports.server.test().await {
                let hint = "nginx -t shows it; nginx goes on as it is, and would not start";
                return self.failed(Chain(&e).to_string(), Some(hint));
            }
            match self.ports.server.reload().await {
                Ok(reloaded) => {
                    let now = self.ports.clock.now();
                    self.kept.loaded = Some((digest, now));
                    if reloaded == Reloaded::NotRunning {
                        self.keep().await;
                        return self.stands(State::Written);
                    }
                    self.reload_from = Instant::now() + interval;
                    self.last_reload = Some(now);
                    self.keep().await;
                    tracing::info!("nginx answers by the accepted origin secrets");
                }
                Err(e) => {
                    let hint = "the error log of nginx says why; nginx goes on as it is";
                    return self.failed(Chain(&e).to_string(), Some(hint));
                }
            }
        }
        let is_closed = self.kept.secrets.accepted().is_empty();
        // It was not running when they were written; whoever starts reads them.
        let is_written = matches!(self.state, State::Written | State::Starting)
            && !self.ports.server.is_running().await;
        self.stands(match (is_closed, is_written) {
            (true, _) => State::Closed,
            (false, true) => State::Written,
            (false, false) => State::InForce,
        });
    }

    fn stands(&mut self, state: State) {
        self.state = state;
        self.failures = 0;
        self.next_place = Instant::now() + RECHECK;
    }

    fn failed(&mut self, why: String, hint: Option<&str>) {
        let why = self.kept.secrets.scrub(&why);
        if !matches!(&self.state, State::Failed { why: before, .. } if *before == why) {
            tracing::error!(why, "the origin guard's files are not in force; those before are");
        }
        self.failures = self.failures.saturating_add(1);
        let doubled = REST.saturating_mul(1 << self.failures.saturating_sub(1).min(8));
        self.next_place = Instant::now() + doubled.min(MAX_REST);
        let (hint, failures) = (hint.map(str::to_owned), self.failures);
        self.state = State::Failed { why, hint, failures };
    }

    async fn answer(&mut self, command: Command) {
        // A reply that nobody waits for any more is no failure.
        match command {
            Command::Refresh(reply) => self.refresh(reply).await,
            Command::Drop(id, reply) => {
                let answer = self.drop_secret(&id).await;
                reply.send(answer).unwrap_or_default();
            }
        }
    }

    /// An operator waits, so neither the interval nor the settling does.
    async fn refresh(&mut self, reply: oneshot::Sender<Refreshed>) {
        let changes = self.read().await;
        self.next_count = Instant::now();
        self.count_if_due().await;
        self.place().await;
        self.publish();
        let changes = changes.iter().map(words).collect();
        let status = self.published.borrow().clone();
        reply.send(Refreshed { changes, status }).unwrap_or_default();
    }

    async fn drop_secret(&mut self, id: &SecretId) -> Result<Status, DropRefusal> {
        let change = self.kept.secrets.drop_asked(id)?;
        self.changed(&[change]).await;
        self.place().await;
        self.publish();
        Ok(self.published.borrow().clone())
    }

    fn publish(&mut self) {
        let now = self.ports.clock.now();
        let secrets: &Secrets = &self.kept.secrets;
        let (refused, last_refused) = secrets.refused();
        self.published.send_replace(Status {
            state: self.state.clone(),
            header: self.settings.header.as_str().to_owned(),
            source: self.source.clone(),
            secrets: status::secrets(secrets, &self.settings.leave),
            secret_age_seconds: status::age(secrets, now),
            refused,
            last_refused,
            counted: self.counted,
            last_reload: self.last_reload,
            troubles: self.store_trouble.iter().chain(&self.hits_trouble).cloned().collect(),
        });
    }
}

/// Until when all is counted that is on disk now: nginx writes its notes a second late at most.
fn earlier(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_sub(2000))
}

/// A change in words.
fn words(change: &Change) -> String {
    match change {
        Change::Added(id) => format!("{id} is accepted"),
        Change::Left(id) => {
            format!("the source has another than {id}, which stays while it is used")
        }
        Change::Back(id) => format!("the source has {id} again"),
        Change::Dropped(id, Why::Unused) => format!("{id} is dropped: nobody used it"),
        Change::Dropped(id, Why::TooLong) => {
            format!("{id} is dropped: the source has had another for the longest time set")
        }
        Change::Dropped(id, Why::TooMany) => format!("{id} is dropped: there are too many"),
        Change::Dropped(id, Why::Asked) => format!("{id} is dropped: somebody asked for it"),
    }
}

/// Up to a tenth longer, so that hosts do not ask all at once; a hasher's random keys do for that.
fn spread(every: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 100;
    every + every.mul_f64(f64::from(u8::try_from(random).unwrap_or(0)) / 1000.0)
}
