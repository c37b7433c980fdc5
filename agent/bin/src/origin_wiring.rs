//! Where the origin guard meets the host, the cloud and the firewall.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::IpNet;
use palisade_agent::{
    clock::SystemClock,
    config::Settings,
    errors::Chain,
    events::Events,
    firewall,
    origin::{self, Answer, Location, SecretSource, SourceError, State},
    sys::{
        children::Children,
        nginx::LocalNginx,
        origin_files::{HitsFile, NoCloud, SecretFiles, StateFile},
    },
    task::Scope,
};
use palisade_agent_aws::{HostIdentity, origin_secret::OriginSecrets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::wiring::region;

/// Addresses of the firewall's sources, by name, as they come and go.
pub(crate) type Sets = BTreeMap<String, Vec<IpNet>>;

/// AWS, or nothing where it is not configured.
enum Cloud {
    Aws(OriginSecrets),
    None(NoCloud),
}

impl SecretSource for Cloud {
    async fn read(&self, from: &Location, tag: Option<&str>) -> Result<Answer, SourceError> {
        match self {
            Self::Aws(aws) => aws.read(from, tag).await,
            Self::None(none) => none.read(from, tag).await,
        }
    }
}

/// Starts the guard.
pub(crate) fn start(
    scope: &mut Scope,
    wanted: &origin::Settings,
    all: &Settings,
    children: &Children,
    sets: watch::Receiver<Sets>,
    events: Events<SystemClock>,
) -> Result<origin::Handle, SourceError> {
    let cloud = match &all.aws {
        Some(aws) => {
            let host = HostIdentity::kept_in(&all.host.state_dir);
            Cloud::Aws(OriginSecrets::new(region(aws), host)?)
        }
        None => Cloud::None(NoCloud),
    };
    let ports = origin::Ports {
        source: SecretFiles::new(cloud),
        server: LocalNginx::new(children.clone(), &wanted.nginx, &wanted.state_dir),
        hits: HitsFile::new(wanted.nginx.hits.clone()),
        store: StateFile::new(wanted.state_dir.clone()),
        clock: SystemClock,
    };
    let names = wanted.real_ip.as_ref().map(|r| r.sources.clone()).unwrap_or_default();
    let (ranges, seen) = watch::channel(named(&sets.borrow(), &names));
    scope.spawn("origin ranges", choose(sets, names, ranges, scope.stop()));
    let (handle, task) = origin::new(wanted.clone(), seen, ports);
    scope.spawn("origin", task.run(scope.stop()));
    scope.spawn("origin events", tell(handle.watch(), events, scope.stop()));
    Ok(handle)
}

/// The addresses of these sources.
fn named(sets: &Sets, names: &[String]) -> Vec<IpNet> {
    names.iter().filter_map(|n| sets.get(n)).flatten().copied().collect()
}

/// Hands on the addresses of these sources.
async fn choose(
    mut sets: watch::Receiver<Sets>,
    names: Vec<String>,
    ranges: watch::Sender<Vec<IpNet>>,
    stop: CancellationToken,
) {
    loop {
        let now = named(&sets.borrow_and_update(), &names);
        ranges.send_if_modified(|was| {
            let differs = *was != now;
            *was = now;
            differs
        });
        tokio::select! {
            // The firewall is no more: what it said last stays.
            changed = sets.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

/// Keeps what the firewall lets in where others can see it. What was there last stays.
pub(crate) async fn forward(
    mut sets: watch::Receiver<BTreeMap<firewall::SourceName, firewall::AddrSet>>,
    kept: watch::Sender<Sets>,
    stop: CancellationToken,
) {
    loop {
        let now: Sets = sets
            .borrow_and_update()
            .iter()
            .map(|(name, set)| {
                let nets = set.prefixes().iter().filter_map(|p| p.parse().ok()).collect();
                (name.as_str().to_owned(), nets)
            })
            .collect();
        if !now.is_empty() {
            kept.send_replace(now);
        }
        tokio::select! {
            // The firewall's task ended: what that means is for its scope to say.
            changed = sets.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

/// Writes what happens to the guard into the record.
async fn tell(
    mut status: watch::Receiver<origin::Status>,
    events: Events<SystemClock>,
    stop: CancellationToken,
) {
    let mut seen = status.borrow_and_update().clone();
    loop {
        let now = status.borrow_and_update().clone();
        for (what, subject, why) in news(&seen, &now) {
            events.happened("origin", what, subject, why);
        }
        seen = now;
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

fn news(before: &origin::Status, now: &origin::Status) -> Vec<(&'static str, String, String)> {
    let mut news = Vec::new();
    let has = |s: &origin::Status, id| s.secrets.iter().any(|other| other.id == id);
    for s in &now.secrets {
        let of = |st: &origin::Status| {
            st.secrets.iter().find(|other| other.id == s.id).map(|other| other.left)
        };
        match (of(before), s.left) {
            (None, _) => news.push(("secret accepted", s.id.to_string(), s.version.clone())),
            (Some(None), Some(_)) => {
                let why = "the source has another; it stays while it is used".to_owned();
                news.push(("secret left by its source", s.id.to_string(), why));
            }
            _ => {}
        }
    }
    for s in before.secrets.iter().filter(|s| !has(now, s.id.clone())) {
        let last = s.last_hit.map_or_else(|| "never seen".to_owned(), |t| format!("last seen {t}"));
        news.push(("secret dropped", s.id.to_string(), last));
    }
    if now.last_reload != before.last_reload && now.state == State::InForce {
        let ids: Vec<_> = now.secrets.iter().map(|s| s.id.to_string()).collect();
        news.push(("secrets in force", ids.join(" "), "nginx was reloaded".to_owned()));
    }
    if let State::Failed { why, .. } = &now.state
        && !matches!(&before.state, State::Failed { why: old, .. } if old == why)
    {
        news.push(("secrets not in force", String::new(), why.clone()));
    }
    if let Some(error) = &now.source.error
        && before.source.error.as_ref() != Some(error)
    {
        news.push(("secret not read", now.source.location.clone(), error.clone()));
    }
    news
}

/// Where files of the guard stay when it is no longer configured.
pub(crate) fn stays(settings: &origin::Settings) -> String {
    let dir: PathBuf = settings.nginx.map.parent().map(Into::into).unwrap_or_default();
    format!(
        "nginx goes on with the secrets in {}; take the includes out of the site before you remove it",
        dir.display()
    )
}

/// Why it cannot be started, on one line.
pub(crate) fn why(e: &SourceError) -> String {
    format!("not started: {}", Chain(e))
}
