//! What a new agent makes of its settings and of what the last one left.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Chronicle, Exit, FdStore, Host, Inherited, OutputSink, ProcessSpec, Settings, StartError,
    Stream, SuperviseError,
    errand::Errand,
    machine::{Event, State},
    ports::Child as _,
    reconcile::{fingerprint, socket_key},
    slot::Slot,
    table::{self, Now, Record, Saved},
    task::Owner,
    watch::pipe_key,
};
use crate::{clock::WallClock, errors::Chain};

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Makes the table from settings, what the last agent left and what still lives.
    pub(super) fn take_over(
        &mut self,
        settings: Settings,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        self.host.end_hooks();
        let mut records = self.load();
        // The table may be lost, or old if it could not be written. Where what it names still lives,
        // it is right.
        for (name, identity) in self.host.marked(&settings.processes) {
            match records.iter_mut().find(|r| r.name == name) {
                Some(record) if record.child.is_some_and(|id| self.host.is_living(id)) => {}
                Some(record) => record.child = Some(identity),
                None => {
                    let spec = settings.processes.iter().find(|s| s.name == name);
                    records.extend(Record::found(&name, spec, identity, self.clock.now()));
                }
            }
        }
        for spec in &settings.processes {
            self.add_slot(spec.clone(), inherited)?;
        }
        let now = self.now();
        let mut news = Vec::new();
        for record in records {
            if let Some((event, why)) = self.adopt(&record, now, inherited)? {
                news.push((record.name, event, why));
            }
        }
        self.settings = settings;
        self.sort_out_sockets(inherited);
        self.watch_all();
        // Only now: what follows from it may need the sockets, and watches itself.
        for (name, event, why) in news {
            self.feed(&name, event, why);
        }
        Ok(())
    }

    pub(super) fn load(&self) -> Vec<Record> {
        let loaded = match self.host.load() {
            Ok(None) => return Vec::new(),
            Ok(Some(bytes)) => table::decode(&bytes, &self.boot_id),
            Err(e) => Err(Chain(&e).to_string()),
        };
        loaded.unwrap_or_else(|why| {
            tracing::error!(why, "table of processes not read; looking for marked processes");
            Vec::new()
        })
    }

    pub(super) fn add_slot(
        &mut self,
        spec: ProcessSpec,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        let mut open = |stream| {
            let fd = inherited.remove(&pipe_key(&spec.name, stream));
            self.host
                .pipe(&spec, stream, fd)
                .map(Arc::new)
                .map_err(|source| SuperviseError::Pipe { process: spec.name.clone(), source })
        };
        let stdout = open(Stream::Stdout)?;
        let stderr = if spec.redirect_stderr { None } else { Some(open(Stream::Stderr)?) };
        let slot = Slot {
            fingerprint: fingerprint(&spec),
            born: None,
            born_with: String::new(),
            state: State::Stopped,
            spawning: None,
            wanted: spec.autostart,
            is_removed: false,
            child: None,
            is_dying: false,
            is_unborn: false,
            probe: None,
            stdout,
            stderr,
            lanes: Default::default(),
            pumps: self.rest.child_token(),
            finish: CancellationToken::new(),
            restarts: 0,
            since: self.clock.now(),
            exit: None,
            error: None,
            chronicle: Chronicle::default(),
            ups: 0,
            failures: 0,
            last_failure: StartError::AbnormalTermination,
            errand: Errand::default(),
            spec: Arc::new(spec),
        };
        self.slots.insert(slot.spec.name.clone(), slot);
        Ok(())
    }

    /// Takes over one process of the last agent. Returns what is still to be told to its machine.
    pub(super) fn adopt(
        &mut self,
        record: &Record,
        now: Now,
        inherited: &mut Inherited,
    ) -> Result<Option<(Event, &'static str)>, SuperviseError> {
        let child = record.child.and_then(|id| self.host.adopt(&record.name, id));
        if !self.slots.contains_key(&record.name) {
            if child.is_none() {
                return Ok(None);
            }
            self.add_slot(record.stand_in(), inherited)?;
            if let Some(slot) = self.slots.get_mut(&record.name) {
                slot.is_removed = true;
            }
        }
        let Some(slot) = self.slots.get_mut(&record.name) else { return Ok(None) };
        slot.restarts = record.restarts;
        slot.since = record.since;
        slot.exit = record.exit;
        slot.error.clone_from(&record.error);
        slot.chronicle.clone_from(&record.chronicle);
        if slot.chronicle.started.is_none() && child.is_some() {
            // From a table of before this was kept: the state began then, and the process not later.
            slot.chronicle.started = Some(record.since);
        }
        slot.wanted = record.wanted && !slot.is_removed;
        slot.errand.is_post_left = record.hooks_left;
        match child {
            Some(child) => {
                let pid = child.identity().pid;
                let is_same = record.born_with == slot.fingerprint;
                slot.born_with.clone_from(&record.born_with);
                let born = if is_same {
                    Arc::clone(&slot.spec)
                } else {
                    Arc::new(record.stop.put_into(&slot.spec))
                };
                child.limit(&born.limits);
                slot.state = record.state.with_child(pid, &born, now);
                slot.is_unborn = matches!(record.state, Saved::Starting { execed: false, .. });
                for (index, listen) in born.sockets.iter().enumerate() {
                    let key = socket_key(&listen.listen);
                    if record.sockets.get(index) != Some(&key) || inherited.contains_key(&key) {
                        continue;
                    }
                    if let Some(fd) = child.take_socket(index, &listen.listen) {
                        inherited.insert(key, fd);
                    }
                }
                slot.child = Some(Arc::new(child));
                slot.born = Some(born);
                tracing::info!(process = %record.name, pid, "adopted");
                let is_replaced = !is_same && slot.spec.schedule.is_none();
                Ok(is_replaced.then_some((Event::Replace, "its settings changed")))
            }
            None => {
                let (state, ended_unseen) = record.state.without_child(&slot.spec, now);
                slot.state = state;
                if !ended_unseen {
                    return Ok(None);
                }
                slot.exit = Some(Exit::Unknown);
                if matches!(record.state, Saved::Starting { .. }) {
                    // A child that was not let go yet ended with the agent: that is no failure of its
                    // own, so it is started anew and its tries are not used up.
                    slot.state = State::Stopped;
                    return Ok(None);
                }
                let end = Event::Exited { exit: Exit::Unknown, at: now.mono };
                Ok(Some((end, "it ended while no agent was there")))
            }
        }
    }
}
