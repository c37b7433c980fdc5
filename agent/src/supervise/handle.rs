//! How the rest of the agent talks to the supervisor.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use palisade_types::{GroupName, ProcessName, ProcessState, ProcessStatus, ScheduleStatus};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    Changes, Exit, Info, ProcessSpec, Reading, RollError, Rolled, Scheduled, Settings, StartError,
    StopError, Stream, SuperviseError, UnknownName, UsageOf, Whom,
    rolling::{RollAnswer, RollReply},
    usage::Meter,
};
use crate::clock::Timestamp;

/// Requests that may wait to be taken; a caller waits when it is full.
pub(super) const COMMANDS: usize = 64;

/// Events kept for a slow listener; it is told how many it missed.
pub(super) const EVENTS: usize = 1024;

/// Which processes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of them.
    All,
    /// Those of a group.
    Group(GroupName),
    /// One.
    Process(ProcessName),
}

/// One thing that happened to a process, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To which process.
    pub process: ProcessName,
    /// Of which group.
    pub group: GroupName,
    /// The state it left.
    pub from: ProcessState,
    /// The state it is in.
    pub to: ProcessState,
    /// Its pid, 0 if it has none.
    pub pid: i32,
    /// How the child ended, where that is what happened.
    pub exit: Option<Exit>,
    /// Why.
    pub why: String,
    /// What it is if it is no change of the state: `from` and `to` are the same then.
    pub note: Option<Note>,
    /// The settings that governed the process.
    #[serde(skip)]
    pub spec: Arc<ProcessSpec>,
}

/// What happens to a process beside the changes of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A new instance has taken its place, and it went on all the time.
    Replaced,
    /// The new instance did not come up, and the one that runs stays.
    NotReplaced,
    /// It gives no good answer, and is restarted.
    Unhealthy,
    /// It uses more memory than it may, and is replaced.
    Recycled,
    /// It comes up and ends again too often, and is started ever slower.
    StormBegan,
    /// That is over.
    StormEnded,
}

impl Note {
    /// A few fixed words, as they stand in the record.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Replaced => "process replaced",
            Self::NotReplaced => "process not replaced",
            Self::Unhealthy => "process unhealthy",
            Self::Recycled => "process recycled",
            Self::StormBegan => "restart storm began",
            Self::StormEnded => "restart storm ended",
        }
    }
}

/// What happened to each process of a request, in order of name.
pub type PerProcess<E> = Vec<(ProcessName, Result<(), E>)>;

/// What a restart came to: how each was stopped, and how it was started.
pub type Restarted = (PerProcess<StopError>, PerProcess<StartError>);

/// What happens to each process of a request, once that is known; nothing if the supervisor ends before.
pub type Outcome<E> = oneshot::Receiver<Result<PerProcess<E>, UnknownName>>;

/// Open files for the next agent, by the names under which [`super::start`] takes them back. They are
/// closed on exec: whoever execs must clear that.
pub type HandOver = BTreeMap<String, OwnedFd>;

/// How long what is stopped stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Until somebody asks for a start.
    Asked,
    /// Until whoever stopped it starts it, or the next agent does.
    StartedAgain,
}

#[derive(Debug)]
pub(super) enum Command {
    Start(Vec<Target>, oneshot::Sender<Result<PerProcess<StartError>, UnknownName>>),
    Restart(Vec<Target>, oneshot::Sender<Result<Restarted, UnknownName>>),
    Stop(Vec<Target>, Until, oneshot::Sender<Result<PerProcess<StopError>, UnknownName>>),
    Roll(ProcessName, RollReply),
    Replaced(Vec<ProcessName>, oneshot::Sender<PerProcess<String>>),
    Signal(Signal, Whom, Vec<Target>, oneshot::Sender<Result<PerProcess<StopError>, UnknownName>>),
    Infos(oneshot::Sender<Vec<Info>>),
    LogPath(ProcessName, Stream, oneshot::Sender<Result<Option<PathBuf>, UnknownName>>),
    Tail(ProcessName, Stream, u64, oneshot::Sender<Result<Vec<u8>, SuperviseError>>),
    Clear(ProcessName, oneshot::Sender<Result<(), SuperviseError>>),
    SendStdin(ProcessName, Vec<u8>, oneshot::Sender<Result<(), SuperviseError>>),
    Remote(String, String, oneshot::Sender<()>),
    Update(Box<Settings>, oneshot::Sender<Changes>),
    Plan(Box<Settings>, oneshot::Sender<Changes>),
    LongestStop(oneshot::Sender<Duration>),
    ShutDown(Duration, oneshot::Sender<usize>),
    HandOver(Duration, oneshot::Sender<Result<HandOver, SuperviseError>>),
    Resume(oneshot::Sender<()>),
    TellSchedules(BTreeMap<ProcessName, ScheduleStatus>),
}

