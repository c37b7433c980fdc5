//! New settings: what is there is compared with what is to be, and only what differs is touched.

use std::{collections::BTreeMap, sync::Arc};

use palisade_types::ProcessName;

use super::{
    Changes, FdStore, Host, Inherited, OutputSink, ProcessSpec, RollError, Settings, Stream,
    machine::{Event, State},
    naming,
    reconcile::changes,
    slot::Slot,
    task::Owner,
    twin::{Part, beside},
};
use crate::{clock::WallClock, errors::Chain};

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    pub(super) fn plan(&self, settings: &Settings) -> Changes {
        let mut processes = settings.processes.clone();
        self.settle_names(&mut processes);
        self.compare(&processes)
    }

    /// One that goes still has its name, should it come back; one that is there comes before it.
    fn settle_names(&self, processes: &mut [ProcessSpec]) {
        let (there, going): (Vec<_>, Vec<_>) = self.slots.values().partition(|s| s.is_shown());
        naming::settle(processes, going.into_iter().chain(there).map(Slot::known));
    }

    fn compare(&self, processes: &[ProcessSpec]) -> Changes {
        let there = self.slots.values().filter(|s| s.is_shown());
        changes(there.map(|s| s.spec.as_ref()), processes.iter())
    }

    pub(super) fn update(&mut self, mut settings: Settings) -> Changes {
        self.settle_names(&mut settings.processes);
        let plan = self.compare(&settings.processes);
        for key in plan.removed.iter().filter_map(|name| self.current(name)).collect::<Vec<_>>() {
            self.drop_incoming(&key, "its settings are gone");
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.is_removed = true;
                slot.wanted = false;
                slot.comes_back = false;
            }
            self.feed(&key, Event::Tick, "its settings are gone");
        }
        let specs: BTreeMap<_, _> =
            settings.processes.iter().map(|s| (s.name.clone(), s.clone())).collect();
        self.settings = Settings {
            run_dir: self.settings.run_dir.clone(),
            log_dir: self.settings.log_dir.clone(),
            cgroup: self.settings.cgroup.clone(),
            processes: settings.processes,
        };
        let mut touched = Vec::new();
        for name in &plan.adjusted {
            let (Some(key), Some(spec)) = (self.current(name), specs.get(name)) else { continue };
            self.adjust(&key, spec);
            if let Some(next) = beside(&key).filter(|k| self.is_incoming(k)) {
                self.adjust(&next, spec);
                touched.push(next);
            }
            touched.push(key);
        }
        let mut anew = Vec::new();
        for spec in plan.changed.iter().chain(&plan.added).filter_map(|name| specs.get(name)) {
            if let Some(key) = self.put_spec(spec.clone()) {
                self.drop_incoming(&key, "its settings changed");
                anew.push(key);
            }
        }
        touched.extend(anew.iter().cloned());
        self.repump(touched);
        for key in &anew {
            // A run by schedule goes on to its end; the next one has the new settings.
            let Some(slot) = self.slots.get(key) else { continue };
            if slot.is_as_set() && slot.wanted && matches!(slot.state, State::Running { .. }) {
                self.take_back(key);
            } else if slot.spec.schedule.is_none() {
                self.replace(key, "its settings changed", false);
            }
        }
        self.is_dirty = true;
        self.tell_groups();
        self.tick_all("settings changed");
        self.sort_out_sockets(&mut Inherited::new());
        plan
    }

    /// The settings are again those that the child was born with: the release before this one was not
    /// taken, and nothing is to be done.
    fn take_back(&mut self, key: &ProcessName) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.error = None;
        slot.born = Some(Arc::clone(&slot.spec));
        if slot.roll.as_ref().is_some_and(|r| !r.is_own) {
            self.give_up_roll(key, || RollError::TakenBack);
        }
        self.mind(key);
    }

    fn is_incoming(&self, key: &ProcessName) -> bool {
        self.slots.get(key).is_some_and(|s| s.part == Part::Incoming)
    }

    /// New settings that the present child lives under from now on.
    fn adjust(&mut self, key: &ProcessName, spec: &ProcessSpec) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        // One that was not replaced in the end still lives under those that it was born with.
        let is_as_set = slot.is_as_set();
        slot.set_spec(spec.clone());
        if is_as_set {
            slot.born = Some(Arc::clone(&slot.spec));
        }
        self.mind(key);
    }

    /// Gives a process a new spec, or makes one; returns its inner name. A process whose settings were
    /// gone and are back is wanted again as they say; one stopped by hand stays stopped.
    fn put_spec(&mut self, spec: ProcessSpec) -> Option<ProcessName> {
        let name = spec.name.clone();
        let Some(key) = self.instance(&name) else {
            // The place of the usual name may be taken by an instance that still goes.
            let keys = [Some(name.clone()), beside(&name)];
            let free = keys.into_iter().flatten().find(|k| !self.slots.contains_key(k))?;
            if let Err(e) = self.add_slot(&free, spec, Part::Current, &mut Inherited::new()) {
                tracing::error!(process = %name, error = %Chain(&e), "process not added");
                return None;
            }
            return Some(free);
        };
        // A second one that was found without a table goes, and is not to be taken for the process later.
        let other = beside(&key).and_then(|k| self.slots.get_mut(&k));
        if let Some(other) = other.filter(|s| s.is_removed && s.part == Part::Current) {
            other.part = Part::Outgoing;
        }
        let slot = self.slots.get_mut(&key)?;
        if slot.is_removed {
            slot.wanted = spec.autostart;
            slot.comes_back = false;
        }
        slot.is_removed = false;
        let is_replaced = spec.rolling.overlap && matches!(slot.state, State::Running { .. });
        if spec.user != slot.spec.user && !is_replaced {
            // The pipes change hands, and the same pipes are opened anew.
            match self.host.pipe(&key, &spec, Stream::Stdout, None) {
                Ok(pipe) => slot.stdout = Arc::new(pipe),
                Err(e) => tracing::error!(process = %name, error = %Chain(&e), "no pipe"),
            }
            slot.stderr = None;
        }
        if !spec.redirect_stderr && slot.stderr.is_none() {
            match self.host.pipe(&key, &spec, Stream::Stderr, None) {
                Ok(pipe) => slot.stderr = Some(Arc::new(pipe)),
                Err(e) => tracing::error!(process = %name, error = %Chain(&e), "no pipe"),
            }
        }
        if spec.schedule.is_none() {
            slot.errand.scheduled = None;
        }
        slot.set_spec(spec);
        Some(key)
    }

    /// Ends the pumps of these processes and starts them with the present settings.
    fn repump(&mut self, names: Vec<ProcessName>) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.pumps.cancel();
            }
            self.pump(&name);
        }
    }
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod tests;
