//! The modules that come and go with the configuration: firewall, logs, patching and access.
//!
//! Each runs in a scope of its own. One that fails is started again, a few times; a log module that
//! is being exchanged holds the programs' output back instead of losing it.

use std::{collections::VecDeque, future::pending, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use palisade_agent::{
    access,
    clock::SystemClock,
    config::Settings,
    control::Modules,
    events::Events,
    firewall::{self, State},
    logs, patch,
    sys::children::Children,
    task::Scope,
};
use palisade_agent_aws::{HostIdentity, feed_http::HttpFeed};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access_wiring,
    wiring::{self, Output},
};

/// A module that fails more often than this within [`WITHIN`] ends the agent.
const RESTARTS: usize = 5;
const WITHIN: Duration = Duration::from_secs(600);
/// Rest before a failed module is started again.
const REST: Duration = Duration::from_millis(500);
/// How long a module may take to end when its settings changed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rest before logs that could not be started are tried again.
const LOGS_RETRY: Duration = Duration::from_secs(5);

/// A running module, by the settings it runs with.
struct Firewall {
    scope: Scope,
    settings: watch::Sender<firewall::Settings>,
    handle: firewall::Handle,
}

struct Logs {
    scope: Scope,
    settings: logs::Settings,
    handle: logs::Handle,
}

struct Patch {
    scope: Scope,
    settings: patch::Settings,
    handle: patch::Handle,
}

struct Access {
    scope: Scope,
    settings: access::Settings,
    handle: access::Handle,
}

/// What patch runs are started with.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The agent's binary at its path.
    pub(crate) binary: PathBuf,
    /// The configuration.
    pub(crate) config: PathBuf,
}

/// Why a module works less than fully, told once for each reason: to the record, and to `status`.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    key: &'static str,
    events: Events<SystemClock>,
    published: watch::Sender<Modules>,
}

impl Trouble {
    /// From now on this is the trouble, or there is none.
    pub(crate) fn is(&self, what: Option<String>) {
        let key = self.key;
        let before = self.published.borrow().troubles.get(key).cloned();
        if before == what {
            return;
        }
        match &what {
            Some(what) => self.events.happened(key, "in trouble", "", what.as_str()),
            None => self.events.happened(key, "out of trouble", "", ""),
        }
        self.published.send_modify(|m| match what {
            Some(what) => drop(m.troubles.insert(key, what)),
            None => drop(m.troubles.remove(key)),
        });
    }
}

/// Which module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Firewall,
    Logs,
    Patch,
    Access,
}

impl Name {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Logs => "logs",
            Self::Patch => "patch",
            Self::Access => "access",
        }
    }
}

/// Starts, exchanges and ends the modules.
pub(crate) struct ModuleSet {
    root: CancellationToken,
    children: Children,
    feed: HttpFeed,
    events: Events<SystemClock>,
    firewall: Option<Firewall>,
    logs: Option<Logs>,
    patch: Option<Patch>,
    access: Option<Access>,
    /// Addresses of live grants, for the firewall; outlives a restart of either.
    direct: watch::Sender<Vec<IpAddr>>,
    command: Command,
    published: watch::Sender<Modules>,
    output: watch::Sender<Output>,
    failures: VecDeque<Instant>,
    /// When to try again to start logs that are wanted and could not be started.
    logs_retry: Option<Instant>,
}

impl ModuleSet {
    pub(crate) fn new(
        root: &CancellationToken,
        children: Children,
        events: Events<SystemClock>,
        command: Command,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            root: root.clone(),
            children,
            feed: HttpFeed::new().context("prepare to read lists by HTTPS")?,
            events,
            firewall: None,
            logs: None,
            patch: None,
            access: None,
            direct: watch::Sender::new(Vec::new()),
            command,
            published: watch::Sender::new(Modules::default()),
            output: watch::Sender::new(Output::Off),
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
        // Before the firewall, which lets live grants in from its first rules on.
        if self.apply_access(settings).await {
            changed.push(Name::Access.as_str().to_owned());
        }
        if self.apply_firewall(settings.firewall.as_ref()).await {
            changed.push(Name::Firewall.as_str().to_owned());
        }
        if self.apply_logs(settings).await {
            changed.push(Name::Logs.as_str().to_owned());
        }
        if self.apply_patch(settings).await {
            changed.push(Name::Patch.as_str().to_owned());
        }
        changed
    }

