//! The loop: judge what is offered, put on trial what is applied, end trials in time.

#[path = "trial.rs"]
mod trial;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        handle::Handle,
        ports::Files,
        preview::Preview,
        settings::{Settings, Source},
        status::State,
    },
    handle::{ApplyRequest, Command, Offer, QUEUE, Refused, SafetyHandle, Tested},
    lockout::{self, Surroundings},
    policy::{self, Probe, Verdict},
    ports::{BootClock, Fence, FenceAt, Guardians, Prober, View},
    state::{self, Kept},
    status::{Applied, CutSession, Proposal, SafetyStatus, TrialStatus},
};
use crate::{clock::WallClock, errors::Chain};

/// Time since boot is looked at this often while settings are on trial.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A disk that did not take the state is asked again after this.
const STORE_AGAIN: Duration = Duration::from_secs(60);

/// What safe changes need of the outside.
#[derive(Debug)]
pub struct SafetyPorts<V, G, P, S, W> {
    /// Who is connected.
    pub view: V,
    /// What puts rules back although the agent is dead.
    pub guardians: G,
    /// Real packets.
    pub prober: P,
    /// Where the state is kept.
    pub files: S,
    /// The time of day.
    pub clock: W,
    /// Time since boot.
    pub boot: Arc<dyn BootClock>,
}

/// The task that sees to safe changes.
#[derive(Debug)]
pub struct Safety<V, G, P, S, W> {
    ports: SafetyPorts<V, G, P, S, W>,
    settings: watch::Sender<Settings>,
    fence: watch::Sender<Option<FenceAt>>,
    kept: Kept,
    /// What the file said last and nobody judged yet.
    offered: Option<Settings>,
    file: PathBuf,
    trouble: Option<String>,
    /// When what the disk did not take is written again.
    store_at: Option<Instant>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<SafetyStatus>,
    handle: SafetyHandle,
}

impl<V: View, G: Guardians, P: Prober, S: Files + Sync, W: WallClock> Safety<V, G, P, S, W> {
    /// Reads what is kept, and decides which settings to begin with. A guardian of the agent before is
    /// ended: a trial that goes on gets one of ours.
    pub async fn open(mut ports: SafetyPorts<V, G, P, S, W>, offered: Settings) -> Self {
        let file = offered.state_dir.join(state::FILE);
        let (kept, trouble) = read(&ports.files, &file).await;
        if let Some(guardian) = kept.as_ref().and_then(|k| k.trial.as_ref()?.guardian) {
            ports.guardians.end(guardian).await;
        }
        let (now_ms, boot_id) = (ports.boot.now(), ports.boot.boot_id());
        let start = state::resolve(kept, offered, now_ms, &boot_id, ports.clock.now());
        let (ask, commands) = mpsc::channel(QUEUE);
        let (status, seen) = watch::channel(SafetyStatus::default());
        let fence = watch::Sender::new(start.kept.trial.as_ref().map(FenceAt::of));
        let settings = watch::Sender::new(start.settings);
        let handle = SafetyHandle { commands: ask, status: seen, settings: settings.subscribe() };
        let safety = Self {
            ports,
            settings,
            fence,
            kept: start.kept,
            offered: start.offered,
            file,
            trouble,
            store_at: None,
            commands,
            status,
            handle,
        };
        safety.publish();
        safety
    }

    /// The settings in force, as they change.
    #[must_use]
    pub fn settings(&self) -> watch::Receiver<Settings> {
        self.settings.subscribe()
    }

