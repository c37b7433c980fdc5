//! What a slot has beside its process: the commands around its start, and its schedule as it is shown.
//!
//! Commands before the start belong to the machine's `Spawning`: it has no child yet, and the next agent
//! begins that anew. Commands after it change no state; that they are left to do is in the table.

use std::sync::Arc;

use palisade_types::{ProcessName, ScheduleStatus};
use tokio_util::sync::DropGuard;

use super::{
    FdStore, Hook, Host, OutputSink, SpawnError,
    hooks::{Hooks, Stage, Undone},
    machine::{Event, State, Want},
    ports::OutputPipe as _,
    slot::Slot,
    task::{News, Owner},
};
use crate::clock::WallClock;

/// Hooks and schedule of a slot.
#[derive(Debug, Default)]
pub(super) struct Errand {
    running: Option<Running>,
    /// How many runs of hooks there were: tells the news of the present one from old news.
    runs: u64,
    /// It is up, and its commands after the start have not all run.
    pub(super) is_post_left: bool,
    pub(super) scheduled: Option<ScheduleStatus>,
    /// Somebody asked for its end, and not for a start since.
    pub(super) is_called_off: bool,
    /// One run of hooks at a time: the next waits until the last is gone.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Commands that run now.
#[derive(Debug)]
struct Running {
    stage: Stage,
    /// Ends them; none once they were told to end.
    cancel: Option<DropGuard>,
}

impl Running {
    /// Told to end after a start that is over: its news changes nothing.
    fn is_over(&self) -> bool {
        self.stage != Stage::PreStart && self.cancel.is_none()
    }
}

impl Errand {
    /// What it is doing, for people.
    pub(super) fn news(&self) -> Option<String> {
        let running = self.running.as_ref()?;
        (running.stage == Stage::PreStart).then(|| "runs its pre_start hooks".to_owned())
    }

    /// Ends commands that nobody wants any more, now that its process is here.
    pub(super) fn look(&mut self, state: &State, want: Want) {
        let is_wanted = match (self.running.as_ref().map(|r| r.stage), state) {
            (None, _) => return,
            (Some(Stage::PreStart), State::Spawning { .. }) => want != Want::Down,
            (Some(Stage::PostStart(of)), State::Running { pid }) => of == *pid,
            (Some(Stage::PreStart | Stage::PostStart(_)), _) => false,
        };
        if !is_wanted && let Some(running) = &mut self.running {
            // The news of their end comes all the same: before a start, the machine waits for it.
            drop(running.cancel.take());
        }
    }
}

impl<H: Host, S: OutputSink, F: FdStore, C: WallClock> Owner<H, S, F, C> {
    /// Makes the child of a process, or begins with the commands before it: then the outcome is news.
    pub(super) fn spawn(&mut self, name: &ProcessName) -> Option<(Event, String)> {
        let hooks = self.slots.get_mut(name).map(|slot| {
            slot.errand.is_called_off = false;
            slot.spec.hooks.pre_start.clone()
        });
        match hooks {
            Some(hooks) if !hooks.is_empty() => match self.begin(name, Stage::PreStart, hooks) {
                Ok(()) => None,
                Err(error) => Some(self.not_spawned(name, &error)),
            },
            Some(_) | None => Some(self.spawn_program(name)),
        }
    }