    /// A run that goes on is a process of its own: it is found again by its journal.
    async fn apply_patch(&mut self, settings: &Settings) -> bool {
        let wanted = settings.patch.as_ref();
        if self.patch.as_ref().map(|p| &p.settings) == wanted {
            return false;
        }
        self.stop_patch().await;
        if let Some(wanted) = wanted {
            let mut scope = Scope::new(&self.root);
            let parts = wiring::patch(&self.children, wanted, self.command.clone());
            let (told, seen) = watch::channel(patch::Told::Off);
            let (handle, task) = patch::new(wanted.clone(), seen, parts);
            let stop = scope.stop();
            scope.spawn("patch", task.run(stop));
            let said = wiring::tell_patch(handle.watch(), self.events.clone(), scope.stop());
            scope.spawn("patch events", said);
            if let (patch::Tell::Ssm, Some(aws)) = (wanted.compliance, &settings.aws) {
                let host = HostIdentity::kept_in(&settings.host.state_dir);
                let reports = wiring::report(aws, host, handle.watch(), told, scope.stop());
                scope.spawn("patch reports", reports);
            }
            self.patch = Some(Patch { scope, settings: wanted.clone(), handle });
        }
        self.publish();
        true
    }

    /// Ends the watch over patch runs. A run itself goes on, or is taken up by the next agent.
    pub(crate) async fn stop_patch(&mut self) {
        if let Some(running) = self.patch.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }

    /// Grants and logins outlive the module: its journal has them.
    async fn apply_access(&mut self, settings: &Settings) -> bool {
        let host = &settings.host;
        let wanted = match (&settings.access, &self.access) {
            (Some(wanted), _) => wanted.clone(),
            // The section is gone, and with it whom it named: their grants and logins are ended.
            (None, Some(running)) => running.settings.shut(),
            (None, None) if access::Settings::journal(&host.run_dir).exists() => {
                access::Settings::closed(&host.run_dir, &host.state_dir)
            }
            (None, None) => return false,
        };
        if self.access.as_ref().is_some_and(|a| a.settings == wanted) {
            return false;
        }
        self.stop_access().await;
        self.start_access(&wanted);
        self.publish();
        true
    }

    fn start_access(&mut self, wanted: &access::Settings) {
        let mut scope = Scope::new(&self.root);
        let key = Name::Access.as_str();
        let trouble =
            Trouble { key, events: self.events.clone(), published: self.published.clone() };
        let parts = access_wiring::access(wanted, &self.command.binary);
        let (handle, task, server, writer) = access::new(wanted.clone(), parts);
        self.direct.send_replace(handle.direct().borrow().clone());
        let told = access_wiring::tell_access(handle.entries(), self.events.clone(), scope.stop());
        scope.spawn("access events", told);
        let (stop, audit_stop) = (scope.stop(), scope.stop());
        scope.spawn("access audit", writer.run(audit_stop));
        scope.spawn("access", task.run(stop));
        let asked =
            access_wiring::keys(wanted.clone(), server, handle.watch(), trouble, scope.stop());
        scope.spawn("access keys", asked);
        let direct = access_wiring::forward(handle.direct(), self.direct.clone(), scope.stop());
        scope.spawn("access addresses", direct);
        self.access = Some(Access { scope, settings: wanted.clone(), handle });
    }

    async fn stop_access(&mut self) {
        if let Some(running) = self.access.take() {
            running.scope.shut_down(PATIENCE).await;
        }
    }

