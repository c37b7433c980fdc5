//! The loop: wait for a reason, take in lists, apply, report. One task owns all state.

#[path = "preview.rs"]
pub(super) mod preview;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Good,
    enforce::{Cause, Enforcer},
    explain::explain,
    handle::{Command, Handle, QUEUE},
    history::{Book, Who},
    keep::Keeper,
    model::AddrSet,
    plan,
    ports::{Changes, Feed, Files, Kernel},
    reads::{Read, Waiting},
    rules,
    ruleset::{Allow, Ruleset, desired},
    safety::Fence,
    settings::{Enforce, Settings, SourceName},
    sources::{FeedKey, Sources},
    status::{Drift, Plan, SetStatus, State, Status},
};
use crate::{clock::WallClock, errors::Chain};

/// The kernel is looked at at least this often.
const RECHECK: Duration = Duration::from_secs(60);

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
    pub(super) settings: Settings,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    in_force: watch::Sender<bool>,
    sets: watch::Sender<BTreeMap<SourceName, AddrSet>>,
    pub(super) sources: Sources,
    pub(super) enforcer: Enforcer<K, C>,
    keeper: Keeper<S>,
    pub(super) feed: Arc<F>,
    pub(super) clock: W,
    pub(super) fetches: JoinSet<Read>,
    pub(super) in_flight: HashMap<Id, FeedKey>,
    pub(super) due: BTreeMap<FeedKey, Instant>,
    pub(super) waiting: Vec<Waiting>,
    grants: watch::Receiver<BTreeMap<IpAddr, u64>>,
    fence: Option<Fence>,
    /// When the kernel is looked at without any reason.
    recheck_at: Instant,
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

/// The end of a read, by the id of its task.
pub(super) type FetchEnd = (Id, Read);

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
        safety: None,
    });
    let (in_force, in_force_seen) = watch::channel(false);
    let (sets, sets_seen) = watch::channel(BTreeMap::new());
    let handle =
        Handle { commands: ask, status: status_seen, in_force: in_force_seen, sets: sets_seen };
    let firewall = Firewall {
        wanted,
        settings,
        commands,
        status,
        in_force,
        sets,
        sources: Sources::default(),
        enforcer: Enforcer::new(kernel, changes),
        keeper: Keeper::new(files),
        feed: Arc::new(feed),
        clock,
        fetches: JoinSet::new(),
        in_flight: HashMap::new(),
        due: BTreeMap::new(),
        waiting: Vec::new(),
        grants: watch::channel(BTreeMap::new()).1,
        fence: None,
        recheck_at: Instant::now(),
    };
    (handle, firewall)
}

impl<K: Kernel, C: Changes, F: Feed, S: Files, W: WallClock> Firewall<K, C, F, S, W> {
    /// Lets in, as the source `grants`, the addresses that this says, each until its end in
    /// milliseconds since boot. The end of the sender leaves the last.
    #[must_use]
    pub fn with_grants(mut self, grants: watch::Receiver<BTreeMap<IpAddr, u64>>) -> Self {
        self.grants = grants;
        self
    }

    /// Writes each change of the rules into this book. The first one is on the word of `who`.
    #[must_use]
    pub fn with_history(mut self, book: Book, who: Who) -> Self {
        self.enforcer.history = book;
        self.enforcer.history.because(who);
        self
    }

