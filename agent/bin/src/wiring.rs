//! Where modules meet: each port of one module, filled with the host, the cloud, or another module.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
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
        machine::{host_name, machine_id},
        memory,
        nft::Nft,
        nft_events::NftEvents,
        patch::{DiskJournal, Manager, SystemdRun},
        spool_fs::DiskFs,
        tail_fs::Disk,
        watch_files::DirectoryWatch,
    },
    task::Scope,
};
use palisade_agent_aws::{
    self as aws, HostIdentity, compliance::SsmCompliance, feed_http::HttpFeed, logs::CloudWatch,
};
use palisade_types::ProcessName;
use tokio::{
    sync::{broadcast, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::modules::{Command, Trouble};

/// Rest before AWS is looked for again.
const AWS_RETRY: Duration = Duration::from_secs(10);

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

/// The kernel, the lists and the disk, as the firewall wants them.
pub(crate) fn firewall(
    children: &Children,
    feed: HttpFeed,
) -> firewall::Ports<
    Nft,
    Option<NftEvents>,
    feed_files::Feeds<HttpFeed>,
    feed_files::DiskFiles,
    SystemClock,
> {
    let changes = NftEvents::open()
        .inspect_err(|e| {
            tracing::warn!(error = %e, "the kernel does not tell of changed rules; they are checked each minute");
        })
        .ok();
    firewall::Ports {
        kernel: Nft::new(children.clone()),
        changes,
        feed: feed_files::Feeds::new(feed),
        files: feed_files::DiskFiles,
        clock: SystemClock,
    }
}

/// Starts the log module.
pub(crate) async fn start_logs(
    scope: &mut Scope,
    wanted: logs::Settings,
    all: &Settings,
    trouble: Trouble,
) -> anyhow::Result<logs::Handle> {
    let settings = named(wanted.clone(), all).await;
    let identity = HostIdentity::kept_in(&all.host.state_dir);
    let dir = settings.state_dir.clone();
    let disk = DiskFs::lock(&dir).with_context(|| format!("use {}", dir.display()))?;
    let host = logs::Host::new(Arc::new(disk), Arc::new(Disk), SystemClock);
    let (sink, compress) = (settings.sink, settings.compress);
    let (handle, mut shipper) = logs::open(settings, host).context("open the log spool")?;
    let stop = scope.stop();
    match (sink, &all.aws) {
        (logs::Sink::CloudWatch, Some(aws)) => {
            let region = region(aws);
            scope.spawn("logs", async move {
                // The spool takes lines meanwhile; programs notice nothing.
                let clients = tokio::select! {
                    clients = clients(region, &identity, &trouble) => clients,
                    () = stop.cancelled() => return,
                };
                // Metadata that was late for the region was late for the name too.
                if has_id(&wanted)
                    && let Some(id) = identity.instance().await
                {
                    shipper.reload(with_id(wanted, &id));
                }
                let cloud = CloudWatch::new(&clients, compress);
                shipper.run(cloud, DirectoryWatch::new(), stop).await;
            });
        }
        (logs::Sink::Local | logs::Sink::CloudWatch, _) => {
            trouble.is(None);
            let local = shipper.local_sink();
            scope.spawn("logs", shipper.run(local, DirectoryWatch::new(), stop));
        }
    }
    Ok(handle)
}

/// The clients of AWS, as soon as they can be made; an instance's role and region may come late.
async fn clients(region: Option<String>, host: &HostIdentity, trouble: &Trouble) -> aws::Clients {
    loop {
        match aws::Clients::load(region.clone(), host).await {
            Ok(clients) => {
                trouble.is(None);
                return clients;
            }
            Err(e) => trouble.is(Some(format!("nothing is shipped: {}; {}", Chain(&e), e.hint()))),
        }
        time::sleep(AWS_RETRY).await;
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

/// What stands for the instance's id in names of groups and streams.
const INSTANCE_ID: &str = "{instance_id}";

/// The settings with `{instance_id}` filled in.
pub(crate) async fn named(settings: logs::Settings, all: &Settings) -> logs::Settings {
    if has_id(&settings) {
        let id = instance_id(all).await;
        return with_id(settings, &id);
    }
    settings
}

fn has_id(settings: &logs::Settings) -> bool {
    settings.group.contains(INSTANCE_ID) || settings.stream.contains(INSTANCE_ID)
}

fn with_id(mut settings: logs::Settings, id: &str) -> logs::Settings {
    settings.group = settings.group.replace(INSTANCE_ID, id);
    settings.stream = settings.stream.replace(INSTANCE_ID, id);
    settings
}

/// The instance's id, or the host's name where there is none.
async fn instance_id(all: &Settings) -> String {
    let id = match all.aws {
        Some(_) => HostIdentity::kept_in(&all.host.state_dir).instance().await,
        None => None,
    };
    id.unwrap_or_else(host_name)
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
