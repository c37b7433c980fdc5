//! The loop: wait for a reason, take in lists, apply, report.
//!
//! One task owns all state. Lists are read beside it, one read at a time for each, so that a slow
//! source holds up neither a repair nor an answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    enforce::{Cause, Enforcer},
    explain::explain,
    feed,
    handle::{ApproveError, Command, Handle, QUEUE},
    keep::Keeper,
    pace,
    plan::{self, Ruleset},
    ports::{Changes, Feed, FetchError, Fetched, Files, Kernel},
    render,
    settings::{Enforce, FeedSource, Settings, SourceName},
    sources::{FeedKey, Offered, Sources},
    status::{Drift, Outcome, Plan, Refreshed, SetStatus, State, Status},
};
use crate::{clock::WallClock, errors::Chain};

/// The kernel is looked at at least this often.
const RECHECK: Duration = Duration::from_secs(60);
/// A read of a list is given up after this; adapters give up sooner themselves.
const FETCH_DEADLINE: Duration = Duration::from_secs(90);

/// What the firewall needs of the outside.
#[derive(Debug)]
pub struct Ports<K, C, F, S, W> {
    /// The kernel's rules.
    pub kernel: K,
    /// Word of changes to them.
    pub changes: C,
    /// Where lists are read.
    pub feed: F,
    /// Where good lists are kept.
    pub files: S,
    /// The time of day.
    pub clock: W,
}

/// The firewall task, ready to run.
#[derive(Debug)]
pub struct Firewall<K, C, F, S, W> {
    wanted: watch::Receiver<Settings>,
    settings: Settings,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    in_force: watch::Sender<bool>,
    sources: Sources,
    enforcer: Enforcer<K, C>,
    keeper: Keeper<S>,
    feed: Arc<F>,
    clock: W,
    fetches: JoinSet<(FeedSource, Result<Fetched, FetchError>)>,
    in_flight: HashMap<Id, FeedKey>,
    due: BTreeMap<FeedKey, Instant>,
    waiting: Vec<Waiting>,
    grants: watch::Receiver<Vec<IpAddr>>,
}

/// Somebody who waits for all lists to be read.
#[derive(Debug)]
struct Waiting {
    left: BTreeSet<FeedKey>,
    done: Vec<Refreshed>,
    reply: oneshot::Sender<Vec<Refreshed>>,
}

/// Why the loop goes on.
enum Reason {
    Stop,
    Settings,
    Grants,
    Command(Option<Command>),
    Hint(Cause),
    Fetched(Option<Result<FetchEnd, tokio::task::JoinError>>),
    Time,
}

type FetchEnd = (Id, (FeedSource, Result<Fetched, FetchError>));

/// The task, and the handle to talk to it.
pub fn new<K: Kernel, C: Changes, F: Feed, S: Files, W: WallClock>(
    wanted: watch::Receiver<Settings>,
    ports: Ports<K, C, F, S, W>,
) -> (Handle, Firewall<K, C, F, S, W>) {
    let Ports { kernel, changes, feed, files, clock } = ports;
    let settings = wanted.borrow().clone();
    let (ask, commands) = mpsc::channel(QUEUE);
    let (status, status_seen) = watch::channel(Status {
        state: State::Starting,
        sets: Vec::new(),
        feeds: Vec::new(),
        drift: Drift::default(),
        packets: BTreeMap::new(),
        cache_error: None,
    });
    let (in_force, in_force_seen) = watch::channel(false);
    let handle = Handle { commands: ask, status: status_seen, in_force: in_force_seen };
    let firewall = Firewall {
        wanted,
        settings,
        commands,
        status,
        in_force,
        sources: Sources::default(),
        enforcer: Enforcer::new(kernel, changes),
        keeper: Keeper::new(files),
        feed: Arc::new(feed),
        clock,
        fetches: JoinSet::new(),
        in_flight: HashMap::new(),
        due: BTreeMap::new(),
        waiting: Vec::new(),
        grants: watch::channel(Vec::new()).1,
    };
    (handle, firewall)
}

impl<K: Kernel, C: Changes, F: Feed, S: Files, W: WallClock> Firewall<K, C, F, S, W> {
    /// Lets in, as the source `grants`, the addresses that this says. Its end leaves the last.
    #[must_use]
    pub fn with_grants(mut self, grants: watch::Receiver<Vec<IpAddr>>) -> Self {
        self.grants = grants;
        self
    }