    /// Enforces no settings that this forbids.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
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
                    self.enforcer.history.because(Who::Configuration);
                    self.take_settings().await;
                    self.converge(Cause::Ours).await;
                }
                // Nobody can ask any more, so nobody holds the firewall.
                Reason::Command(None) => return,
                Reason::Command(Some(c)) => self.answer(c).await,
                Reason::Grants => {
                    self.take_grants();
                    self.enforcer.history.because(Who::Grants);
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
        reads.chain(self.enforcer.retry_at()).fold(self.recheck_at, Instant::min)
    }

    /// The sources of `settings`: state that there is goes on, for new lists the disk is looked at.
    pub(super) async fn sources_of(&mut self, settings: &Settings, before: Sources) -> Sources {
        let mut kept = self.keeper.load(settings).await;
        Sources::new(settings, before, |key, source| {
            let fits =
                |k: &FeedKey, g: &Good| k.source == key.source && g.service == source.service;
            let here = kept.get(key).filter(|g| fits(key, g)).map(|_| key.clone());
            let there = || kept.iter().find(|(k, g)| fits(k, g)).map(|(k, _)| k.clone());
            kept.remove(&here.or_else(there)?)
        })
    }

    /// Takes over the settings as they are now, and what the disk has for new feeds.
    async fn take_settings(&mut self) {
        self.settings = self.wanted.borrow_and_update().clone();
        let before = std::mem::take(&mut self.sources);
        let settings = self.settings.clone();
        self.sources = self.sources_of(&settings, before).await;
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
        self.sources.set_grants(addresses);
    }

    pub(super) async fn keep(&mut self, key: &FeedKey) {
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
        desired(&self.settings, &self.sources.in_force_by_part(), &self.sources.timed())
    }

    /// Brings the kernel in line, tells what came of it, and answers those who waited for it.
    pub(super) async fn converge(&mut self, cause: Cause) {
        self.recheck_at = Instant::now() + RECHECK;
        // Their time is over, and the settings before are on their way.
        if self.fence.as_ref().is_some_and(|f| f.forbids(&self.settings)) {
            return;
        }
        let now = self.clock.now();
        for key in self.sources.expire(&self.settings.guard, now) {
            tracing::info!(source = key.source.as_str(), "withdrawn ranges are closed now");
            let source = key.source.as_str().to_owned();
            self.enforcer.history.because(Who::Withdrawal { source });
            self.keep(&key).await;
        }
        let want = self.want();
        match self.settings.enforce {
            Enforce::Yes => self.enforcer.converge(&want, &cause, now).await,
            Enforce::PlanOnly => self.enforcer.look(&want, now).await,
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
        let sets = self.sources.in_force();
        self.sets.send_if_modified(|was| {
            let differs = *was != sets;
            *was = sets;
            differs
        });
        let stands = matches!(status.state, State::InForce { .. } | State::PlanOnly { .. });
        self.status.send_replace(status);
        if stands {
            self.in_force.send_if_modified(|was| !std::mem::replace(was, true));
        }
    }

    fn snapshot(&mut self) -> Status {
        let want = self.want();
        let narrow = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        let set = |rule: &Allow| {
            let set = want.addresses(&rule.source);
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
            feeds: self.sources.status(&self.settings.guard, self.clock.now()),
            drift: self.enforcer.drift(),
            packets: self.enforcer.packets.clone(),
            cache_error: self.keeper.error(),
            safety: None,
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
            Command::Ruleset(reply) => reply.send(self.want()).unwrap_or_default(),
            Command::Preview(settings, reply) => {
                let preview = self.preview(*settings).await;
                drop(reply.send(preview));
            }
            Command::ShareKernel(reply) => drop(reply.send(self.enforcer.share())),
            Command::Refresh(reply) => self.refresh(reply).await,
            Command::Approve(source, version, by, reply) => {
                let answer = self.approve(&source, version, by).await;
                reply.send(answer).unwrap_or_default();
            }
        }
    }

    async fn plan(&mut self) -> Plan {
        let want = self.want();
        let held = self.sources.status(&self.settings.guard, self.clock.now());
        let mut plan = Plan {
            differs: true,
            sets: Vec::new(),
            other: Vec::new(),
            rules: rules::texts(&want),
            held: held.into_iter().filter(|f| f.held.is_some()).collect(),
        };
        match self.enforcer.read().await {
            Ok(have) => {
                let change = plan::compare(&want, &have);
                plan.differs = change.is_some();
                plan.other = change.map(|c| c.differences).unwrap_or_default();
                plan.sets = plan::set_changes(&want, &have);
            }
            Err(e) => plan.other.push(format!("unknown: {}", Chain(&e))),
        }
        plan
    }
}
