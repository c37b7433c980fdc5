//! Where modules meet: each port of one module, filled with the host, the cloud, or another module.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    config::{self, Region, Settings},
    errors::Chain,
    events::Events,
    firewall, logs, patch,
    supervise::{self, Note, OutputSink, OutputSource, Stream, Wiring},
    sys::{
        children::Children,
        fdstore::SystemdStore,
        feed_files,
        host::LinuxHost,
        inherit::{self, NamedFds},
        ledger::DiskLedger,
        machine::machine_id,
        memory,
        nft_events::NftEvents,
        nftables::NftTable,
        patch::{DiskJournal, Manager, SystemdRun},
    },
};
use palisade_agent_aws::{
    self as aws, HostIdentity,
    compliance::SsmCompliance,
    ec2::{self, RemoteLists},
};
use palisade_types::ProcessName;
use tokio::{
    sync::{broadcast, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::modules::Command;

/// Rest before AWS is looked for again.
pub(crate) const AWS_RETRY: Duration = Duration::from_secs(10);

/// By then what only a start needs has run: reading the configuration, finding AWS, adopting programs.
const START_IS_OVER: Duration = Duration::from_secs(5);

/// Gives back the code of the start.
pub(crate) async fn forget_start(stop: CancellationToken) {
    if stop.run_until_cancelled(time::sleep(START_IS_OVER)).await.is_some() {
        memory::give_back_code();
    }
}

/// Where that is kept which must be found without a configuration: the way back from an upgrade, the last
/// good configuration. The service's own directory, wherever `host.state_dir` is; beside the state where
/// no service manager says.
pub(crate) fn safe_dir(state_dir: &Path) -> PathBuf {
    std::env::var_os("STATE_DIRECTORY").map_or_else(|| state_dir.to_owned(), PathBuf::from)
}

/// The same where no configuration can be read.
pub(crate) fn usual_safe_dir() -> PathBuf {
    safe_dir(Path::new("/var/lib/palisade"))
}

/// The supervisor's parts.
pub(crate) fn supervisor(
    settings: &Settings,
    children: &Children,
    output: watch::Receiver<Output>,
    mut inherited: NamedFds,
) -> anyhow::Result<Wiring<LinuxHost, ProgramOutput, SystemdStore, SystemClock>> {
    inherited.extend(from_systemd());
    let env = std::env::vars_os();
    let host = LinuxHost::new(&settings.supervise, children.clone(), env, &mut inherited)
        .with_context(|| format!("use {}", settings.host.run_dir.display()))?;
    Ok(Wiring {
        host,
        sink: ProgramOutput(output),
        store: SystemdStore::new(std::env::var_os("NOTIFY_SOCKET").as_deref()),
        clock: SystemClock,
        inherited,
    })
}

/// Sockets that systemd kept while no agent lived.
fn from_systemd() -> NamedFds {
    let var = |name| std::env::var(name).ok();
    inherit::from_service_manager(
        var("LISTEN_PID").as_deref(),
        var("LISTEN_FDS").as_deref(),
        var("LISTEN_FDNAMES").as_deref(),
    )
}

/// Where the programs' output goes beside their log files.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Nowhere: logs are not configured, or not for programs.
    Off,
    /// Nowhere yet: it waits in the pipes while logs are started or exchanged.
    Waits,
    /// To the log module.
    To(logs::Handle),
}

/// Hands output to the log module that is there at the time.
#[derive(Clone, Debug)]
pub(crate) struct ProgramOutput(watch::Receiver<Output>);

impl OutputSink for ProgramOutput {
    async fn write(&self, from: &OutputSource, bytes: &[u8]) -> io::Result<()> {
        let mut output = self.0.clone();
        // Cloned out, so that nothing is borrowed while the write waits.
        let settled = output.wait_for(|o| !matches!(o, Output::Waits)).await.map(|o| o.clone());
        let handle = match settled {
            Ok(Output::To(handle)) => handle,
            Ok(Output::Off) => return Ok(()),
            Ok(Output::Waits) | Err(_) => return Err(io::Error::other("the agent is ending")),
        };
        let from = logs::LineSource {
            program: from.program.clone(),
            process: from.process.clone(),
            stream: match from.stream {
                Stream::Stdout => logs::OutputStream::Stdout,
                Stream::Stderr => logs::OutputStream::Stderr,
            },
        };
        handle.append(&from, bytes).await
    }
}

/// Whose EC2 the firewall may ask; nobody's without an `aws` section.
pub(crate) fn account(all: &Settings) -> Option<ec2::Account> {
    let region = match &all.aws.as_ref()?.region {
        Region::Auto => None,
        Region::Named(name) => Some(name.clone()),
    };
    Some(ec2::Account { region, host: HostIdentity::kept_in(&all.host.state_dir) })
}

/// The kernel, the lists and the disk, as the firewall wants them.
pub(crate) fn firewall(
    table: NftTable,
    lists: RemoteLists,
) -> firewall::Ports<
    NftTable,
    Option<NftEvents>,
    feed_files::Feeds<RemoteLists>,
    feed_files::DiskFiles,
    SystemClock,
> {
    let changes = NftEvents::open()
        .inspect_err(|e| {
            tracing::warn!(error = %e, "the kernel does not tell of changed rules; they are checked each minute");
        })
        .ok();
    firewall::Ports {
        kernel: table,
        changes,
        feed: feed_files::Feeds::new(lists),
        files: feed_files::DiskFiles,
        clock: SystemClock,
    }
}

/// The package manager, the journal and systemd, as patching wants them.
pub(crate) fn patch(
    children: &Children,
    settings: &patch::Settings,
    command: Command,
) -> patch::TaskParts<Manager, DiskJournal, SystemdRun, SystemClock> {
    patch::TaskParts {
        packages: Manager::of_this_host(children, settings),
        journal: DiskJournal::new(&settings.state_dir),
        starter: SystemdRun::new(children.clone(), command.binary, command.config),
        clock: SystemClock,
        host: machine_id(),
    }
}

/// Tells SSM where the host stands, as soon as there are credentials and the instance knows its id.
pub(crate) fn report(
    aws: &config::Aws,
    host: HostIdentity,
    status: watch::Receiver<patch::Status>,
    told: watch::Sender<patch::Told>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let region = region(aws);
    async move {
        let mut tries = 0_u32;
        let waiting = told.clone();
        let ready = async {
            loop {
                let clients = aws::Clients::load(region.clone(), &host).await;
                let error = match (clients, host.instance().await) {
                    (Ok(clients), Some(id)) => return (clients, id),
                    (Err(e), _) => format!("{}; {}", Chain(&e), e.hint()),
                    (Ok(_), None) => {
                        "the metadata service does not tell the instance's id".to_owned()
                    }
                };
                tries = tries.saturating_add(1);
                waiting.send_replace(patch::Told::Waiting { error: Some(error), tries });
                time::sleep(AWS_RETRY).await;
            }
        };
        let (clients, instance) = tokio::select! {
            ready = ready => ready,
            () = stop.cancelled() => return,
        };
        let cloud = SsmCompliance::new(&clients);
        patch::tell(status, cloud, instance, SystemClock, told, stop).await;
    }
}

pub(crate) fn region(aws: &config::Aws) -> Option<String> {
    match &aws.region {
        Region::Auto => None,
        Region::Named(name) => Some(name.clone()),
    }
}

/// Writes what happens to patch runs into the record.
pub(crate) async fn tell_patch(
    mut status: watch::Receiver<patch::Status>,
    events: Events<SystemClock>,
    stop: CancellationToken,
) {
    let id = |r: &Option<patch::Record>| r.as_ref().map(|r| (r.id.clone(), r.resumed));
    let mut seen = status.borrow_and_update().clone();
    loop {
        let now = status.borrow_and_update().clone();
        if let Some(run) = now.running.as_ref().filter(|_| id(&now.running) != id(&seen.running)) {
            let what = if run.resumed > 0 { "run goes on" } else { "run begins" };
            events.asked("patch", what, &run.id, format!("{:?}", run.trigger), &run.by);
        }
        if let Some(run) = now.last.as_ref().filter(|_| id(&now.last) != id(&seen.last)) {
            let how = run.outcome.as_ref().map(|o| format!("{o:?}")).unwrap_or_default();
            let why =
                format!("{} installed, {} failed: {how}", run.installed.len(), run.failed.len());
            events.happened("patch", "run over", &run.id, why);
        }
        seen = now;
        tokio::select! {
            // The task ended: what that means is for its scope to say.
            changed = status.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

/// Writes what happens to processes into the record.
pub(crate) async fn tell(
    mut happenings: broadcast::Receiver<supervise::Event>,
    events: Events<SystemClock>,
    stop: CancellationToken,
) {
    // What comes and goes in a storm is one event at its beginning and one at its end, and no thousand.
    let mut in_storm: BTreeSet<ProcessName> = BTreeSet::new();
    loop {
        // Told to stop, it still tells what is there already.
        let next = tokio::select! {
            biased;
            next = happenings.recv() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(supervise::Event { note: Some(note), process, why, .. }) => {
                match note {
                    Note::StormBegan => in_storm.insert(process.clone()),
                    Note::StormEnded => in_storm.remove(&process),
                    Note::Replaced | Note::NotReplaced | Note::Unhealthy | Note::Recycled => false,
                };
                events.happened("supervise", note.words(), process.to_string(), why);
            }
            Ok(e) if in_storm.contains(&e.process) => {}
            Ok(e) => {
                let what = format!("process {}", e.to.to_string().to_lowercase());
                let pid = if e.pid > 0 { format!("pid {}: ", e.pid) } else { String::new() };
                events.happened(
                    "supervise",
                    &what,
                    e.process.to_string(),
                    format!("{pid}{}", e.why),
                );
            }
            Err(broadcast::error::RecvError::Lagged(n)) => {
                events.happened("supervise", "happenings not recorded", "", format!("{n} at once"));
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Starts programs at their times.
pub(crate) fn schedules(
    settings: &Settings,
    handle: supervise::Handle,
    events: Events<SystemClock>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let ledger = DiskLedger::below(&settings.host.state_dir);
    supervise::schedule::run(handle, ledger, Book(events), SystemClock, stop)
}

/// The record, as schedules write in it.
struct Book(Events<SystemClock>);

impl supervise::Diary for Book {
    fn note(&self, process: &ProcessName, what: &str, why: String) {
        self.0.happened("supervise", what, process.to_string(), why);
    }
}

/// Writes what happens to the firewall into the record.
pub(crate) async fn tell_firewall(
    mut status: watch::Receiver<firewall::Status>,
    events: Events<SystemClock>,
    stop: CancellationToken,
) {
    let mut seen = status.borrow_and_update().clone();
    loop {
        let now = status.borrow_and_update().clone();
        for (what, subject, why) in firewall_news(&seen, &now) {
            events.happened("firewall", what, subject, why);
        }
        seen = now;
        tokio::select! {
            // The firewall's task ended: what that means is for its scope to say.
            changed = status.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

/// What is new in `now`: what happened, to what, and why.
fn firewall_news(
    before: &firewall::Status,
    now: &firewall::Status,
) -> Vec<(&'static str, String, String)> {
    use firewall::State;
    let mut news = Vec::new();
    match (&before.state, &now.state) {
        (State::InForce { since: a, .. }, State::InForce { since: b, .. }) if a == b => {}
        (_, State::InForce { .. }) => {
            let sets: Vec<_> =
                now.sets.iter().map(|s| format!("{} {} ranges", s.source, s.ranges)).collect();
            news.push(("rules in force", String::new(), sets.join(", ")));
        }
        (State::Failed { why: a, .. }, State::Failed { why: b, .. }) if a == b => {}
        (_, State::Failed { why, .. }) => {
            news.push(("rules not in force", String::new(), why.clone()));
        }
        (_, State::Starting | State::PlanOnly { .. }) => {}
    }
    if now.drift.repairs > before.drift.repairs
        && let Some(last) = &now.drift.last
    {
        let who = last.culprit.clone().unwrap_or_else(|| "unknown".to_owned());
        let why = format!("back after {} ms: {}", last.took_ms, last.changes.join("; "));
        news.push(("foreign change repaired", format!("by {who}"), why));
    }
    for feed in &now.feeds {
        let old =
            before.feeds.iter().find(|f| f.source == feed.source && f.service == feed.service);
        if feed.stale && !old.is_some_and(|f| f.stale) {
            let why = format!("the list {} in force is over 30 days old", feed.service);
            news.push(("list is stale", feed.source.clone(), why));
        }
        let alarming = |f: &firewall::FeedStatus| f.apart.filter(firewall::Apart::is_alarming);
        if let Some(apart) = alarming(feed)
            && old.and_then(alarming).is_none()
        {
            let why = format!(
                "{} lacks {}/1000 of the published addresses and has {}/1000 others",
                feed.service, apart.missing_permille, apart.extra_permille
            );
            news.push(("lists are far apart", feed.source.clone(), why));
        }
        let token = |f: &firewall::FeedStatus| f.list.as_ref().map(|l| l.sync_token);
        if let Some(list) = &feed.list
            && old.and_then(token) != token(feed)
        {
            let why = format!("version {} of {}", list.sync_token, list.published);
            news.push(("list in force", feed.source.clone(), why));
        }
        if let Some(held) = &feed.held
            && old.and_then(|f| f.held.as_ref()) != Some(held)
        {
            news.push(("list held for approval", feed.source.clone(), held.why.clone()));
        }
        if let Some(error) = &feed.error
            && old.and_then(|f| f.error.as_ref()) != Some(error)
        {
            news.push(("list not read", feed.source.clone(), error.clone()));
        }
    }
    news
}