    /// Runs until told to stop. The rules stay in force afterwards.
    pub async fn run(mut self, stop: CancellationToken) {
        self.take_settings().await;
        self.converge(Cause::Ours).await;
        loop {
            self.start_reads();
            match self.reason(&stop).await {
                Reason::Stop => return,
                Reason::Settings => {
                    self.take_settings().await;
                    self.converge(Cause::Ours).await;
                }
                // Nobody can ask any more, so nobody holds the firewall.
                Reason::Command(None) => return,
                Reason::Command(Some(c)) => self.answer(c).await,
                Reason::Grants => {
                    self.take_grants();
                    self.converge(Cause::Ours).await;
                }
                Reason::Hint(cause) => self.converge(cause).await,
                Reason::Fetched(end) => self.take_read(end).await,
                Reason::Time => self.tick().await,
            }
        }
    }

    async fn reason(&mut self, stop: &CancellationToken) -> Reason {
        let wake = self.wake_at();
        let Self { wanted, commands, enforcer, fetches, grants, .. } = self;
        // Every arm only waits: a cancelled wait on a token, a channel, the netlink socket, the set of
        // reads or a timer takes nothing out of it.
        tokio::select! {
            biased;
            () = stop.cancelled() => Reason::Stop,
            cause = enforcer.hint() => Reason::Hint(cause),
            changed = wanted.changed() => match changed {
                Ok(()) => Reason::Settings,
                Err(_) => Reason::Stop,
            },
            Ok(()) = grants.changed() => Reason::Grants,
            command = commands.recv() => Reason::Command(command),
            end = fetches.join_next_with_id(), if !fetches.is_empty() => Reason::Fetched(end),
            () = time::sleep_until(wake) => Reason::Time,
        }
    }

    fn wake_at(&self) -> Instant {
        let busy: BTreeSet<&FeedKey> = self.in_flight.values().collect();
        let reads = self.due.iter().filter(|(key, _)| !busy.contains(key)).map(|(_, at)| *at);
        reads.chain(self.enforcer.retry_at()).fold(Instant::now() + RECHECK, Instant::min)
    }

    /// Takes over the settings as they are now, and what the disk has for new feeds.
    async fn take_settings(&mut self) {
        self.settings = self.wanted.borrow_and_update().clone();
        let mut kept = self.keeper.load(&self.settings).await;
        let before = std::mem::take(&mut self.sources);
        self.sources = Sources::new(&self.settings, before, |key| kept.remove(key));
        self.take_grants();
        let now = Instant::now();
        self.due = self.sources.feeds().map(|(key, _)| (key.clone(), now)).collect();
        // Nobody waits for a list that is no longer read.
        for waiting in &mut self.waiting {
            waiting.left.retain(|key| self.due.contains_key(key));
        }
    }

    fn take_grants(&mut self) {
        let addresses = self.grants.borrow_and_update().clone();
        self.sources.set_grants(&addresses);
    }

    fn start_reads(&mut self) {
        let now = Instant::now();
        let busy: BTreeSet<FeedKey> = self.in_flight.values().cloned().collect();
        for (key, state) in self.sources.feeds() {
            if busy.contains(key) || self.due.get(key).is_none_or(|at| *at > now) {
                continue;
            }
            let (feed, source) = (Arc::clone(&self.feed), state.source.clone());
            let tag = state.tag().map(str::to_owned);
            let read = self.fetches.spawn(async move {
                let read = feed.fetch(&source.location, tag.as_deref());
                let late = || FetchError::new(format!("no list within {FETCH_DEADLINE:?}"));
                let got = time::timeout(FETCH_DEADLINE, read).await;
                (source, got.unwrap_or_else(|_| Err(late())))
            });
            self.in_flight.insert(read.id(), key.clone());
        }
    }

    async fn take_read(&mut self, end: Option<Result<FetchEnd, tokio::task::JoinError>>) {
        let Some(end) = end else { return };
        let (id, result) = match end {
            Ok((id, (source, got))) => (id, Some((source, got))),
            Err(panicked) => {
                tracing::error!(error = %panicked, "reading a list panicked");
                (panicked.id(), None)
            }
        };
        let Some(key) = self.in_flight.remove(&id) else { return };
        let outcome = match result {
            Some((source, got)) => self.take_list(&key, &source, got),
            None => self.failed(&key, "reading the list panicked".to_owned()),
        };
        // None: the feed is configured otherwise by now, and is read anew at once.
        let Some(outcome) = outcome else { return };
        self.schedule(&key);
        if let Outcome::Accepted { .. } = outcome {
            self.keep(&key).await;
        }
        let refreshed = Refreshed {
            source: key.source.as_str().to_owned(),
            service: self.service(&key),
            outcome,
        };
        for w in &mut self.waiting {
            if w.left.remove(&key) {
                w.done.push(refreshed.clone());
            }
        }
        self.converge(Cause::Ours).await;
    }

