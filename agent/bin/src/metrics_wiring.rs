//! What metrics are made of: the agent's parts as facts, the host's identity, and the way to the logs.

use std::{collections::BTreeMap, time::Duration};

use palisade_agent::{
    access,
    clock::{SystemClock, Timestamp, WallClock as _},
    config::Settings,
    control::Modules,
    firewall, logs,
    metrics::{
        self, AccessFacts, AgentSource, Facts, FirewallFacts, Identity, LogsFacts, Parts,
        PatchFacts, ProcessFacts, SourceFacts, Taken, Used,
    },
    origin, patch, supervise,
    sys::{host_figures::ThisHost, machine::host_name},
    task::Scope,
};
use palisade_agent_aws::HostIdentity;
use palisade_types::{ProcessName, ProcessState, ProcessStatus, grant::GrantState};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

/// The stream of the documents, as if a process of this name wrote them.
const PROCESS: &str = "palisade-metrics";
/// Rest before the metadata is asked again who this instance is, while that is not known or it is in no
/// group: metadata may be late, and an instance may join a group. The question does not leave the host.
const AGAIN: Duration = Duration::from_secs(60);
/// How long a part of the agent may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Starts the sampler.
pub(crate) fn start(
    scope: &mut Scope,
    wanted: watch::Receiver<metrics::Settings>,
    agent: Agent,
    all: &Settings,
) -> metrics::Handle {
    let (identity, known) = watch::channel(None);
    let lines = LogLines(agent.modules.clone());
    let parts = Parts { host: ThisHost, agent, lines, clock: SystemClock };
    let (handle, task) = metrics::new(wanted, known, parts);
    let host = all.aws.as_ref().map(|_| HostIdentity::kept_in(&all.host.state_dir));
    let stop = scope.stop();
    scope.spawn("metrics identity", tell_identity(host, identity, stop));
    let stop = scope.stop();
    scope.spawn("metrics", task.run(stop));
    handle
}

/// Finds out who this host is, and whether it is in a group.
async fn tell_identity(
    host: Option<HostIdentity>,
    identity: watch::Sender<Option<Identity>>,
    stop: CancellationToken,
) {
    let look = async {
        let Some(host) = host else {
            identity.send_replace(Some(Identity { instance: host_name(), group: None }));
            return;
        };
        loop {
            let (id, group) = (host.instance().await, host.auto_scaling_group().await);
            let is_complete = id.is_some() && group.is_some();
            let instance = id.unwrap_or_else(host_name);
            identity.send_replace(Some(Identity { instance, group }));
            if is_complete {
                return;
            }
            time::sleep(AGAIN).await;
        }
    };
    stop.run_until_cancelled(look).await;
    // A task that ends before it is told to is taken for one that failed.
    stop.cancelled().await;
}

/// Lines go to the log module, where there is one.
struct LogLines(watch::Receiver<Modules>);

impl metrics::Lines for LogLines {
    fn write(&mut self, line: &str) -> Taken {
        let handle = self.0.borrow().logs.clone();
        let (Some(handle), Some(from)) = (handle, logs::LineSource::own(PROCESS)) else {
            return Taken::Unwanted;
        };
        match handle.try_append(&from, format!("{line}\n").as_bytes()) {
            Ok(true) => Taken::Yes,
            // Waited for by nobody here: the next sample has all that this one has.
            Ok(false) | Err(_) => Taken::Dropped,
        }
    }
}

/// The agent's parts, as they are there at the time.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) modules: watch::Receiver<Modules>,
    /// None until programs are supervised.
    pub(crate) supervise: watch::Receiver<Option<supervise::Handle>>,
}

impl AgentSource for Agent {
    async fn facts(&mut self) -> Facts {
        let modules = self.modules.borrow().clone();
        let supervise = self.supervise.borrow().clone();
        let now = SystemClock.now();
        let programs = async {
            match &supervise {
                Some(handle) => processes(handle).await,
                None => Vec::new(),
            }
        };
        let firewall = async {
            let handle = modules.firewall.as_ref()?;
            let status = match time::timeout(WITHIN, handle.status()).await {
                Ok(Ok(status)) => status,
                // It is busy or is started again: what it last said, without newer packet counts.
                Ok(Err(_)) | Err(_) => handle.watch().borrow().clone(),
            };
            Some(firewall_facts(&status, now))
        };
        let (processes, firewall) = tokio::join!(programs, firewall);
        Facts {
            processes,
            firewall,
            origin_secret_age: modules.origin.and_then(|h| origin_age(&h.status(), now)),
            logs: modules.logs.map(|h| logs_facts(h.status())),
            patch: modules.patch.and_then(|h| patch_facts(&h.status(), now)),
            access: modules.access.map(|h| access_facts(&h.status())),
        }
    }
}

