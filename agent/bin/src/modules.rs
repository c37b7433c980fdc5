//! The modules that come and go with the configuration: firewall, origin guard, logs, metrics, patching,
//! access.
//!
//! Each runs in a scope of its own. One that fails is started again, a few times; a log module that
//! is being exchanged holds the programs' output back instead of losing it.

mod access;
mod firewall;
mod logs;
mod metrics;
mod origin;
mod patch;
mod trouble;

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    config::Settings,
    control::Modules,
    events::Events,
    firewall::State,
    supervise,
    sys::{children::Children, inherit::NamedFds, nftables::NftTable},
    task::Scope,
};
use palisade_agent_aws::{
    ec2::{Account, Ec2, RemoteLists},
    feed_http::HttpFeed,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::trouble::Trouble;
use self::{
    access::Access, firewall::Firewall, logs::Logs, metrics::Metrics, origin::Origin, patch::Patch,
};
use crate::{
    origin_wiring::Sets,
    wiring::{self, Output},
};

/// Name of the file that is the socket of the firewall's table.
const TABLE: &str = "firewall";
/// A module that fails more often than this within [`WITHIN`] ends the agent.
const RESTARTS: usize = 5;
const WITHIN: Duration = Duration::from_secs(600);
/// Rest before a failed module is started again.
const REST: Duration = Duration::from_millis(500);
/// How long a module may take to end when its settings changed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What patch runs are started with.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The agent's binary at its path.
    pub(crate) binary: PathBuf,
    /// The configuration.
    pub(crate) config: PathBuf,
}

/// Which module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Firewall,
    Origin,
    Logs,
    Metrics,
    Patch,
    Access,
}

impl Name {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Origin => "origin",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Patch => "patch",
            Self::Access => "access",
        }
    }
}

/// Starts, exchanges and ends the modules.
pub(crate) struct ModuleSet {
    root: CancellationToken,
    children: Children,
    /// Where lists are read that are in no file.
    lists: RemoteLists,
    /// Whose EC2 that asks.
    account: watch::Sender<Option<Account>>,
    events: Events<SystemClock>,
    firewall: Option<Firewall>,
    /// The kernel's table, which its socket may own; outlives a restart of the firewall.
    table: Option<NftTable>,
    origin: Option<Origin>,
    logs: Option<Logs>,
    metrics: Option<Metrics>,
    patch: Option<Patch>,
    access: Option<Access>,
    /// Addresses of live grants, for the firewall; outlives a restart of either.
    direct: watch::Sender<BTreeMap<IpAddr, u64>>,
    /// Addresses of the firewall's sources, for the origin guard; outlives a restart of either.
    sets: watch::Sender<Sets>,
    command: Command,
    /// Whose programs metrics are of; none at the start.
    supervise: watch::Sender<Option<supervise::Handle>>,
    published: watch::Sender<Modules>,
    output: watch::Sender<Output>,
    /// Where the agent's own events go.
    own: watch::Sender<Output>,
    failures: VecDeque<Instant>,
    /// When to try again to start logs that are wanted and could not be started.
    logs_retry: Option<Instant>,
}

impl ModuleSet {
    pub(crate) fn new(
        root: &CancellationToken,
        children: Children,
        events: Events<SystemClock>,
        own: watch::Sender<Output>,
        command: Command,
        inherited: &mut NamedFds,
    ) -> anyhow::Result<Self> {
        let table = inherited.remove(TABLE).map(NftTable::from_socket).transpose();
        let table = table.context("take over the socket of the firewall")?;
        let (account, seen) = watch::channel(None);
        let what = "prepare to read lists by HTTPS";
        let http = HttpFeed::new().context(what)?;
        Ok(Self {
            root: root.clone(),
            children,
            lists: RemoteLists::new(http, Ec2::new(seen).context(what)?),
            account,
            events,
            firewall: None,
            table,
            origin: None,
            logs: None,
            metrics: None,
            patch: None,
            access: None,
            direct: watch::Sender::new(BTreeMap::new()),
            sets: watch::Sender::new(Sets::new()),
            command,
            supervise: watch::Sender::new(None),
            published: watch::Sender::new(Modules::default()),
            output: watch::Sender::new(Output::Off),
            own,
            failures: VecDeque::new(),
            logs_retry: None,
        })
    }

    /// The handles, as they come and go.
    pub(crate) fn published(&self) -> watch::Receiver<Modules> {
        self.published.subscribe()
    }

    /// Where the programs' output goes.
    pub(crate) fn output(&self) -> watch::Receiver<Output> {
        self.output.subscribe()
    }

    /// Makes the modules run with these settings; returns which changed.
    pub(crate) async fn apply(&mut self, settings: &Settings) -> Vec<String> {
        let mut changed = Vec::new();
        let account = wiring::account(settings);
        self.account.send_if_modified(|known| {
            let differs = *known != account;
            *known = account;
            differs
        });
        // Before the firewall, which lets live grants in from its first rules on.
        if self.apply_access(settings).await {
            changed.push(Name::Access.as_str().to_owned());
        }
        if self.apply_firewall(settings.firewall.as_ref()).await {
            changed.push(Name::Firewall.as_str().to_owned());
        }
        // Its settings are large, and every caller's future would hold them.
        if Box::pin(self.apply_origin(settings)).await {
            changed.push("origin_guard".to_owned());
        }
        if self.apply_logs(settings).await {
            changed.push(Name::Logs.as_str().to_owned());
        }
        if self.apply_metrics(settings).await {
            changed.push(Name::Metrics.as_str().to_owned());
        }
        if self.apply_patch(settings).await {
            changed.push(Name::Patch.as_str().to_owned());
        }
        changed
    }