    fn service(&self, key: &FeedKey) -> String {
        let mut feeds = self.sources.feeds();
        feeds.find(|(k, _)| *k == key).map(|(_, f)| f.source.service.clone()).unwrap_or_default()
    }

    /// Takes in what was read, if the feed is still configured as it was when the read began.
    fn take_list(
        &mut self,
        key: &FeedKey,
        source: &FeedSource,
        got: Result<Fetched, FetchError>,
    ) -> Option<Outcome> {
        let now = self.clock.now();
        let guard = self.settings.guard;
        let state = self.sources.feed_mut(key)?;
        if (&state.source.location, &state.source.service) != (&source.location, &source.service) {
            return None;
        }
        let (bytes, tag) = match got {
            Ok(Fetched::NotModified) => {
                state.unchanged(now);
                return Some(Outcome::Unchanged);
            }
            Ok(Fetched::Body { bytes, tag }) => (bytes, tag),
            Err(e) => return self.failed(key, Chain(&e).to_string()),
        };
        let list = match feed::parse(&bytes, &source.service, guard.max_ranges) {
            Ok(list) => list,
            Err(e) => return self.failed(key, Chain(&e).to_string()),
        };
        let sync_token = list.sync_token;
        Some(match state.offer(list, tag, &guard, now) {
            Offered::Same => Outcome::Unchanged,
            Offered::Accepted => {
                tracing::info!(source = key.source.as_str(), sync_token, "address list accepted");
                Outcome::Accepted { sync_token }
            }
            Offered::Held(hold) => {
                let why = hold.to_string();
                tracing::error!(
                    source = key.source.as_str(),
                    sync_token,
                    why,
                    "address list held until approved"
                );
                Outcome::Held { why }
            }
            Offered::Refused(why) => {
                let why = why.to_string();
                tracing::error!(
                    source = key.source.as_str(),
                    why,
                    "address list refused; the last good one stays"
                );
                Outcome::Failed { why }
            }
        })
    }

    fn failed(&mut self, key: &FeedKey, why: String) -> Option<Outcome> {
        tracing::warn!(
            source = key.source.as_str(),
            why,
            "address list not read; the last good one stays"
        );
        self.sources.feed_mut(key)?.failed(why.clone());
        Some(Outcome::Failed { why })
    }

    fn schedule(&mut self, key: &FeedKey) {
        let Some(state) = self.sources.feed_mut(key) else { return };
        // Only spreads hosts out in time; a hasher's random keys do.
        let random = RandomState::new().build_hasher().finish();
        let wait = pace::next_read(state.source.every, state.failures(), random);
        self.due.insert(key.clone(), Instant::now() + wait);
    }

    async fn keep(&mut self, key: &FeedKey) {
        let mut feeds = self.sources.feeds();
        let good = feeds.find(|(k, _)| *k == key).and_then(|(_, f)| f.good()).cloned();
        drop(feeds);
        if let Some(good) = good {
            self.keeper.store(&self.settings.state_dir, key, &good).await;
        }
    }

    async fn tick(&mut self) {
        for key in self.keeper.unsaved() {
            self.keep(&key).await;
        }
        self.converge(Cause::Ours).await;
    }

    fn want(&mut self) -> Ruleset {
        plan::desired(&self.settings, &self.sources.in_force())
    }

    /// Brings the kernel in line, tells what came of it, and answers those who waited for it.
    async fn converge(&mut self, cause: Cause) {
        let now = self.clock.now();
        for key in self.sources.expire(&self.settings.guard, now) {
            tracing::info!(source = key.source.as_str(), "withdrawn ranges are closed now");
            self.keep(&key).await;
        }
        let want = self.want();
        match self.settings.enforce {
            Enforce::Yes => self.enforcer.converge(&want, &cause, now).await,
            Enforce::PlanOnly => self.enforcer.look(&want).await,
        }
        self.publish();
        for w in std::mem::take(&mut self.waiting) {
            if w.left.is_empty() {
                // Whoever asked may have gone.
                w.reply.send(w.done).unwrap_or_default();
            } else {
                self.waiting.push(w);
            }
        }
    }

    fn publish(&mut self) {
        let status = self.snapshot();
        let stands = matches!(status.state, State::InForce { .. } | State::PlanOnly { .. });
        self.status.send_replace(status);
        if stands {
            self.in_force.send_if_modified(|was| !std::mem::replace(was, true));
        }
    }