    /// What keeps the firewall from enforcing a trial whose time is over.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { at: self.fence.subscribe(), clock: Arc::clone(&self.ports.boot) }
    }

    /// A handle.
    #[must_use]
    pub fn handle(&self) -> SafetyHandle {
        self.handle.clone()
    }

    /// Runs until told to stop. A trial that goes on then is the guardian's, and the next agent's.
    pub async fn run(mut self, firewall: Handle, stop: CancellationToken) {
        if self.kept.trial.is_some() {
            self.arm_again(&firewall).await;
        }
        self.store().await;
        if self.kept.trial.is_none() {
            self.judge_offered(&firewall).await;
        }
        loop {
            let look_at = self.next_look();
            // Every arm only waits: what loses is still there.
            let command = tokio::select! {
                () = stop.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => Some(command),
                    None => return,
                },
                () = time::sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => None,
            };
            self.end_if_due(&firewall).await;
            if self.store_at.is_some_and(|at| at <= Instant::now()) {
                self.store().await;
            }
            if let Some(command) = command {
                self.answer(command, &firewall).await;
            }
            self.publish();
        }
    }

    fn next_look(&self) -> Option<Instant> {
        let trial = self.kept.trial.as_ref().map(|t| {
            let left = t.until_ms.saturating_sub(self.ports.boot.now());
            Instant::now() + Duration::from_millis(left).min(LOOK_EVERY)
        });
        trial.into_iter().chain(self.store_at).min()
    }

    async fn answer(&mut self, command: Command, firewall: &Handle) {
        // A reply that nobody waits for any more is no failure.
        match command {
            Command::Offer(settings, reply) => {
                let came = self.offer(*settings, firewall).await;
                reply.send(came).unwrap_or_default();
            }
            Command::Plan(settings, asker, reply) => {
                let plan = self.propose(&settings, asker, firewall).await;
                drop(reply.send(plan.map(|(proposal, _)| proposal)));
            }
            Command::Apply(request, reply) => {
                let came = self.apply(*request, firewall).await;
                // Told before whoever asked can ask for the state.
                self.publish();
                drop(reply.send(came));
            }
            Command::Confirm(reply) => {
                let came = self.confirm(firewall).await;
                self.publish();
                drop(reply.send(came));
            }
            Command::Rollback(by, reply) => {
                let came = match self.kept.trial.is_some() {
                    true => self.roll_back(format!("rolled back by {by}"), firewall).await,
                    false => Err(Refused::NoTrial),
                };
                self.publish();
                drop(reply.send(came));
            }
            Command::Test(settings, reply) => {
                let tested = match firewall.preview((*settings).clone()).await {
                    Ok(preview) => Ok(self.test(&settings, &preview).await),
                    Err(gone) => Err(gone.into()),
                };
                drop(reply.send(tested));
            }
            Command::Probe(ip, port, reply) => {
                let verdict = self.probe(Probe { from: ip, port }, firewall).await;
                drop(reply.send(verdict));
            }
            Command::Foreign(reply) => {
                let foreign = self.ports.view.foreign().await;
                reply.send(foreign).unwrap_or_default();
            }
        }
    }

    /// Settings of a reload. Nobody in particular asks, so that no login may be cut.
    async fn offer(&mut self, settings: Settings, firewall: &Handle) -> Offer {
        // A later word of the file counts instead of an earlier one.
        self.offered = None;
        if settings == *self.kept.now() {
            // The file says something else than what was refused.
            if self.kept.trial.is_none() && self.kept.refused.take().is_some() {
                self.store().await;
            }
            return Offer::Same;
        }
        if self.kept.trial.is_some() {
            self.offered = Some(settings);
            return Offer::KeptBack("another change waits to be confirmed".to_owned());
        }
        if let Some(refused) = self.kept.rolled_back(&settings) {
            return Offer::KeptBack(refused.why.clone());
        }
        let why = match self.propose(&settings, None, firewall).await {
            Ok((proposal, _)) if proposal.refused.is_empty() => {
                self.take(settings, firewall).await;
                return Offer::Taken;
            }
            Ok((proposal, _)) => proposal.refused.join("; "),
            Err(e) => e.to_string(),
        };
        tracing::error!(why, "the firewall settings of the file are kept back");
        let now = self.ports.clock.now();
        self.kept.refuse(settings, why.clone(), now, false);
        self.store().await;
        Offer::KeptBack(why)
    }

    async fn judge_offered(&mut self, firewall: &Handle) {
        if let Some(settings) = self.offered.take() {
            self.offer(settings, firewall).await;
        }
        self.publish();
    }

    /// These settings are in force for good.
    async fn take(&mut self, settings: Settings, firewall: &Handle) {
        self.kept = Kept { in_force: settings.clone(), refused: None, trial: None };
        self.store().await;
        self.put(settings, firewall).await;
    }

    /// Makes the firewall work with these settings; why the kernel has not got them, if it has not.
    async fn put(&mut self, settings: Settings, firewall: &Handle) -> Option<String> {
        self.settings.send_replace(settings);
        // The firewall takes settings before it answers, and tries them before it takes a question.
        match firewall.status().await {
            Ok(status) => match status.state {
                State::Failed { why, .. } => Some(why),
                State::Starting | State::InForce { .. } | State::PlanOnly { .. } => None,
            },
            Err(gone) => Some(gone.to_string()),
        }
    }

    /// What settings would change, and why not.
    async fn propose(
        &mut self,
        settings: &Settings,
        asker: Option<i32>,
        firewall: &Handle,
    ) -> Result<(Proposal, Preview), Refused> {
        let preview = firewall.preview(settings.clone()).await?;
        let around = self.ports.view.look(asker).await;
        let (now, then) = (preview.now.as_ref(), preview.want.as_ref());
        let cut = lockout::cut(now, then, &around.connections);
        let cut = cut.iter().map(|c| session(c, &around)).collect();
        let grants = settings.sources.iter().find(|(_, parts)| parts.contains(&Source::Grants));
        let grants = grants.map(|(name, _)| name.as_str());
        let lockouts = lockout::judge(now, then, &around, grants);
        let mut refused: Vec<String> = lockouts.iter().map(ToString::to_string).collect();
        let (tests, not_probed) = self.test(settings, &preview).await;
        let failed = tests.iter().filter(|t| !t.passed);
        refused.extend(failed.map(|t| format!("test fails: {}: {}", t.test, t.wrong.join(", "))));
        let proposal = Proposal {
            plan: preview.plan.clone(),
            settings_differ: settings != self.kept.now(),
            cut,
            refused,
            tests,
            not_probed,
        };
        Ok((proposal, preview))
    }

    /// Tries the tests by packets, or by reading the rules where no packet can be sent.
    async fn test(&mut self, settings: &Settings, preview: &Preview) -> Tested {
        let probes: Vec<Vec<Probe>> =
            settings.tests.iter().map(|t| policy::probes_of(t, &preview.sets)).collect();
        let all: Vec<Probe> = probes.iter().flatten().copied().collect();
        if all.is_empty() && settings.tests.is_empty() {
            return (Vec::new(), None);
        }
        let (verdicts, not_probed) = match self.ports.prober.probe(&preview.rules, &all).await {
            Ok(answers) => (answers.verdicts, None),
            Err(e) => {
                let read = all.iter().map(|p| policy::expected(Some(&preview.rules), p));
                (read.collect(), Some(Chain(&e).to_string()))
            }
        };
        let mut tried = all.into_iter().zip(verdicts);
        let results = settings.tests.iter().zip(&probes).map(|(test, probes)| {
            let of_test: Vec<(Probe, Verdict)> = tried.by_ref().take(probes.len()).collect();
            policy::result_of(test, &of_test)
        });
        (results.collect(), not_probed)
    }

    async fn probe(&mut self, probe: Probe, firewall: &Handle) -> Result<Verdict, Refused> {
        let settings = self.kept.now().clone();
        let preview = firewall.preview(settings).await?;
        let answers = self.ports.prober.probe(&preview.rules, &[probe]).await;
        let answers = answers.map_err(|e| Refused::Failed(Chain(&e).to_string()))?;
        let first = answers.verdicts.first().copied();
        first.ok_or_else(|| Refused::Failed("no packet was sent".to_owned()))
    }

    async fn apply(
        &mut self,
        request: ApplyRequest,
        firewall: &Handle,
    ) -> Result<Applied, Refused> {
        let ApplyRequest { settings, confirm, force, asker, by } = request;
        if self.kept.trial.is_some() {
            return Err(Refused::OnTrial);
        }
        let (proposal, preview) = self.propose(&settings, asker, firewall).await?;
        if !force && !proposal.refused.is_empty() {
            return Err(Refused::Unsafe(proposal.refused));
        }
        let Some(confirm) = confirm.filter(|_| proposal.settings_differ) else {
            let before = self.kept.clone();
            self.take(settings, firewall).await;
            if let Some(why) = self.failure(firewall).await {
                let old = before.in_force.clone();
                self.kept = before;
                self.store().await;
                self.put(old, firewall).await;
                return Err(Refused::Failed(why));
            }
            return Ok(Applied { proposal, until: None });
        };
        let trial = self.begin_trial(settings, confirm, by, preview, firewall).await?;
        let until = self.wall(trial.until_ms);
        Ok(Applied { proposal, until: Some(until) })
    }

    async fn failure(&self, firewall: &Handle) -> Option<String> {
        match firewall.status().await.map(|s| s.state) {
            Ok(State::Failed { why, .. }) => Some(why),
            Ok(State::Starting | State::InForce { .. } | State::PlanOnly { .. }) => None,
            Err(gone) => Some(gone.to_string()),
        }
    }

    async fn store(&mut self) {
        let stored = match state::encode(&self.kept) {
            Ok(bytes) => self.ports.files.write(&self.file, bytes).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        self.trouble = stored.err().map(|e| format!("write {}: {e}", self.file.display()));
        self.store_at = self.trouble.as_ref().map(|_| Instant::now() + STORE_AGAIN);
        if let Some(why) = &self.trouble {
            tracing::error!(why, "the state of the firewall's settings is not kept");
        }
    }

    fn wall(&self, until_ms: u64) -> crate::clock::Timestamp {
        let left = until_ms.saturating_sub(self.ports.boot.now());
        self.ports.clock.now().plus(Duration::from_millis(left))
    }

    fn publish(&self) {
        let trial = self.kept.trial.as_ref();
        let status = SafetyStatus {
            trial: trial.map(|t| TrialStatus { until: self.wall(t.until_ms), by: t.by.clone() }),
            kept_back: self.kept.refused.as_ref().map(|r| r.kept_back.clone()),
            trouble: self.trouble.clone(),
        };
        self.status.send_if_modified(|was| {
            let differs = *was != status;
            *was = status;
            differs
        });
    }
}

fn session(c: &lockout::Connection, around: &Surroundings) -> CutSession {
    CutSession {
        from: c.remote.to_string(),
        port: c.local.port(),
        ssh: around.ssh_ports.contains(&c.local.port()),
        own: around.own == Some(*c),
    }
}

/// What is kept beside the lists of these settings, if it can be read.
pub async fn kept<S: Files>(files: &S, settings: &Settings) -> Option<Kept> {
    read(files, &settings.state_dir.join(state::FILE)).await.0
}

async fn read<S: Files>(files: &S, file: &std::path::Path) -> (Option<Kept>, Option<String>) {
    let why = match files.read(file, state::MAX_BYTES).await {
        Ok(None) => return (None, None),
        Ok(Some(bytes)) => match state::decode(&bytes) {
            Ok(kept) => return (Some(kept), None),
            Err(e) => Chain(&e).to_string(),
        },
        Err(e) => e.to_string(),
    };
    tracing::error!(path = %file.display(), why, "the state of the firewall's settings is unusable");
    (None, Some(format!("read {}: {why}", file.display())))
}
