//! The whole agent on one page: what is built in which order, what it listens to, how it ends.
//!
//! ```text
//! build: places, firewall, logs, patches, programs, control ─> run: READY, wait ─> End
//! ```

mod fixed;
mod groups;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use palisade_agent::{
    clock::{SystemClock, WallClock as _},
    config::{self, Settings},
    control::{self, AppHandle, AppRequest, Backend, Patience},
    errors::Chain,
    events::{self, Events},
    firewall, supervise,
    sys::{children::Children, event_file::EventFile, inherit::NamedFds},
    task::Scope,
};
use palisade_types::{
    ProcessState,
    control::{AgentStatus, ConfigState, Failure, FailureKind, Phase, Updated},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::groups::Reading;
use crate::{
    logging,
    modules::{Command, ModuleSet},
    own_events,
    place::Places,
    reexec::Origin,
    rollback::WayBack,
    signals::{self, Ask, Signals},
    supervisor_socket::{self, Sources, SupervisorSocket},
    systemd::Systemd,
    version::version,
    wiring::{self, Output},
};

/// How long programs may take to stop at the end, beyond their own `stopwaitsecs`.
const STOP_SLACK: Duration = Duration::from_secs(5);
/// How long logs may take to be shipped at the end; the rest is kept on disk.
const LOGS_WITHIN: Duration = Duration::from_secs(10);
/// How long output may take to come to a rest before an upgrade.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// How long logs may take to be shipped before an upgrade: output waits in the pipes meanwhile, and the
/// next program ships what is on disk.
const UPGRADE_LOGS_WITHIN: Duration = Duration::from_secs(1);
/// How long programs wait for the firewall at the start.
const FIREWALL_WITHIN: Duration = Duration::from_secs(10);
/// How long requests may go on once they are no longer taken.
const CONTROL_WITHIN: Duration = Duration::from_secs(3);

/// Keeps a good configuration for a start with a bad one.
fn remember(settings: &Settings, files: &config::Texts) {
    if let Err(e) = config::keep(&wiring::safe_dir(&settings.host.state_dir), files) {
        tracing::warn!(error = %e, "this configuration is not kept for a start with a broken file");
    }
}

/// What a life of the agent begins with, beside its settings and open files.
pub(crate) struct Start {
    pub(crate) config: PathBuf,
    pub(crate) config_state: ConfigState,
    /// The texts that the settings are of, if they have no mistakes.
    pub(crate) files: Option<config::Texts>,
    pub(crate) origin: Origin,
    pub(crate) way_back: WayBack,
    /// Why an upgrade came to nothing, if that is why it begins.
    pub(crate) not_upgraded: Option<String>,
}

/// How a life of the agent ended.
pub(crate) enum End {
    /// By request; the programs are stopped.
    Stopped,
    /// A part failed that nothing goes on without; the programs run on.
    Broken,
    /// To go on as the binary at the path, with these settings if that fails and these open files.
    Upgrade(Box<Settings>, NamedFds),
}

/// Everything that lives as long as the agent does under one binary.
pub(crate) struct App {
    config: PathBuf,
    files: Option<config::Texts>,
    settings: Settings,
    origin: Origin,
    way_back: WayBack,
    places: Places,
    children: Children,
    events: Events<SystemClock>,
    record: Scope,
    control: Scope,
    supervising: Scope,
    supervise: supervise::Handle,
    modules: ModuleSet,
    status: watch::Sender<AgentStatus>,
    requests: mpsc::Receiver<AppRequest>,
    read: Reading,
    /// What was told of the configuration before a reading found mistakes.
    before_mistakes: Option<ConfigState>,
    tools: SupervisorSocket,
    restarting: groups::Restarting,
    signals: Signals,
    systemd: Systemd,
}

impl App {
    pub(crate) async fn build(
        start: Start,
        settings: Settings,
        mut inherited: NamedFds,
    ) -> anyhow::Result<Self> {
        let Start { config, config_state, files, origin, way_back, not_upgraded } = start;
        let root = CancellationToken::new();
        let signals = Signals::new().context("listen to signals")?;
        let places = Places::take(&settings, &mut inherited)?;
        let children = Children::default();

        let (events, pending) = events::record(SystemClock);
        let mut record = Scope::new(&root);
        let file = EventFile::new(settings.host.state_dir.join("events.ndjson"));
        let (own, own_seen) = watch::channel(Output::Waits);
        let (file, told) = own_events::tee(file, own_seen);
        record.spawn("events", events::run(pending, file, record.stop()));
        record.spawn("events to logs", told);
        record.spawn("own log", logging::catch_up(record.stop()));
        let systemd = Systemd::new().context("start a thread that talks to systemd")?;
        if let Some(limit) = Systemd::watchdog_interval() {
            record.spawn("watchdog", systemd.clone().keep_alive(limit, record.stop()));
        }
        record.spawn("code of the start", wiring::forget_start(record.stop()));
        let version = version();
        let pid = std::process::id();
        match (&not_upgraded, origin.upgrades) {
            (Some(why), _) => {
                events.happened("agent", "upgrade came to nothing", version, why.clone());
            }
            (None, 0) => events.happened("agent", "agent started", version, format!("pid {pid}")),
            (None, n) => {
                let why = format!("pid {pid}, {n} times");
                events.happened("agent", "agent upgraded in place", version, why);
            }
        }

        let (status, status_seen) = watch::channel(AgentStatus {
            version: version.to_owned(),
            pid: std::process::id(),
            since: SystemClock.now().as_millis(),
            upgrades: origin.upgrades,
            phase: Phase::Starting,
            config: config_state,
            degraded: places.degraded.clone(),
            not_upgraded,
        });

        let tools_socket = supervisor_socket::inherited(&mut inherited);
        let command = Command { binary: origin.binary.clone(), config: config.clone() };
        let mut modules =
            ModuleSet::new(&root, children.clone(), events.clone(), own, command, &mut inherited)?;
        modules.apply(&settings).await;
        if !modules.firewall_settled(FIREWALL_WITHIN).await {
            events.happened("firewall", "programs start without it", "", "it is not in force yet");
        }

        let mut supervising = Scope::new(&root);
        let parts = wiring::supervisor(&settings, &children, modules.output(), inherited)?;
        let supervise = supervise::start(&mut supervising, settings.supervise.clone(), parts)
            .context("start supervising")?;
        modules.supervises(supervise.clone());
        let told = wiring::tell(supervise.events(), events.clone(), supervising.stop());
        supervising.spawn("supervise events", told);
        let minded =
            wiring::schedules(&settings, supervise.clone(), events.clone(), supervising.stop());
        supervising.spawn("schedules", minded);

        let (app, requests) = AppHandle::new(status_seen);
        let sources =
            Sources { app: app.clone(), supervise: supervise.clone(), events: events.clone() };
        let mut tools = SupervisorSocket::new(&root, sources, modules.trouble("supervisor_socket"));
        tools.apply(&settings, tools_socket).await;
        let backend = Backend {
            app,
            supervise: supervise.clone(),
            modules: modules.published(),
            events: events.clone(),
        };
        let mut control = Scope::new(&root);
        let listener = places.listener().context("listen on the control socket")?;
        let serving =
            control::serve(listener, control::router(backend), Patience::Brief, control.stop());
        control.spawn("control", serving);

        // Not before: a word to stop that comes now is to reach whoever takes over if this fails.
        signals::release().context("let signals in")?;
        let read = Reading { processes: settings.supervise.processes.clone(), files: None };
        Ok(Self {
            config,
            files,
            settings,
            origin,
            way_back,
            places,
            children,
            events,
            record,
            control,
            supervising,
            supervise,
            modules,
            status,
            requests,
            read,
            before_mistakes: None,
            tools,
            restarting: None,
            signals,
            systemd,
        })
    }

    pub(crate) async fn run(mut self) -> End {
        self.set_phase(Phase::Running);
        // Not before the lock is ours: another agent's file is not to be the next start's.
        if let Some(files) = self.files.take() {
            remember(&self.settings, &files);
        }
        self.systemd.ready(&self.summary());
        self.way_back.is_not_needed();
        let mut programs = self.supervise.status();
        loop {
            // Every arm only waits: a signal, request or change that loses the race is still there.
            tokio::select! {
                ask = self.signals.next() => match ask {
                    Ask::Stop => return self.stop("asked by signal").await,
                    Ask::Reload => drop(self.update("SIGHUP").await),
                    Ask::Upgrade => match self.upgrade("SIGUSR2").await {
                        Ok(files) => return End::Upgrade(Box::new(self.settings), files),
                        Err(failure) => self.not_upgraded(&failure),
                    },
                },
                Some(request) = self.requests.recv() => match request {
                    AppRequest::Update { by, reply } => {
                        // Whoever asked may have gone away; the update stands all the same.
                        drop(reply.send(self.update(&by).await));
                    }
                    AppRequest::Upgrade { by, reply } => match self.checked(&by).await {
                        Ok(()) => {
                            drop(reply.send(Ok(())));
                            match self.hand_over().await {
                                Ok(files) => return End::Upgrade(Box::new(self.settings), files),
                                Err(failure) => self.not_upgraded(&failure),
                            }
                        }
                        Err(failure) => {
                            self.not_upgraded(&failure);
                            drop(reply.send(Err(failure)));
                        }
                    },
                    AppRequest::ShutDown { by, reply } => {
                        reply.send(()).unwrap_or_default();
                        return self.stop(&format!("asked by {by}")).await;
                    }
                    // Whoever asked one of these may have gone away, and what was done stands.
                    AppRequest::Reread { by, reply } => drop(reply.send(self.reread(&by))),
                    AppRequest::AddGroup { group, by, reply } => {
                        drop(reply.send(self.add_group(&group, &by).await));
                    }
                    AppRequest::RemoveGroup { group, by, reply } => {
                        drop(reply.send(self.remove_group(&group, &by).await));
                    }
                    AppRequest::FirewallSettings { reply } => drop(reply.send(self.firewall_settings())),
                    AppRequest::Configured { reply } => drop(reply.send(self.read.processes.clone())),
                    AppRequest::Restart { by, reply } => {
                        reply.send(()).unwrap_or_default();
                        self.begin_restart(&by);
                    }
                },
                () = groups::all_stopped(&mut self.restarting) => self.finish_restart().await,
                ended = self.control.next_end() => return self.broken("control", ended),
                ended = self.supervising.next_end() => return self.broken("supervise", ended),
                name = self.modules.ended() => if !self.modules.revive(name, &self.settings).await {
                    return self.broken(name.as_str(), None);
                },
                Ok(()) = programs.changed() => self.systemd.status(&self.summary()),
            }
        }
    }

    /// Reads the configuration anew and applies it, or keeps all as it is.
    async fn update(&mut self, by: &str) -> Result<Updated, Failure> {
        if self.restarting.is_some() {
            let error = "all programs are being stopped, to be started anew";
            return Err(Failure::new(FailureKind::Busy, error));
        }
        self.systemd.reloading();
        let done = self.try_update(by).await;
        self.systemd.ready(&self.summary());
        done
    }

    async fn try_update(&mut self, by: &str) -> Result<Updated, Failure> {
        let path = self.config.display().to_string();
        let (new, files) = match config::read(&self.config) {
            Ok(read) => read,
            Err(mistakes) => {
                let error =
                    format!("the configuration has mistakes: {}", self.refuse(&mistakes, by));
                return Err(Failure::new(FailureKind::BadRequest, error).hint(
                    "the settings before are still in force; palisade check lists every mistake",
                ));
            }
        };
        for warning in new.warnings.iter().filter(|w| !self.settings.warnings.contains(w)) {
            tracing::warn!("{warning}");
        }
        let mut updated =
            Updated { needs_restart: fixed::fixed(&self.settings, &new), ..Updated::default() };
        let new = fixed::keep_fixed(&self.settings, new);
        updated.sections = self.modules.apply(&new).await;
        updated.kept_back = self.modules.kept_back();
        let changes = self
            .supervise
            .update(new.supervise.clone())
            .await
            .map_err(|e| Failure::new(FailureKind::Busy, Chain(&e).to_string()))?;
        let names = |list: Vec<palisade_types::ProcessName>| {
            list.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        updated.added = names(changes.added);
        updated.removed = names(changes.removed);
        updated.changed = names(changes.changed);
        self.read = Reading { processes: new.supervise.processes.clone(), files: None };
        self.before_mistakes = None;
        self.tools.apply(&new, None).await;
        self.settings = new;
        remember(&self.settings, &files);
        self.status.send_modify(|s| s.config = current(&self.config));
        let what = format!(
            "{} added, {} removed, {} changed",
            updated.added.len(),
            updated.removed.len(),
            updated.changed.len()
        );
        self.events.asked("config", "configuration applied", path, what, by);
        Ok(updated)
    }

    /// The firewall's section of the file as it is now; nothing else of it counts here.
    fn firewall_settings(&self) -> Result<firewall::Settings, Failure> {
        let mistakes = |m: config::Mistakes| {
            let error = format!("the configuration has mistakes: {m}");
            Failure::new(FailureKind::BadRequest, error).hint("palisade check lists every mistake")
        };
        let new = config::load(&self.config).map_err(mistakes)?;
        fixed::keep_fixed(&self.settings, new).firewall.ok_or_else(|| {
            let error = "the configuration has no firewall section";
            Failure::new(FailureKind::NotFound, error)
                .hint("to enforce nothing set firewall.enforce: false")
        })
    }

    async fn upgrade(&mut self, by: &str) -> Result<NamedFds, Failure> {
        self.checked(by).await?;
        self.hand_over().await
    }

    /// Whether the binary at the path may take over.
    async fn checked(&self, by: &str) -> Result<(), Failure> {
        if self.restarting.is_some() {
            let error = "upgrade: all programs are being stopped, to be started anew";
            return Err(Failure::new(FailureKind::Busy, error));
        }
        self.status.send_modify(|s| s.not_upgraded = None);
        let path = self.origin.binary.display().to_string();
        self.events.asked("agent", "upgrade asked for", path, "", by);
        self.origin.check(&self.children, &self.config).await?;
        // The next program looks for ours where its own configuration says.
        let new = config::load(&self.config)
            .map_err(|mistakes| Failure::new(FailureKind::BadRequest, mistakes.to_string()))?;
        let moved = new.host != self.settings.host
            || fixed::is_moved(&self.settings, &new)
            || new.supervise.cgroup != self.settings.supervise.cgroup;
        if moved {
            let error = "upgrade: host or control changed in the configuration";
            return Err(Failure::new(FailureKind::Refused, error).hint(
                "programs would not be found again; undo the change, or stop and start the agent",
            ));
        }
        let way_back =
            self.way_back.keep().and_then(|()| self.way_back.will_try(&self.origin.binary));
        way_back.map_err(|e| {
            let error = format!("upgrade: put the running binary aside, to go back to: {e}");
            Failure::new(FailureKind::Failed, error)
                .hint("make room below host.state_dir and run palisade upgrade again")
        })
    }

    /// Brings every part to a rest and returns the files to hand on. Programs notice nothing.
    async fn hand_over(&mut self) -> Result<NamedFds, Failure> {
        let sockets =
            self.supervise.prepare_handover(REST_WITHIN).await.map_err(|e| {
                Failure::new(FailureKind::Failed, format!("upgrade: {}", Chain(&e)))
            })?;
        // From here on the dead are left for the next program to wait for.
        self.children.leave_the_dead();
        self.systemd.reloading();
        // First, so that who comes now waits for the next program and is not told that all is over.
        let tools = self.tools.hand_on().await;
        self.set_phase(Phase::Stopping);
        let stop = CancellationToken::new();
        std::mem::replace(&mut self.control, Scope::new(&stop)).shut_down(CONTROL_WITHIN).await;
        self.modules.stop(UPGRADE_LOGS_WITHIN).await;
        std::mem::replace(&mut self.supervising, Scope::new(&stop)).shut_down(REST_WITHIN).await;
        self.events.happened("agent", "handing over to the binary at the path", "", "");
        std::mem::replace(&mut self.record, Scope::new(&stop)).shut_down(CONTROL_WITHIN).await;
        let mut files = self
            .places
            .hand_on()
            .map_err(|e| Failure::new(FailureKind::Failed, format!("upgrade: {e}")))?;
        files.extend(sockets);
        files.extend(tools);
        files.extend(self.modules.hand_on());
        // Signals wait from here until the next program listens. One that came during the hand-over is
        // sent again, to be among those.
        let held = signals::hold().and_then(|()| match self.signals.arrived() {
            Some(Ask::Stop) => signals::stop_again(),
            Some(Ask::Reload | Ask::Upgrade) | None => Ok(()),
        });
        if let Err(e) = held {
            tracing::warn!(error = %e, "a signal that comes just now may be lost");
        }
        Ok(files)
    }

    fn not_upgraded(&self, failure: &Failure) {
        self.way_back.is_not_needed();
        self.status.send_modify(|s| s.not_upgraded = Some(failure.to_string()));
        self.events.happened("agent", "not upgraded", "", failure.to_string());
    }

    async fn stop(mut self, why: &str) -> End {
        self.systemd.stopping();
        self.set_phase(Phase::Stopping);
        self.events.happened("agent", "agent stopping", "", why);
        self.control.shut_down(CONTROL_WITHIN).await;
        // Before the programs, which may take long: a run that ends because the host is restarted must
        // not be taken for one that was cut off.
        self.modules.stop_patch().await;
        let patience = self.supervise.longest_stop().await.unwrap_or_default();
        match self.supervise.shut_down(patience + STOP_SLACK).await {
            Ok(0) => {}
            Ok(killed) => {
                let why = format!("{killed} did not stop in time and were killed");
                self.events.happened("supervise", "processes killed at the end", "", why);
            }
            Err(e) => tracing::error!(error = %Chain(&e), "programs could not be stopped"),
        }
        // Until here it told Supervisor's tools that all is being stopped.
        self.tools.close().await;
        self.supervising.shut_down(STOP_SLACK).await;
        self.modules.stop(LOGS_WITHIN).await;
        self.events.happened("agent", "agent stopped", "", "");
        self.record.shut_down(CONTROL_WITHIN).await;
        self.places.leave();
        End::Stopped
    }

    /// A part ended that nothing goes on without.
    fn broken(
        &self,
        part: &str,
        ended: Option<Result<&'static str, tokio::task::JoinError>>,
    ) -> End {
        let why = match ended {
            Some(Err(e)) => e.to_string(),
            Some(Ok(task)) => format!("its task {task} ended"),
            None => "it failed again and again".to_owned(),
        };
        tracing::error!(part, why, "a part of the agent failed; ending so that it is started anew");
        End::Broken
    }

    fn set_phase(&self, phase: Phase) {
        self.status.send_modify(|s| s.phase = phase);
    }

    /// One line for `systemctl status`.
    fn summary(&self) -> String {
        let programs = self.supervise.status();
        let programs = programs.borrow();
        let up = programs.iter().filter(|p| p.state == ProcessState::Running).count();
        format!("{up} of {} processes running{}", programs.len(), self.modules.summary())
    }
}

pub(crate) fn current(config: &std::path::Path) -> ConfigState {
    ConfigState::Current {
        path: config.display().to_string(),
        since: SystemClock.now().as_millis(),
    }
}

pub(crate) fn stale(config: &std::path::Path, mistakes: &config::Mistakes) -> ConfigState {
    ConfigState::Stale {
        path: config.display().to_string(),
        since: SystemClock.now().as_millis(),
        mistakes: mistakes.all().iter().map(ToString::to_string).collect(),
    }
}
