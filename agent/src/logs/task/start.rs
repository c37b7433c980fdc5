//! Opening the log path, taking up where the last agent stopped, and ending.

use std::{path::PathBuf, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    MAX_ON_THEIR_WAY, Shipper, Timers,
    journal::{JOURNAL, Journal},
    resting::Resting,
};
use crate::{
    clock::WallClock,
    errors::Chain,
    logs::{
        checkpoint::{Checkpoint, Store},
        dead_letter::DeadLetters,
        error::LogsError,
        handle::{DebugClock, Handle},
        journal::{Journals, NoJournal},
        lane::{FileSource, Lane, Source},
        local::LocalSink,
        names,
        pace::Pace,
        ports::{CloudLogs, SpoolFs, TailFs},
        redaction::Redaction,
        settings::Settings,
        spool::Spool,
        status::Status,
    },
};

/// What the log path needs of the host.
#[derive(Clone, Debug)]
pub struct Host {
    spool: Arc<dyn SpoolFs>,
    files: Arc<dyn TailFs>,
    journals: Arc<dyn Journals>,
    clock: Arc<dyn DebugClock>,
}

impl Host {
    /// Where the spool lies, where the followed files lie, and the time of day.
    pub fn new(
        spool: Arc<dyn SpoolFs>,
        files: Arc<dyn TailFs>,
        clock: impl WallClock + std::fmt::Debug,
    ) -> Self {
        Self { spool, files, journals: Arc::new(NoJournal), clock: Arc::new(clock) }
    }

    /// With a journal, which is read if the settings say so.
    #[must_use]
    pub fn with_journal(mut self, journals: Arc<dyn Journals>) -> Self {
        self.journals = journals;
        self
    }
}

/// Most commands that wait for the task; who sends more waits too.
const MAX_COMMANDS: usize = 16;

/// Opens spool and checkpoint. Lines may be appended from now on; they are sent once the shipper
/// runs.
///
/// # Errors
/// When the directory cannot be used.
pub fn open(settings: Settings, host: Host) -> Result<(Handle, Shipper), LogsError> {
    let dir = settings.state_dir.clone();
    let at = |path: PathBuf| move |source| LogsError::State { path, source };
    let (store, checkpoint, problem) =
        Store::open(host.spool.clone(), dir.clone()).map_err(at(dir.clone()))?;
    let root = dir.join("spool");
    let spool = Spool::open(host.spool.clone(), root.clone()).map_err(at(root))?;
    spool.limit(settings.spool);
    for (key, lane) in spool.lanes() {
        let mark = checkpoint.spools.iter().find(|m| m.is_of(&key));
        lane.skip_to(mark.map_or(0, |m| m.acked));
    }
    let spool = Arc::new(spool);
    let redaction = Arc::new(Redaction::new(settings.redact.clone()));
    let (commands_tx, commands) = mpsc::channel(MAX_COMMANDS);
    let (status, status_rx) = watch::channel(Status::default());
    let handle = Handle {
        spool: spool.clone(),
        redaction: redaction.clone(),
        clock: host.clock.clone(),
        commands: commands_tx,
        status: status_rx,
        second: None,
    };
    let now = Instant::now();
    let timers = Timers {
        scan: now,
        scan_began: now,
        look: now,
        commit: Some(now),
        checkpoint: now,
        status: now,
        scanning: false,
        committing: false,
        saving: false,
        dirty: true,
        put_aside: now,
    };
    let mut shipper = Shipper {
        dead: Arc::new(DeadLetters::new(host.spool, dir)),
        settings,
        store,
        spool,
        redaction,
        tail_fs: host.files,
        journal: Journal::new(host.journals),
        dice: host.clock.now().as_millis().unsigned_abs() | 1,
        clock: host.clock,
        commands,
        status,
        lanes: std::collections::BTreeMap::new(),
        resting: std::collections::BTreeMap::new(),
        scanned_once: false,
        absent: std::collections::BTreeMap::new(),
        next_lane: checkpoint.next_lane,
        saved_lanes: 0,
        known_at_ms: checkpoint.saved_at,
        totals: Status::default(),
        turn: 0,
        pace: Pace::new(MAX_ON_THEIR_WAY),
        timers,
        flushes: Vec::new(),
        again: false,
        stopping: None,
        keeps_positions: false,
        spool_lanes: 0,
        restored: Some(checkpoint),
    };
    if let Some(what) = problem {
        shipper.incident(format!("{what}; going on from the one before"));
    }
    Ok((handle, shipper))
}

