//! What a new agent makes of its settings and of what the last one left.

use std::{sync::Arc, time::Duration};

use palisade_types::ProcessName;
use tokio_util::sync::CancellationToken;

use super::{
    Chronicle, EventName, Exit, FdStore, Host, Inherited, OutputSink, ProcessSpec, Ready, Settings,
    StartError, Stdin, Stream, SuperviseError,
    bus::BusEvent,
    errand::Errand,
    machine::{Event, State},
    past::Past,
    ports::Child as _,
    reconcile::{fingerprint, socket_key},
    slot::Slot,
    table::{self, Now, Record, Saved},
    task::Owner,
    twin::{Part, Seen, beside, outer, parts},
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
        let is_first = records.is_empty();
        // The table may be lost, or old if it could not be written. Where what it names still lives,
        // it is right.
        for (name, identity) in self.host.marked(&settings.processes) {
            match records.iter_mut().find(|r| r.name == name) {
                Some(record) if record.child.is_some_and(|id| self.host.is_living(id)) => {}
                Some(record) => record.child = Some(identity),
                None => {
                    let spec = spec_of(&settings.processes, &name);
                    records.extend(Record::found(&name, spec, identity, self.clock.now()));
                }
            }
        }
        for spec in &settings.processes {
            let key = self.sort_out_instances(&mut records, spec);
            self.add_slot(&key, spec.clone(), Part::Current, inherited)?;
        }
        let now = self.now();
        let mut news = Vec::new();
        // Those first that others stand beside.
        records.sort_by_key(|r| r.part != Part::Current);
        for record in records {
            let spec = spec_of(&settings.processes, &record.name);
            if let Some((event, why)) = self.adopt(&record, spec, now, inherited)? {
                news.push((record.name, event, why));
            }
        }
        self.settings = settings;
        self.keep_notices();
        self.sort_out_sockets(inherited);
        self.watch_all();
        if is_first {
            self.tell_groups();
            self.publish(BusEvent::supervisor(EventName::SupervisorStateChangeRunning));
        } else {
            self.groups_are_known();
        }
        // Only now: what follows from it may need the sockets, and watches itself.
        for (key, event, why) in news {
            match event {
                Event::Replace => self.replace(&key, why, false),
                event => self.feed(&key, event, why),
            }
        }
        Ok(())
    }

    /// Says in the records of a process which instance is what, and returns the inner name of the one
    /// that is current.
    fn sort_out_instances(&self, records: &mut [Record], spec: &ProcessSpec) -> ProcessName {
        let keys = [Some(spec.name.clone()), beside(&spec.name)];
        let here = |r: &Record| keys.iter().flatten().any(|k| *k == r.name);
        let mut found: Vec<&mut Record> = records.iter_mut().filter(|r| here(r)).collect();
        let seen: Vec<_> = found
            .iter()
            .map(|r| Seen {
                part: r.part,
                alive_since: r.child.filter(|id| self.host.is_living(*id)).map(|id| id.start_ticks),
            })
            .collect();
        let parts = parts(&seen);
        let mut key = spec.name.clone();
        for (record, part) in found.iter_mut().zip(parts) {
            // Found by its mark alone: it must stay up before it takes the place of the other.
            if part == Part::Incoming && record.part == Part::Current {
                let now = self.clock.now();
                record.state =
                    Saved::Starting { since: now, execed: true, ready: true, failures: 0 };
            }
            record.part = part;
            if part == Part::Current {
                key = record.name.clone();
            }
        }
        key
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
        key: &ProcessName,
        spec: ProcessSpec,
        part: Part,
        inherited: &mut Inherited,
    ) -> Result<(), SuperviseError> {
        let mut open = |stream| {
            let fd = inherited.remove(&pipe_key(key, stream));
            self.host
                .pipe(key, &spec, stream, fd)
                .map(Arc::new)
                .map_err(|source| SuperviseError::Pipe { process: spec.name.clone(), source })
        };
        let stdout = open(Stream::Stdout)?;
        let stderr = if spec.redirect_stderr { None } else { Some(open(Stream::Stderr)?) };
        let slot = Slot {
            key: key.clone(),
            part,
            roll: None,
            fingerprint: fingerprint(&spec),
            born: None,
            born_with: String::new(),
            state: State::Stopped,
            spawning: None,
            wanted: spec.autostart,
            comes_back: false,
            is_removed: false,
            child: None,
            is_dying: false,
            is_unborn: false,
            is_word_lost: false,
            probe: None,
            minders: None,
            ill: None,
            is_own_doing: false,
            past: Past::default(),
            stdout,
            stderr,
            stdin: None,
            ear: None,
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
            readies: 0,
            last_failure: StartError::AbnormalTermination,
            errand: Errand::default(),
            spec: Arc::new(spec),
        };
        self.slots.insert(key.clone(), slot);
        Ok(())
    }

    /// The last agent was replacing a process: that is still wanted.
    fn go_on_with_roll(&mut self, incoming: &ProcessName) {
        let is_incoming = self.slots.get(incoming).is_some_and(|s| s.part == Part::Incoming);
        let current = beside(incoming).filter(|_| is_incoming);
        if let Some(key) = current {
            self.want_roll(&key, "the last agent was replacing it", false, None);
        }
    }

    /// Takes over one process of the last agent. Returns what is still to be told to its machine.
    pub(super) fn adopt(
        &mut self,
        record: &Record,
        spec: Option<&ProcessSpec>,
        now: Now,
        inherited: &mut Inherited,
    ) -> Result<Option<(Event, &'static str)>, SuperviseError> {
        let child = record.child.and_then(|id| self.host.adopt(&record.name, id));
        if !self.slots.contains_key(&record.name) {
            if spec.is_none() && child.is_none() {
                return Ok(None);
            }
            // Also one that ended meanwhile: its last words may be in its pipe.
            let spec = spec.cloned().unwrap_or_else(|| record.stand_in());
            self.add_slot(&record.name, spec, record.part, inherited)?;
            if let Some(slot) = self.slots.get_mut(&record.name) {
                slot.is_removed = record.part != Part::Incoming || child.is_none();
                slot.wanted = false;
            }
            if child.is_none() {
                return Ok(None);
            }
            self.go_on_with_roll(&record.name);
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
        slot.errand.is_called_off = record.called_off;
        slot.past = record.past.read(now);
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
                let has_said_nothing = matches!(slot.state, State::Starting { ready: false, .. })
                    && matches!(born.ready, Ready::Notify { .. });
                slot.is_word_lost = has_said_nothing && !self.host.hears_the_past();
                slot.is_unborn = matches!(record.state, Saved::Starting { execed: false, .. });
                for (index, listen) in born.sockets.iter().enumerate() {
                    let key = socket_key(&listen.listen);
                    if record.sockets.get(index) != Some(&key) || inherited.contains_key(&key) {
                        continue;
                    }
                    if let Some(fd) = i32::try_from(index)
                        .ok()
                        .and_then(|i| child.take_socket(i + 3, &listen.listen))
                    {
                        inherited.insert(key, fd);
                    }
                }
                match born.input() {
                    Stdin::Null => {}
                    Stdin::Pipe => match self.host.old_input(&record.name) {
                        Ok(input) => slot.stdin = Some(Arc::new(input)),
                        Err(e) => {
                            tracing::warn!(process = %record.name, error = %e, "its input is lost");
                        }
                    },
                    Stdin::Socket(shared) => {
                        let key = socket_key(&shared.listen);
                        if !inherited.contains_key(&key)
                            && let Some(fd) = child.take_socket(0, &shared.listen)
                        {
                            inherited.insert(key, fd);
                        }
                    }
                }
                slot.ill.clone_from(&record.ill);
                slot.child = Some(Arc::new(child));
                slot.born = Some(born);
                tracing::info!(process = %record.name, pid, "adopted");
                // A run by schedule goes on to its end; the next one has the new settings.
                let is_to_change =
                    !is_same && slot.part != Part::Outgoing && slot.spec.schedule.is_none();
                if slot.part == Part::Incoming && is_to_change {
                    slot.retire();
                    return Ok(Some((Event::Tick, "its settings changed")));
                }
                Ok(is_to_change.then_some((Event::Replace, "its settings changed")))
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
                let end =
                    Event::Exited { exit: Exit::Unknown, at: now.mono, pause: Duration::ZERO };
                Ok(Some((end, "it ended while no agent was there")))
            }
        }
    }
}

/// The settings of the process that is called `key` inside.
fn spec_of<'a>(specs: &'a [ProcessSpec], key: &ProcessName) -> Option<&'a ProcessSpec> {
    let named = |name: &ProcessName| specs.iter().find(|s| s.name == *name);
    named(key).or_else(|| named(&outer(key)))
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
