//! Where log shipping meets the host and the cloud: its disk, its sinks, and its names.

use std::sync::Arc;

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    config::Settings,
    errors::Chain,
    logs,
    sys::{
        children::Children, journal::SystemJournal, machine::host_name, spool_fs::DiskFs,
        tail_fs::Disk, watch_files::DirectoryWatch,
    },
    task::Scope,
};
use palisade_agent_aws::{self as aws, HostIdentity, logs::CloudWatch, new_relic::NewRelic};
use tokio::time;

use crate::{
    modules::Trouble,
    wiring::{AWS_RETRY, region},
};

/// Starts the log module.
pub(crate) async fn start(
    scope: &mut Scope,
    wanted: logs::Settings,
    all: &Settings,
    children: &Children,
    trouble: Trouble,
) -> anyhow::Result<logs::Handle> {
    let settings = named(wanted.clone(), all).await;
    let identity = HostIdentity::kept_in(&all.host.state_dir);
    let dir = settings.state_dir.clone();
    let disk = DiskFs::lock(&dir).with_context(|| format!("use {}", dir.display()))?;
    let journal = Arc::new(SystemJournal::of_host(children.clone()));
    let host = logs::Host::new(Arc::new(disk), Arc::new(Disk), SystemClock).with_journal(journal);
    let (sink, compress) = (settings.sink, settings.compress);
    let second = settings.second();
    let (handle, mut shipper) = logs::open(settings, host).context("open the log spool")?;
    let second = second.map(|s| start_second(scope, &wanted, s, all, children)).transpose()?;
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
    Ok(match second {
        Some(second) => handle.with_second(second),
        None => handle,
    })
}

/// Starts the way to New Relic beside the first sink.
fn start_second(
    scope: &mut Scope,
    wanted: &logs::Settings,
    settings: logs::Settings,
    all: &Settings,
    children: &Children,
) -> anyhow::Result<logs::Handle> {
    let (dir, new_relic) = (settings.state_dir.clone(), settings.new_relic.clone());
    let new_relic = new_relic.context("New Relic is not configured")?;
    let disk = DiskFs::lock(&dir).with_context(|| format!("use {}", dir.display()))?;
    let journal = Arc::new(SystemJournal::of_host(children.clone()));
    let host = logs::Host::new(Arc::new(disk), Arc::new(Disk), SystemClock).with_journal(journal);
    let (handle, mut shipper) = logs::open(settings, host).context("open the second log spool")?;
    let (endpoint, key_file) = (new_relic.endpoint, new_relic.key_file);
    let sink = NewRelic::new(endpoint, key_file, host_name(), SystemClock)
        .context("set up the way to New Relic")?;
    let (stop, wanted) = (scope.stop(), wanted.second());
    let identity = all.aws.as_ref().map(|_| HostIdentity::kept_in(&all.host.state_dir));
    scope.spawn("logs to New Relic", async move {
        if let (Some(wanted), Some(identity)) = (wanted.filter(has_id), identity) {
            let id = tokio::select! {
                id = identity.instance() => id,
                () = stop.cancelled() => return,
            };
            if let Some(id) = id {
                shipper.reload(with_id(wanted, &id));
            }
        }
        shipper.run(sink, DirectoryWatch::new(), stop).await;
    });
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