/// The supervisor, from outside. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Vec<ProcessStatus>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) schedules: watch::Receiver<BTreeMap<ProcessName, Scheduled>>,
    pub(super) meter: Meter,
}

impl Handle {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, SuperviseError> {
        let (tx, rx) = oneshot::channel();
        self.commands.send(command(tx)).await.map_err(|_| SuperviseError::Ended)?;
        rx.await.map_err(|_| SuperviseError::Ended)
    }

    /// All processes, in order of name, as they are now and whenever one changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Vec<ProcessStatus>> {
        self.status.clone()
    }

    /// The schedules in force, as they are now and whenever one changes.
    #[must_use]
    pub fn schedules(&self) -> watch::Receiver<BTreeMap<ProcessName, Scheduled>> {
        self.schedules.clone()
    }

    /// Tells what is to be shown of schedules. False if the supervisor is too busy to hear of it.
    #[must_use]
    pub(super) fn tell_schedules(&self, shown: BTreeMap<ProcessName, ScheduleStatus>) -> bool {
        self.commands.try_send(Command::TellSchedules(shown)).is_ok()
    }

    /// What each living process uses, itself and all that it started. Reads the host only when asked;
    /// the first answer in a while takes half a second.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn usage(&self) -> Result<UsageOf, SuperviseError> {
        self.meter.look().await
    }

    /// What each living process has used since it started, itself and all that it started: one pass over
    /// the host, which leaves the rates of [`usage`](Self::usage) as they are.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn used(&self) -> Result<BTreeMap<ProcessName, Reading>, SuperviseError> {
        self.meter.so_far().await
    }

    /// What happens from now on. A listener that is slower than 1024 events is told what it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Starts processes, in order of priority, and waits until each is up or failed.
    ///
    /// # Errors
    /// When a name is unknown; nothing is started then.
    pub async fn start(
        &self,
        targets: Vec<Target>,
    ) -> Result<PerProcess<StartError>, SuperviseError> {
        Ok(self.ask(|tx| Command::Start(targets, tx)).await??)
    }

    /// As [`Self::start`], whose outcome whoever asks may wait for or not.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn begin_start(
        &self,
        targets: Vec<Target>,
    ) -> Result<Outcome<StartError>, SuperviseError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Start(targets, reply);
        self.commands.send(command).await.map_err(|_| SuperviseError::Ended)?;
        Ok(outcome)
    }

    /// As [`Self::stop`], whose outcome whoever asks may wait for or not.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn begin_stop(
        &self,
        targets: Vec<Target>,
    ) -> Result<Outcome<StopError>, SuperviseError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Stop(targets, Until::Asked, reply);
        self.commands.send(command).await.map_err(|_| SuperviseError::Ended)?;
        Ok(outcome)
    }

    /// All that is known of every process, in order of name.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn infos(&self) -> Result<Vec<Info>, SuperviseError> {
        self.ask(Command::Infos).await
    }

    /// Stops processes and waits until they are gone.
    ///
    /// # Errors
    /// When a name is unknown; nothing is stopped then.
    pub async fn stop(
        &self,
        targets: Vec<Target>,
    ) -> Result<PerProcess<StopError>, SuperviseError> {
        Ok(self.ask(|tx| Command::Stop(targets, Until::Asked, tx)).await??)
    }

    /// As [`Self::stop`], of what whoever asks will start again: if the agent dies before that, the next
    /// one does it.
    ///
    /// # Errors
    /// When a name is unknown; nothing is stopped then.
    pub async fn stop_for_restart(
        &self,
        targets: Vec<Target>,
    ) -> Result<PerProcess<StopError>, SuperviseError> {
        Ok(self.ask(|tx| Command::Stop(targets, Until::StartedAgain, tx)).await??)
    }

    /// Stops and starts; a process that does not run is started. Both outcomes, as `supervisorctl`
    /// prints them. Begun, it is done to its end, whether or not anybody waits for it.
    ///
    /// # Errors
    /// When a name is unknown; nothing is done then.
    pub async fn restart(&self, targets: Vec<Target>) -> Result<Restarted, SuperviseError> {
        Ok(self.ask(|tx| Command::Restart(targets, tx)).await??)
    }

    /// Replaces one process with as little interruption as its settings allow: the new instance is
    /// ready before the old one stops where they say `rolling: { overlap: true }`, by their `reload`
    /// signal, or by a restart. Answers once the process is ready again. The one that was replaced may
    /// still be finishing its work.
    ///
    /// # Errors
    /// When the name is unknown. In the result: why it was not replaced; with overlap, the old instance
    /// still serves then.
    pub async fn roll(
        &self,
        process: ProcessName,
    ) -> Result<Result<Rolled, RollError>, SuperviseError> {
        let name = process.clone();
        match self.ask(|tx| Command::Roll(name, tx)).await?? {
            RollAnswer::Over(outcome) => Ok(outcome),
            RollAnswer::Restart(why) => {
                let (_, started) = self.restart(vec![Target::Process(process)]).await?;
                let failed = started.into_iter().find_map(|(_, result)| result.err());
                Ok(match failed {
                    // Somebody else was faster.
                    None | Some(StartError::AlreadyStarted) => Ok(Rolled::Restarted { why }),
                    Some(e) => Err(RollError::NotStarted(e)),
                })
            }
        }
    }

    /// Waits until none of these processes is being replaced; each that runs on with the settings from
    /// before says why.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn replaced(
        &self,
        processes: Vec<ProcessName>,
    ) -> Result<PerProcess<String>, SuperviseError> {
        self.ask(|tx| Command::Replaced(processes, tx)).await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When a name is unknown; nothing is sent then.
    pub async fn signal(
        &self,
        signal: Signal,
        targets: Vec<Target>,
    ) -> Result<PerProcess<StopError>, SuperviseError> {
        Ok(self.ask(|tx| Command::Signal(signal, Whom::Process, targets, tx)).await??)
    }

    /// Where a stream of a process is logged, if it has a file of its own.
    ///
    /// # Errors
    /// When the name is unknown.
    pub async fn log_path(
        &self,
        process: ProcessName,
        stream: Stream,
    ) -> Result<Option<PathBuf>, SuperviseError> {
        Ok(self.ask(|tx| Command::LogPath(process, stream, tx)).await??)
    }

    /// The last bytes of a log file.
    ///
    /// # Errors
    /// When the name is unknown, or there is no file, or it cannot be read.
    pub async fn tail(
        &self,
        process: ProcessName,
        stream: Stream,
        bytes: u64,
    ) -> Result<Vec<u8>, SuperviseError> {
        self.ask(|tx| Command::Tail(process, stream, bytes, tx)).await?
    }

    /// Empties the log files of a process.
    ///
    /// # Errors
    /// When the name is unknown, or there is no file, or it cannot be emptied.
    pub async fn clear(&self, process: ProcessName) -> Result<(), SuperviseError> {
        self.ask(|tx| Command::Clear(process, tx)).await?
    }

    /// Sends bytes to the standard input of a process, whole or not at all, and does not wait for it to
    /// read them.
    ///
    /// # Errors
    /// When the name is unknown, or the process does not run, or its standard input is no pipe, or has
    /// no room.
    pub async fn send_stdin(
        &self,
        process: ProcessName,
        bytes: Vec<u8>,
    ) -> Result<(), SuperviseError> {
        self.ask(|tx| Command::SendStdin(process, bytes, tx)).await?
    }

    /// Tells event listeners what somebody says through the remote interface: `REMOTE_COMMUNICATION`.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn remote_communication(
        &self,
        kind: String,
        data: String,
    ) -> Result<(), SuperviseError> {
        self.ask(|tx| Command::Remote(kind, data, tx)).await
    }

    /// Puts new settings in force: starts what is new, stops what is gone, restarts what changed and
    /// leaves the rest alone. Returns what it began; [`Self::status`] shows it happen. The
    /// directories of the settings are those of the start: changing them needs a new agent.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn update(&self, settings: Settings) -> Result<Changes, SuperviseError> {
        self.ask(|tx| Command::Update(Box::new(settings), tx)).await
    }

    /// What [`Self::update`] would do.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn plan(&self, settings: Settings) -> Result<Changes, SuperviseError> {
        self.ask(|tx| Command::Plan(Box::new(settings), tx)).await
    }

    /// How long [`Self::shut_down`] may take if each process is given the time of its settings: of those
    /// that it was started with.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn longest_stop(&self) -> Result<Duration, SuperviseError> {
        self.ask(Command::LongestStop).await
    }

    /// Stops everything, the highest priority number first, each priority fully stopped before the
    /// next; kills what is left at the deadline. Returns how many had to be killed so. The task ends.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn shut_down(&self, deadline: Duration) -> Result<usize, SuperviseError> {
        self.ask(|tx| Command::ShutDown(deadline, tx)).await
    }

    /// Brings the agent's side to a rest without touching a process: output stops being carried, the
    /// table is written, and the open files that the next agent needs are returned. Then exec, or end
    /// and leave the processes to the next agent, or [`Self::resume`].
    ///
    /// # Errors
    /// When output does not come to a rest within `deadline`, or the table cannot be written. The
    /// supervisor then goes on as before.
    pub async fn prepare_handover(&self, deadline: Duration) -> Result<HandOver, SuperviseError> {
        self.ask(|tx| Command::HandOver(deadline, tx)).await?
    }

    /// Goes on after a hand-over that did not come to be.
    ///
    /// # Errors
    /// When the supervisor ended.
    pub async fn resume(&self) -> Result<(), SuperviseError> {
        self.ask(Command::Resume).await
    }
}