    async fn apply_firewall(&mut self, wanted: Option<&firewall::Settings>) -> bool {
        match (&self.firewall, wanted) {
            (None, None) => false,
            (Some(running), Some(wanted)) => {
                let differs = *running.settings.borrow() != *wanted;
                if differs {
                    running.settings.send_replace(wanted.clone());
                }
                differs
            }
            (None, Some(wanted)) => {
                let mut scope = Scope::new(&self.root);
                let (settings, seen) = watch::channel(wanted.clone());
                let (handle, task) =
                    firewall::new(seen, wiring::firewall(&self.children, self.feed.clone()));
                let task = task.with_grants(self.direct.subscribe());
                let stop = scope.stop();
                scope.spawn("firewall", task.run(stop));
                let told = wiring::tell_firewall(handle.watch(), self.events.clone(), scope.stop());
                scope.spawn("firewall events", told);
                self.firewall = Some(Firewall { scope, settings, handle });
                self.published.send_modify(|m| drop(m.troubles.remove(Name::Firewall.as_str())));
                self.publish();
                true
            }
            (Some(_), None) => {
                if let Some(running) = self.firewall.take() {
                    running.scope.shut_down(PATIENCE).await;
                }
                let why =
                    "the rules stay in the kernel; nft delete table inet palisade removes them";
                self.events.happened("firewall", "no longer kept", "", why);
                let key = Name::Firewall.as_str();
                let trouble = format!("no longer configured, and {why}");
                self.published.send_modify(|m| drop(m.troubles.insert(key, trouble)));
                self.publish();
                true
            }
        }
    }

    async fn apply_logs(&mut self, settings: &Settings) -> bool {
        match (&mut self.logs, settings.logs.as_ref()) {
            (None, None) => false,
            (Some(running), Some(wanted)) if running.settings == *wanted => false,
            (Some(running), Some(wanted)) => {
                let named = wiring::named(wanted.clone(), settings).await;
                if running.handle.reload(named).await.is_err() {
                    tracing::debug!("logs are being started again and will have the new settings");
                }
                running.settings = wanted.clone();
                self.open_output();
                true
            }
            (None, Some(wanted)) => {
                let wanted = wanted.clone();
                self.start_logs(wanted, settings).await;
                true
            }
            (Some(_), None) => {
                self.stop_logs(PATIENCE).await;
                self.output.send_replace(Output::Off);
                self.logs_retry = None;
                self.published.send_modify(|m| drop(m.troubles.remove(Name::Logs.as_str())));
                true
            }
        }
    }

    async fn start_logs(&mut self, wanted: logs::Settings, all: &Settings) {
        self.output.send_replace(Output::Waits);
        let mut scope = Scope::new(&self.root);
        let key = Name::Logs.as_str();
        let trouble =
            Trouble { key, events: self.events.clone(), published: self.published.clone() };
        match wiring::start_logs(&mut scope, wanted.clone(), all, trouble.clone()).await {
            Ok(handle) => {
                self.logs = Some(Logs { scope, settings: wanted, handle });
                self.logs_retry = None;
                self.open_output();
                self.publish();
            }
            Err(e) => {
                // Output waits in the pipes: a disk that is full now may not be in a while.
                trouble.is(Some(format!("not started: {e:#}")));
                self.logs_retry = Some(Instant::now() + LOGS_RETRY);
                scope.shut_down(PATIENCE).await;
            }
        }
    }

    /// Points the programs' output at the running log module, if it is to have it.
    fn open_output(&self) {
        let Some(running) = &self.logs else { return };
        let output = match running.settings.programs {
            true => Output::To(running.handle.clone()),
            false => Output::Off,
        };
        self.output.send_replace(output);
    }

    /// Ends the log module in good order; output waits in the pipes from now on.
    async fn stop_logs(&mut self, within: Duration) {
        self.output.send_replace(Output::Waits);
        let Some(running) = self.logs.take() else { return };
        self.publish();
        running.handle.stop(within).await;
        running.scope.shut_down(PATIENCE).await;
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
            () = of(self.logs.as_mut().map(|l| &mut l.scope)) => Name::Logs,
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
            Name::Logs => {
                self.stop_logs(Duration::ZERO).await;
                self.apply_logs(settings).await;
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

    /// Ends the modules. Firewall rules stay; logs are shipped as far as time allows.
    pub(crate) async fn stop(&mut self, within: Duration) {
        self.stop_patch().await;
        self.stop_access().await;
        self.stop_logs(within).await;
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
            m.logs = self.logs.as_ref().map(|l| l.handle.clone());
            m.patch = self.patch.as_ref().map(|p| p.handle.clone());
            m.access = self.access.as_ref().map(|a| a.handle.clone());
        });
    }
}
