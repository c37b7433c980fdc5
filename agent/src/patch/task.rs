//! The patch task of the agent: looks, starts runs when windows open, watches them, and publishes.
//!
//! It never installs anything itself: a run is a process of its own, so that it may replace the agent.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    handle::{Command, Handle, QUEUE, RunError, When},
    model::{Report, Verdict},
    plan::Plan,
    ports::{HostError, Journal, Packages, Starter},
    record::{Ended, Phase, Record, Trigger},
    run::{MAX_RESUMED, look},
    schedule::{self, Next},
    settings::{Reboot, Settings},
    standing,
    status::{Planned, Status, Told},
};
use crate::{clock::WallClock, errors::Chain};

/// Between two looks at a run that goes on.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Longest rest between two looks at the wall clock, which may jump.
const CLOCK_EVERY: Duration = Duration::from_secs(20);
/// Rest between two looks at what is missing: fresh lists are fetched well before they are too old.
const LOOKS_PER_AGE: u32 = 4;
/// Shortest rest between two looks.
const MIN_LOOK: Duration = Duration::from_secs(5);
/// Longest rest between two looks.
const MAX_LOOK: Duration = Duration::from_secs(6 * 3600);
/// Looks in a row that must miss a run's process before it counts as cut off: it takes a moment to be
/// there, and to write down that it is over.
const MISSES: u32 = 4;

/// What the task works with.
#[derive(Debug)]
pub struct TaskParts<P, J, S, C> {
    /// Packages, to look at only.
    pub packages: P,
    /// Where runs are written down.
    pub journal: J,
    /// What starts runs.
    pub starter: S,
    /// The time.
    pub clock: C,
    /// The host's name or id: it spreads hosts over the splay.
    pub host: String,
}

/// The task, to be run.
#[derive(Debug)]
pub struct Task<P, J, S, C> {
    settings: Settings,
    told: watch::Receiver<Told>,
    parts: TaskParts<P, J, S, C>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    current: Option<Record>,
    misses: u32,
    next_look: Instant,
}

/// A new task, and the handle to it. `told` is how it stands with telling others.
pub fn new<P, J, S, C>(
    settings: Settings,
    told: watch::Receiver<Told>,
    parts: TaskParts<P, J, S, C>,
) -> (Handle, Task<P, J, S, C>) {
    let (tx, commands) = mpsc::channel(QUEUE);
    let (status, seen) = watch::channel(Status::default());
    let handle = Handle { commands: tx, status: seen };
    let next_look = Instant::now();
    let task =
        Task { settings, told, parts, commands, status, current: None, misses: 0, next_look };
    (handle, task)
}