async fn processes(handle: &supervise::Handle) -> Vec<ProcessFacts> {
    let (infos, used) =
        tokio::join!(time::timeout(WITHIN, handle.infos()), time::timeout(WITHIN, handle.used()));
    let used = used.ok().and_then(Result::ok).unwrap_or_default();
    let infos = infos.ok().and_then(Result::ok).unwrap_or_default();
    let jobs: BTreeMap<&ProcessName, bool> =
        infos.iter().map(|i| (&i.spec.name, i.spec.oneshot)).collect();
    let status = handle.status().borrow().clone();
    let one = |p: &ProcessStatus| ProcessFacts {
        program: p.program.to_string(),
        process: p.name.to_string(),
        running: p.state == ProcessState::Running,
        // Of a process that nobody tells about it is not known whether it is a job.
        ready: ready(p, jobs.get(&p.name).copied().unwrap_or(true)),
        fatal: p.state == ProcessState::Fatal,
        restarts: p.restarts,
        used: used.get(&p.name).map(|r| Used {
            start_ticks: r.start_ticks,
            cpu: r.cpu,
            memory: r.memory,
        }),
    };
    status.iter().map(one).collect()
}

/// Whether a process that is wanted up is ready; none of one that is not, or that comes and goes.
fn ready(p: &ProcessStatus, is_job: bool) -> Option<bool> {
    let is_wanted = match p.state {
        ProcessState::Starting
        | ProcessState::Running
        | ProcessState::Backoff
        | ProcessState::Fatal => true,
        ProcessState::Stopped
        | ProcessState::Stopping
        | ProcessState::Exited
        | ProcessState::Unknown => false,
    };
    let is_up = p.state == ProcessState::Running && p.ready;
    (is_wanted && !is_job && p.schedule.is_none()).then_some(is_up)
}

fn firewall_facts(status: &firewall::Status, now: Timestamp) -> FirewallFacts {
    let age = |f: &firewall::FeedStatus| {
        // A list from disk was good when it was read; the one built in, when it was published.
        let good = f.checked.into_iter().chain(f.list.as_ref().map(|l| l.fetched)).max();
        good.map(|at| (f.source.clone(), now.since(at)))
    };
    let held = status.feeds.iter().filter(|f| f.held.is_some()).count();
    let kept_back = status.safety.as_ref().is_some_and(|s| s.kept_back.is_some());
    FirewallFacts {
        in_force: matches!(status.state, firewall::State::InForce { .. }),
        ranges: status.sets.iter().map(|s| (s.source.clone(), s.ranges as u64)).collect(),
        feed_ages: status.feeds.iter().filter_map(age).collect(),
        held: held as u64 + u64::from(kept_back),
        repairs: status.drift.repairs,
        dropped: firewall::drops::refused(&status.packets),
    }
}

/// Of the secret in use; it goes on while the source of secrets is away.
fn origin_age(status: &origin::Status, now: Timestamp) -> Option<Duration> {
    let current = status.secrets.iter().find(|s| s.stage == Some(origin::Stage::Current));
    let age = current.map(|s| now.since(s.created.unwrap_or(s.since)));
    age.or_else(|| status.secret_age_seconds.map(Duration::from_secs))
}

fn logs_facts(status: logs::Status) -> LogsFacts {
    let one = |s: logs::SourceStatus| SourceFacts {
        group: s.group,
        name: s.name,
        backlog: s.backlog_bytes,
        lag: Duration::from_millis(s.lag_ms),
        dropped: s.dropped_lines,
        dead_lettered: s.dead_lettered_events,
    };
    LogsFacts {
        dropped: status.dropped_lines,
        dead_lettered: status.dead_lettered_events,
        sources: status.sources.into_iter().map(one).collect(),
    }
}

fn patch_facts(status: &patch::Status, now: Timestamp) -> Option<PatchFacts> {
    let report = status.report.as_ref()?;
    let count = |state| report.items.iter().filter(|i| i.state == state).count() as u64;
    let is_known = !matches!(report.verdict, patch::Verdict::Unknown { .. });
    Some(PatchFacts {
        missing: is_known.then(|| count(patch::PackageState::Missing)),
        failed: count(patch::PackageState::Failed),
        pending_reboot: count(patch::PackageState::InstalledPendingReboot) > 0,
        lists_age: report.lists_age_s.map(|s| Duration::from_secs(s) + now.since(report.at)),
    })
}

fn access_facts(status: &access::Status) -> AccessFacts {
    let live = status.grants.iter().filter(|g| g.state == GrantState::Live).count();
    AccessFacts {
        live: live as u64,
        refused: status.counts.refused.saturating_add(status.counts.logins_refused),
    }
}