impl Shipper {
    /// The sink for `sink: local`.
    #[must_use]
    pub fn local_sink(&mut self) -> LocalSink {
        self.store.place().local_sink()
    }

    /// Makes the lanes that the checkpoint tells of, as far as the sink says they got.
    pub(super) async fn begin(&mut self, cloud: &impl CloudLogs) {
        self.keeps_positions = cloud.keeps_positions();
        let mut checkpoint = self.restored.take().unwrap_or_default();
        match cloud.delivered().await {
            Ok(delivered) => {
                // Should the checkpoint have been lost: the sink's numbers are not used again.
                let above = delivered.iter().map(|d| d.lane + 1).max().unwrap_or(0);
                self.next_lane = self.next_lane.max(above);
                checkpoint.raise(&delivered.iter().map(|d| (d.lane, (d.upto, None))).collect());
            }
            Err(e) => self.incident(format!("ask the sink what it has: {}", Chain(&e))),
        }
        self.saved_lanes = checkpoint.next_lane;
        self.restore(&checkpoint);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) {
        let now = Instant::now();
        self.restore_journal(checkpoint);
        for m in &checkpoint.files {
            if m.finished {
                self.resting.insert(m.lane, Resting::new(m.clone()));
                continue;
            }
            let name = m.path.to_string_lossy();
            let group = names::group(&self.settings.group, "files", &name);
            let stream = names::stream(&self.settings.stream, "files", &name);
            let source = Source::File(FileSource::from_mark(m, now));
            let mut lane = Lane::new(m.lane, source, group, stream, m.acked);
            lane.acked_tail = m.tail;
            self.lanes.insert(m.lane, lane);
        }
        for m in &checkpoint.spools {
            let names = (m.program.clone().try_into(), m.process.clone().try_into());
            let (Ok(program), Ok(process)) = names else { continue };
            let key = crate::logs::spool::LaneKey { program, process };
            match self.spool.lane(&key) {
                Ok(spool) => {
                    spool.skip_to(m.acked);
                    self.insert_spool_lane(m.lane, key, spool, m.acked);
                }
                Err(e) => self.incident(format!("open the spool of {}: {}", m.process, Chain(&e))),
            }
        }
    }

    /// Takes other settings, as [`Handle::reload`](super::super::Handle::reload) does while it runs.
    pub fn reload(&mut self, settings: Settings) {
        self.spool.limit(settings.spool);
        self.redaction.set(settings.redact.clone());
        let state_dir = self.settings.state_dir.clone();
        self.settings = Settings { state_dir, ..settings };
        for lane in self.lanes.values_mut() {
            let (program, process) = match &lane.source {
                Source::File(f) => ("files".to_owned(), f.path.to_string_lossy().into_owned()),
                Source::Spool(k, _) => (k.program.to_string(), k.process.to_string()),
                Source::Journal(j) => (JOURNAL.to_owned(), j.process.clone()),
            };
            lane.group = names::group(&self.settings.group, &program, &process);
            lane.stream = names::stream(&self.settings.stream, &program, &process);
            (lane.counts.group, lane.counts.stream) = (lane.group.clone(), lane.stream.clone());
        }
    }

    /// The last checkpoint, the last commit, and the answer to whoever asked for the end.
    pub(super) async fn end(mut self, cloud: &impl CloudLogs) {
        let place = self.store.place();
        let (checkpoint, spool) = (self.checkpoint(), self.spool.clone());
        let settled = cloud.settle().await;
        let written = super::jobs::blocking(move || {
            spool.sync()?;
            settled?;
            place.save(&checkpoint)
        });
        if let Err(e) = written.await {
            self.incident(format!("write the last checkpoint: {}", Chain(&e)));
        }
        self.publish();
        if let Some(done) = self.stopping.and_then(|s| s.done) {
            // The one who asked may have given up waiting.
            done.send(()).unwrap_or_default();
        }
    }
}