impl<P: Packages, J: Journal, S: Starter, C: WallClock> Task<P, J, S, C> {
    /// Works until told to stop. A run that goes on is not touched by that.
    pub async fn run(mut self, stop: CancellationToken) {
        self.current = self.load();
        loop {
            let rest = self.turn().await;
            // Every arm only waits: a command or change that loses the race is still there.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(command) = self.commands.recv() => self.answer(command).await,
                Ok(()) = self.told.changed() => {}
                () = time::sleep(rest) => {}
            }
        }
    }

    fn load(&self) -> Option<Record> {
        self.parts.journal.load().unwrap_or_else(|e| {
            tracing::warn!(error = %e, "the journal of patch runs cannot be read");
            None
        })
    }

    fn goes_on(&self) -> Option<&Record> {
        self.current.as_ref().filter(|r| r.phase != Phase::Done)
    }

    /// Does what is due, publishes, and returns how long there is nothing to do.
    async fn turn(&mut self) -> Duration {
        if self.goes_on().is_some() {
            self.watch_run().await;
        }
        let settings = self.settings.clone();
        let now = self.parts.clock.now();
        let mut rest = CLOCK_EVERY;
        if self.goes_on().is_some() {
            rest = WATCH_EVERY;
        } else {
            match schedule::next(&settings, &self.parts.host, self.current.as_ref(), now) {
                Next::Begin(open) => {
                    let last_call = Some(open.last_call(settings.cutoff));
                    let record = Record::new(Trigger::Window, "", now, last_call);
                    if let Err(e) = self.start(record).await {
                        tracing::warn!(error = %e, "a patch run could not be started");
                    }
                    rest = WATCH_EVERY;
                }
                Next::At(t) => rest = rest.min(t.since(now).max(Duration::from_millis(50))),
                Next::Never => {}
            }
        }
        if self.goes_on().is_none() && Instant::now() >= self.next_look {
            self.look(&settings).await;
            let every = (settings.lists_max_age / LOOKS_PER_AGE).clamp(MIN_LOOK, MAX_LOOK);
            self.next_look = Instant::now() + every;
        }
        if self.goes_on().is_none() {
            rest = rest.min(self.next_look.saturating_duration_since(Instant::now()));
        }
        self.publish(&settings);
        rest
    }

    /// Fresh lists, where they are not fresh enough, and what is missing by them.
    async fn look(&mut self, settings: &Settings) {
        let now = self.parts.clock.now();
        if let Err(e) = self.parts.packages.refresh(now).await {
            tracing::warn!(error = %Chain(&e), "package lists were not fetched");
        }
        match look(&mut self.parts.packages, settings, self.parts.clock.now()).await {
            Ok((plan, _)) => self.found(&plan),
            Err(e) => {
                let error = Chain(&e).to_string();
                // What was known is not known any more, and that is told to others too.
                let report = Report {
                    at: now,
                    run: self.current.as_ref().map(|r| r.id.clone()),
                    verdict: Verdict::Unknown { why: error.clone() },
                    items: Vec::new(),
                    release: None,
                    lists_age_s: None,
                };
                self.status.send_modify(|s| {
                    s.error = Some(error);
                    s.report = Some(report);
                    s.waiting = 0;
                });
            }
        }
    }

    fn found(&self, plan: &Plan) {
        let report = standing::report(plan, self.current.as_ref());
        self.status.send_modify(|s| {
            s.report = Some(report);
            s.waiting = plan.updates.len();
            s.error = None;
        });
    }

    /// Reads on in the journal; takes up a run whose process is gone.
    async fn watch_run(&mut self) {
        self.current = self.load();
        let Some(mut record) = self.goes_on().cloned() else {
            self.next_look = Instant::now();
            self.misses = 0;
            return;
        };
        if self.parts.starter.is_running().await {
            self.misses = 0;
            return;
        }
        self.misses += 1;
        if self.misses < MISSES {
            return;
        }
        self.misses = 0;
        if record.resumed >= MAX_RESUMED {
            // Its process ends before it can even say why.
            let why = format!("it was cut off {} times", record.resumed);
            tracing::error!(run = %record.id, why, "a patch run is given up");
            self.give_up(record, why);
            return;
        }
        record.resumed += 1;
        tracing::warn!(run = %record.id, phase = ?record.phase, "a patch run was cut off and goes on");
        // It stays written down as it is if it cannot be started now, for example because the host
        // is going down.
        if let Err(e) = self.begin(&record).await {
            tracing::warn!(error = %Chain(&e), "a patch run could not be taken up; tried again");
        }
    }

    /// Writes down that a run is over and failed.
    fn give_up(&mut self, record: Record, why: String) {
        let over = Record {
            phase: Phase::Done,
            ended: Some(self.parts.clock.now()),
            outcome: Some(Ended::Failed { why }),
            ..record
        };
        if let Err(e) = self.parts.journal.close(&over) {
            tracing::warn!(error = %e, "the journal could not be written");
        }
        self.current = Some(over);
    }

    /// Writes the run down and starts its process.
    async fn begin(&mut self, record: &Record) -> Result<(), HostError> {
        self.parts.journal.save(record).map_err(|e| HostError::because("write the journal", e))?;
        self.misses = 0;
        self.current = Some(record.clone());
        self.parts.starter.start(record).await
    }

    /// Starts a new run. One that cannot be started is over.
    async fn start(&mut self, record: Record) -> Result<Record, RunError> {
        if let Err(e) = self.begin(&record).await {
            let why = Chain(&e).to_string();
            self.give_up(record, why.clone());
            return Err(RunError::Failed(why));
        }
        Ok(record)
    }

    async fn answer(&mut self, command: Command) {
        // Whoever asked may have gone away; what was done stands all the same.
        match command {
            Command::Plan(reply) => drop(reply.send(self.plan().await)),
            Command::Run { when, by, reply } => drop(reply.send(self.asked(when, &by).await)),
            Command::History(n, reply) => {
                drop(reply.send(self.parts.journal.history(n).map_err(|e| e.to_string())));
            }
        }
    }

    async fn plan(&mut self) -> Result<Planned, String> {
        let settings = self.settings.clone();
        let now = self.parts.clock.now();
        let (plan, _) = look(&mut self.parts.packages, &settings, now)
            .await
            .map_err(|e| Chain(&e).to_string())?;
        if self.goes_on().is_none() {
            self.found(&plan);
        }
        let due = match schedule::next(&settings, &self.parts.host, self.current.as_ref(), now) {
            Next::Begin(_) => Some(now),
            Next::At(t) => Some(t),
            Next::Never => None,
        };
        Ok(Planned { plan, due, may_restart: settings.reboot == Reboot::WhenNeeded })
    }

    async fn asked(&mut self, when: When, by: &str) -> Result<Record, RunError> {
        if let Some(record) = self.goes_on() {
            return Err(RunError::Running(record.id.clone()));
        }
        let settings = self.settings.clone();
        let now = self.parts.clock.now();
        let open = settings.windows.open_at(now).filter(|o| now < o.last_call(settings.cutoff));
        let record = match (open, when) {
            (Some(open), _) => {
                Record::new(Trigger::Asked, by, now, Some(open.last_call(settings.cutoff)))
            }
            (None, When::Now) => Record::new(Trigger::Now, by, now, None),
            (None, When::InWindow) => {
                let next = settings.windows.next_after(now).map(|o| o.start);
                return Err(RunError::Closed { next });
            }
        };
        self.start(record).await
    }

    fn publish(&mut self, settings: &Settings) {
        let now = self.parts.clock.now();
        let told = self.told.borrow_and_update().clone();
        let running = self.goes_on().cloned();
        let last = self.current.clone().filter(|r| r.phase == Phase::Done);
        let due = match schedule::next(settings, &self.parts.host, self.current.as_ref(), now) {
            Next::Begin(_) => Some(now),
            Next::At(t) => Some(t),
            Next::Never => None,
        };
        self.status.send_modify(|s| {
            s.open = settings.windows.open_at(now);
            s.next = settings.windows.next_after(now);
            s.due = due;
            if last.is_some() {
                s.last = last;
            }
            s.running = running;
            s.told = told;
        });
    }
}

#[cfg(test)]
mod tests;