    fn not_spawned(&mut self, name: &ProcessName, error: &SpawnError) -> (Event, String) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.failed(error);
        }
        (Event::SpawnFailed, error.to_string())
    }

    /// Starts the commands of a stage. While the agent is at a rest it leaves that to [`Self::go_on_with_hooks`].
    fn begin(
        &mut self,
        name: &ProcessName,
        stage: Stage,
        hooks: Vec<Hook>,
    ) -> Result<(), SpawnError> {
        let (Some(slot), Some(alive)) = (self.slots.get_mut(name), self.alive.clone()) else {
            return Ok(());
        };
        let pipe = match &slot.stderr {
            Some(pipe) if !slot.spec.redirect_stderr => pipe,
            Some(_) | None => &slot.stdout,
        };
        let with_output = |hook| Ok((hook, pipe.writer()?));
        let hooks = hooks.into_iter().map(with_output).collect::<std::io::Result<_>>();
        let hooks = hooks.map_err(|e| SpawnError::step("open output pipe", &e))?;
        let cancel = self.rest.child_token();
        slot.errand.runs += 1;
        let guard = Some(cancel.clone().drop_guard());
        slot.errand.running = Some(Running { stage, cancel: guard });
        let turn = Arc::clone(&slot.errand.turn);
        let run = slot.errand.runs;
        let spec = Arc::clone(&slot.spec);
        let host = self.host.clone();
        let (news, name) = (self.news.clone(), name.clone());
        let hooks = Hooks { host, name: name.clone(), spec, stage, hooks, turn, cancel };
        self.is_dirty = true;
        self.scope.spawn("hooks", async move {
            let outcome = hooks.run().await;
            // If the owner is gone, so is whoever wanted to know.
            news.send(News::Hooks(name, run, outcome)).await.unwrap_or_default();
            drop(alive);
        });
        Ok(())
    }

    /// Hears how the commands of a stage ended. Old news says nothing.
    pub(super) fn hear_hooks(&mut self, name: &ProcessName, run: u64, outcome: Result<(), Undone>) {
        let Some(slot) = self.slots.get_mut(name).filter(|s| s.errand.runs == run) else { return };
        let Some(Running { stage, .. }) = slot.errand.running.take() else { return };
        self.is_dirty = true;
        let is_spawning = matches!(slot.state, State::Spawning { .. });
        let next = match (stage, outcome) {
            (Stage::PreStart, _) if !is_spawning => None,
            (Stage::PreStart, _) if !slot.wanted => {
                Some((Event::SpawnFailed, "stop requested".to_owned()))
            }
            (Stage::PreStart, Ok(())) => Some(self.spawn_program(name)),
            // Ended because the agent comes to a rest: it begins anew once that goes on.
            (Stage::PreStart, Err(Undone::Cancelled)) => None,
            (Stage::PreStart, Err(Undone::Failed(step, why))) => {
                Some(self.not_spawned(name, &SpawnError::Step { step, why }))
            }
            (Stage::PostStart(_), Err(Undone::Cancelled)) => None,
            (Stage::PostStart(_), outcome) => {
                slot.errand.is_post_left = false;
                if let Err(Undone::Failed(step, why)) = outcome {
                    tracing::warn!(process = %name, hook = step, why, "hook failed; the process runs on");
                    slot.error = Some(format!("{step}: {why}"));
                }
                None
            }
        };
        if let Some((event, why)) = next {
            self.feed(name, event, &why);
        }
    }

    /// Begins the commands that are to run and do not: after a start, and those that a rest cut short.
    pub(super) fn go_on_with_hooks(&mut self) {
        if self.alive.is_none() {
            return;
        }
        let is_idle = |s: &Slot<H>| s.errand.running.as_ref().is_none_or(Running::is_over);
        let names = |is: &dyn Fn(&Slot<H>) -> bool| -> Vec<ProcessName> {
            let chosen = self.slots.iter().filter(|(_, s)| is_idle(s) && is(s));
            chosen.map(|(name, _)| name.clone()).collect()
        };
        let cut_short = names(&|s| matches!(s.state, State::Spawning { .. }));
        let left = names(&|s| s.errand.is_post_left && matches!(s.state, State::Running { .. }));
        for name in cut_short {
            if let Some((event, why)) = self.spawn(&name) {
                self.feed(&name, event, &why);
            }
        }
        for name in left {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            let (Some(pid), hooks) = (slot.state.pid(), slot.spec.hooks.post_start.clone()) else {
                continue;
            };
            if hooks.is_empty() {
                slot.errand.is_post_left = false;
            } else if let Err(error) = self.begin(&name, Stage::PostStart(pid), hooks) {
                tracing::warn!(process = %name, %error, "hooks not run");
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.errand.is_post_left = false;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "errand_tests.rs"]
mod tests;