    fn snapshot(&mut self) -> Status {
        let want = self.want();
        let narrow = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let set = |rule: &plan::Allow| {
            let set = want.sets.get(&rule.source).cloned().unwrap_or_default();
            SetStatus {
                source: rule.source.clone(),
                tcp: rule.ports.iter().copied().collect(),
                ranges: set.len(),
                v4_addresses: narrow(set.v4.addresses()),
                v6_networks: narrow(set.v6.addresses() >> 64),
            }
        };
        Status {
            state: self.enforcer.state.clone(),
            sets: want.rules.iter().map(set).collect(),
            feeds: self.sources.status(&self.settings.guard),
            drift: self.enforcer.drift(),
            packets: self.enforcer.packets.clone(),
            cache_error: self.keeper.error(),
        }
    }

    async fn answer(&mut self, command: Command) {
        // A reply that nobody waits for any more is no failure.
        match command {
            Command::Status(reply) => {
                if let Err(e) = self.enforcer.read().await {
                    tracing::debug!(error = %Chain(&e), "packet counts cannot be read");
                }
                self.publish();
                reply.send(self.snapshot()).unwrap_or_default();
            }
            Command::Plan(reply) => {
                let plan = self.plan().await;
                reply.send(plan).unwrap_or_default();
            }
            Command::Explain(ip, port, reply) => {
                let state = self.snapshot().state;
                let answer = explain(ip, port, &self.settings, &self.sources, &state);
                reply.send(answer).unwrap_or_default();
            }
            Command::Refresh(reply) => self.refresh(reply).await,
            Command::Approve(source, reply) => {
                let answer = self.approve(&source).await;
                reply.send(answer).unwrap_or_default();
            }
        }
    }

    async fn refresh(&mut self, reply: oneshot::Sender<Vec<Refreshed>>) {
        let left: BTreeSet<FeedKey> = self.sources.feeds().map(|(k, _)| k.clone()).collect();
        if self.waiting.len() >= QUEUE {
            let why = "too many refreshes are running already".to_owned();
            let busy = left.iter().map(|key| Refreshed {
                source: key.source.as_str().to_owned(),
                service: self.service(key),
                outcome: Outcome::Failed { why: why.clone() },
            });
            return reply.send(busy.collect()).unwrap_or_default();
        }
        let now = Instant::now();
        for key in &left {
            self.due.insert(key.clone(), now);
        }
        let alone = left.is_empty();
        self.waiting.push(Waiting { left, done: Vec::new(), reply });
        if alone {
            self.converge(Cause::Ours).await;
        }
    }

    async fn approve(&mut self, source: &SourceName) -> Result<Outcome, ApproveError> {
        let name = source.as_str().to_owned();
        let (now, guard) = (self.clock.now(), self.settings.guard);
        let feeds = self.sources.feeds().map(|(key, _)| key.clone());
        let keys: Vec<FeedKey> = feeds.filter(|key| key.source == *source).collect();
        if keys.is_empty() {
            return Err(ApproveError::NoSource(name));
        }
        let mut taken = None;
        for key in keys {
            let Some(state) = self.sources.feed_mut(&key) else { continue };
            match state.approve(&guard, now) {
                Some(Offered::Accepted) => {
                    let sync_token = state.good().map_or(0, |g| g.sync_token);
                    tracing::warn!(
                        source = name,
                        sync_token,
                        "held address list approved by an operator"
                    );
                    taken = Some(Outcome::Accepted { sync_token });
                    self.keep(&key).await;
                }
                Some(Offered::Refused(why)) => return Err(ApproveError::Refused(why.to_string())),
                Some(Offered::Same | Offered::Held(_)) | None => {}
            }
        }
        self.converge(Cause::Ours).await;
        taken.ok_or(ApproveError::NothingHeld(name))
    }

    async fn plan(&mut self) -> Plan {
        let want = self.want();
        let held = self.sources.status(&self.settings.guard);
        let mut plan = Plan {
            differs: true,
            sets: Vec::new(),
            other: Vec::new(),
            rules: render::rule_texts(&want),
            held: held.into_iter().filter(|f| f.held.is_some()).collect(),
        };
        match self.enforcer.read().await {
            Ok(have) => {
                let change = self.enforcer.compare(&want, &have);
                plan.differs = change.is_some();
                plan.other = change.map(|c| c.differences).unwrap_or_default();
                plan.sets = plan::set_changes(&want, &have);
            }
            Err(e) => plan.other.push(format!("unknown: {}", Chain(&e))),
        }
        plan
    }
}