    /// What of the last settings was not taken because it could lock somebody out, and why.
    pub(crate) fn kept_back(&self) -> Vec<String> {
        let kept_back = self.firewall.as_ref().and_then(|f| f.kept_back.as_ref());
        kept_back.map(|why| format!("firewall: {why}")).into_iter().collect()
    }

    /// Where trouble with a part that is not a module is told.
    pub(crate) fn trouble(&self, key: &'static str) -> Trouble {
        Trouble { key, events: self.events.clone(), published: self.published.clone() }
    }

    /// Waits until the first rules are in force, or are known to be impossible, or time is over.
    pub(crate) async fn firewall_settled(&self, within: Duration) -> bool {
        let Some(running) = &self.firewall else { return true };
        let mut seen = running.handle.watch();
        let settled = seen.wait_for(|s| !matches!(s.state, State::Starting));
        match time::timeout(within, settled).await {
            Ok(Ok(status)) => !matches!(status.state, State::Failed { .. }),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Waits until a module ended that should not have.
    pub(crate) async fn ended(&mut self) -> Name {
        async fn of(scope: Option<&mut Scope>) {
            match scope {
                Some(scope) => drop(scope.next_end().await),
                None => pending().await,
            }
        }
        // Losing the wait loses nothing: an ended task that was taken note of only once is looked
        // for again by its empty scope.
        let retry = self.logs_retry;
        let retry = async {
            match retry {
                Some(at) => time::sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = retry => Name::Logs,
            () = of(self.firewall.as_mut().map(|f| &mut f.scope)) => Name::Firewall,
            () = of(self.origin.as_mut().map(|o| &mut o.scope)) => Name::Origin,
            () = of(self.logs.as_mut().map(|l| &mut l.scope)) => Name::Logs,
            () = of(self.metrics.as_mut().map(|m| &mut m.scope)) => Name::Metrics,
            () = of(self.patch.as_mut().map(|p| &mut p.scope)) => Name::Patch,
            () = of(self.access.as_mut().map(|a| &mut a.scope)) => Name::Access,
        }
    }

    /// Starts a module again that ended. False if it ended too often.
    pub(crate) async fn revive(&mut self, name: Name, settings: &Settings) -> bool {
        if name == Name::Logs && self.logs_retry.is_some() {
            self.apply_logs(settings).await;
            return true;
        }
        let now = Instant::now();
        self.failures.retain(|at| now.duration_since(*at) < WITHIN);
        self.failures.push_back(now);
        if self.failures.len() > RESTARTS {
            return false;
        }
        self.events.happened("agent", "a module failed and is started again", name.as_str(), "");
        time::sleep(REST).await;
        match name {
            Name::Firewall => {
                if let Some(running) = self.firewall.take() {
                    running.scope.shut_down(PATIENCE).await;
                }
                self.apply_firewall(settings.firewall.as_ref()).await;
            }
            Name::Origin => {
                self.stop_origin().await;
                Box::pin(self.apply_origin(settings)).await;
            }
            Name::Logs => {
                self.stop_logs(Duration::ZERO).await;
                self.apply_logs(settings).await;
            }
            Name::Metrics => {
                self.stop_metrics().await;
                self.apply_metrics(settings).await;
            }
            Name::Patch => {
                self.stop_patch().await;
                self.apply_patch(settings).await;
            }
            Name::Access => {
                self.stop_access().await;
                self.apply_access(settings).await;
            }
        }
        true
    }

    /// The files to hand on to the next program: the socket that owns the firewall's table.
    pub(crate) fn hand_on(&self) -> NamedFds {
        let socket = self.table.as_ref().and_then(|table| {
            let failed =
                |e: &_| tracing::warn!(error = %e, "the firewall's socket is not handed on");
            table.socket().inspect_err(failed).ok()
        });
        socket.into_iter().map(|fd| (TABLE.to_owned(), fd)).collect()
    }

    /// Ends the modules. Firewall rules stay; logs are shipped as far as time allows.
    pub(crate) async fn stop(&mut self, within: Duration) {
        self.stop_metrics().await;
        self.stop_patch().await;
        self.stop_access().await;
        self.stop_origin().await;
        let own = self.own.borrow().clone();
        self.stop_logs(within).await;
        // What is told from now on is on disk for the next agent to ship.
        self.own.send_replace(own);
        if let Some(running) = self.firewall.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }

    /// For the line that `systemctl status` shows.
    pub(crate) fn summary(&self) -> String {
        let Some(firewall) = &self.firewall else { return String::new() };
        match &firewall.handle.watch().borrow().state {
            State::Starting => ", firewall starting".to_owned(),
            State::InForce { .. } => ", firewall in force".to_owned(),
            State::PlanOnly { .. } => ", firewall planned only".to_owned(),
            State::Failed { why, .. } => format!(", firewall not in force: {why}"),
        }
    }

    fn publish(&self) {
        self.published.send_modify(|m| {
            m.firewall = self.firewall.as_ref().map(|f| f.handle.clone());
            m.drops = self.firewall.as_ref().map(|f| f.drops.clone());
            m.firewall_history = self.firewall.as_ref().map(|f| f.history.clone());
            m.origin = self.origin.as_ref().map(|o| o.handle.clone());
            m.safety = self.firewall.as_ref().map(|f| f.safety.clone());
            m.logs = self.logs.as_ref().map(|l| l.handle.clone());
            m.metrics = self.metrics.as_ref().map(|s| s.handle.clone());
            m.patch = self.patch.as_ref().map(|p| p.handle.clone());
            m.access = self.access.as_ref().map(|a| a.handle.clone());
        });
    }
}
