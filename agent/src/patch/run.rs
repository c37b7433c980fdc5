//! One run, phase by phase. Its state is the [`Record`], written down before each phase begins.
//!
//! ```text
//! Lock -> Lists -> Install -> Services -> Reboot -> Done
//!   \________________ deferred, failed ____________/
//! ```

use std::time::Duration;

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    model::Verdict,
    plan::{self, Plan, RebootNeed},
    ports::{HostError, Journal, Packages, Power, Said, Services},
    reboot::{self, Situation, Step},
    record::{Ended, Phase, Record},
    services::{self, Action, Done, Outcome},
    settings::Settings,
};
use crate::{
    clock::{Timestamp, WallClock},
    errors::Chain,
};

/// Between two looks at a lock or at who is logged in.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A run that was cut off this often is given up.
pub(super) const MAX_RESUMED: u32 = 5;

/// What a run works with.
#[derive(Debug)]
pub struct Parts<P, S, W, J, C> {
    /// Packages.
    pub packages: P,
    /// What runs.
    pub services: S,
    /// The host's power.
    pub power: W,
    /// Where it is written down.
    pub journal: J,
    /// The time.
    pub clock: C,
}

/// How a call of [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The run is over.
    Over,
    /// The host is about to be restarted; the run goes on after that.
    Restarting,
    /// It was told to stop, and goes on when it is started again.
    Stopped,
}

/// Takes a run on from where it is. `stop` ends it between two phases and while it waits, never in the
/// middle of an installation.
///
/// # Errors
/// When it cannot be written down: nothing is done that would not be remembered.
pub async fn run<P, S, W, J, C>(
    mut record: Record,
    settings: &Settings,
    parts: &mut Parts<P, S, W, J, C>,
    stop: &CancellationToken,
) -> Result<Left, HostError>
where
    P: Packages,
    S: Services,
    W: Power,
    J: Journal,
    C: WallClock,
{
    if record.resumed > MAX_RESUMED && record.phase < Phase::Reboot {
        let why = format!("it was cut off {} times", record.resumed);
        return close(record, Ended::Failed { why }, parts);
    }
    loop {
        let boot_before = std::mem::replace(&mut record.boot, parts.power.boot());
        parts.journal.save(&record).map_err(|e| HostError::because("write the journal", e))?;
        if stop.is_cancelled() && record.phase != Phase::Done {
            return Ok(Left::Stopped);
        }
        tracing::info!(run = %record.id, phase = ?record.phase, "patch run");
        let result = match record.phase {
            Phase::Lock => lock(&mut record, settings, parts, stop).await,
            Phase::Lists => lists(&mut record, parts).await,
            Phase::Install => install(&mut record, settings, parts).await,
            Phase::Services => {
                restart_services(&mut record, settings, parts).await;
                Ok(Phase::Reboot)
            }
            Phase::Reboot => {
                let cut_off = boot_before != record.boot && !boot_before.is_empty();
                match restart_host(&mut record, cut_off, settings, parts, stop).await {
                    Some(left) => return Ok(left),
                    None => Ok(Phase::Done),
                }
            }
            Phase::Done => {
                let ended = record.judge();
                return close(record, ended, parts);
            }
        };
        match result {
            // Written down with its outcome only: whoever reads it in between would see a run that
            // is over and came to nothing.
            Ok(Phase::Done) => {
                let ended = record.judge();
                return close(record, ended, parts);
            }
            Ok(next) => record.phase = next,
            Err(ended) => return close(record, ended, parts),
        }
    }
}

fn close<P, S, W, J: Journal, C: WallClock>(
    mut record: Record,
    ended: Ended,
    parts: &mut Parts<P, S, W, J, C>,
) -> Result<Left, HostError> {
    record.phase = Phase::Done;
    record.ended = Some(parts.clock.now());
    tracing::info!(run = %record.id, outcome = ?ended, "patch run over");
    record.outcome = Some(ended);
    parts.journal.close(&record).map_err(|e| HostError::because("write the journal", e))?;
    Ok(Left::Over)
}

fn failed(e: &HostError) -> Ended {
    Ended::Failed { why: Chain(e).to_string() }
}

/// Waits until nobody else works on packages, as long as the settings and the window allow.
async fn lock<P: Packages, S, W, J, C: WallClock>(
    record: &mut Record,
    settings: &Settings,
    parts: &mut Parts<P, S, W, J, C>,
    stop: &CancellationToken,
) -> Result<Phase, Ended> {
    let until = time::Instant::now() + settings.lock_timeout;
    loop {
        let now = parts.clock.now();
        if record.last_call.is_some_and(|last| now >= last) {
            return Err(Ended::Deferred { why: "the window is over".to_owned() });
        }
        let Some(who) = parts.packages.lock_holder().await else { return Ok(Phase::Lists) };
        if time::Instant::now() >= until {
            return Err(Ended::Deferred { why: format!("{who} works on packages") });
        }
        if stop.run_until_cancelled(time::sleep(LOOK_EVERY)).await.is_none() {
            return Ok(Phase::Lock);
        }
    }
}

async fn lists<P: Packages, S, W, J, C: WallClock>(
    record: &mut Record,
    parts: &mut Parts<P, S, W, J, C>,
) -> Result<Phase, Ended> {
    if let Err(e) = parts.packages.refresh(parts.clock.now()).await {
        // What is known already can be installed all the same; the report says how old it is.
        record.notes.push(format!("lists were not fetched: {}", Chain(&e)));
    }
    Ok(Phase::Install)
}

/// The facts and the plan made of them; the same for a run and for whoever only asks.
///
/// # Errors
/// When the package manager does not answer.
pub async fn look(
    packages: &mut impl Packages,
    settings: &Settings,
    now: Timestamp,
) -> Result<(Plan, Vec<String>), HostError> {
    let mut excluded: Vec<String> = settings.holds_at(now).map(|h| h.package.clone()).collect();
    let mut facts = packages.facts(&excluded).await?;
    let left = plan::over_limit(&facts.doable, settings.max_packages);
    if !left.is_empty() {
        excluded.extend(left.iter().cloned());
        facts = packages.facts(&excluded).await?;
    }
    Ok((plan::plan(facts, &left, settings, now), excluded))
}

async fn install<P: Packages, S, W: Power, J: Journal, C: WallClock>(
    record: &mut Record,
    settings: &Settings,
    parts: &mut Parts<P, S, W, J, C>,
) -> Result<Phase, Ended> {
    let now = parts.clock.now();
    let (mut plan, mut excluded) =
        look(&mut parts.packages, settings, now).await.map_err(|e| failed(&e))?;
    let mut said = Said::default();
    // A run that was cut off before it had begun to install does not begin outside its window. One
    // that had begun ends what it began: half of it is worse than the wrong hour.
    let is_late = record.last_call.is_some_and(|last| now >= last);
    if is_late && record.planned.is_empty() && plan.broken.is_empty() {
        return Err(Ended::Deferred { why: "the window is over".to_owned() });
    }
    if !plan.broken.is_empty() {
        // First, as nothing can be simulated or installed on top of a half-finished installation.
        said = parts.packages.repair().await.map_err(|e| failed(&e))?;
        if let Some(who) = said.locked_by {
            return Err(Ended::Deferred { why: format!("{who} works on packages") });
        }
        (plan, excluded) =
            look(&mut parts.packages, settings, now).await.map_err(|e| failed(&e))?;
    }
    if let Verdict::Unknown { why } = &plan.verdict {
        record.notes.push(format!("more may be missing: {why}"));
    }
    record.kept_back.clone_from(&plan.kept_back);
    record.release.clone_from(&plan.release);
    // A run that was cut off here adds what is left to what it had planned.
    for update in &plan.updates {
        if !record.planned.iter().any(|p| p.name == update.name) {
            record.planned.push(update.clone());
        }
    }
    parts.journal.save(record).map_err(|e| failed(&HostError::because("write the journal", e)))?;
    if !record.planned.is_empty() {
        let names: Vec<String> = record.planned.iter().map(|u| u.name.clone()).collect();
        let repaired = std::mem::take(&mut said.errors);
        said = parts.packages.install(&excluded, &names).await.map_err(|e| failed(&e))?;
        if let Some(who) = said.locked_by {
            return Err(Ended::Deferred { why: format!("{who} works on packages") });
        }
        said.errors.extend(repaired);
    }
    record.settle(&said.found, &said.errors);
    record.also_broken(&said.broken, &said.errors);
    record.conffiles = said.conffiles;
    if let (Some(trouble), true) = (said.trouble, record.failed.is_empty()) {
        record.notes.push(trouble);
    }
    record.reboot = parts.power.need().await;
    Ok(Phase::Services)
}

/// Restarts each service that runs old code, once and in order. One that does not come up ends the
/// order: what follows may stand on it, and still works with the old code.
async fn restart_services<P, S: Services, W, J: Journal, C>(
    record: &mut Record,
    settings: &Settings,
    parts: &mut Parts<P, S, W, J, C>,
) {
    let stale = parts.services.stale().await;
    let mut broken: Option<String> = None;
    for action in services::actions(&stale, &settings.restart, &settings.leave) {
        let name = name_of(&action);
        // Cut off in mid-order: what was restarted before runs new code and is not stale any more.
        record.services.retain(|o| o.name != name);
        let result = match (&broken, &action) {
            (_, Action::Leave { why, .. }) => Done::Left { why: why.clone() },
            (Some(after), _) => Done::Skipped { after: after.clone() },
            (None, action) => parts.services.act(action, settings.service_timeout).await,
        };
        if matches!(result, Done::Failed { .. }) && broken.is_none() {
            broken = Some(name.clone());
        }
        let outcome = Outcome { name, result };
        tracing::info!(run = %record.id, "{outcome}");
        record.services.push(outcome);
        if let Err(e) = parts.journal.save(record) {
            tracing::warn!(error = %e, "the journal could not be written");
        }
    }
}

fn name_of(action: &Action) -> String {
    match action {
        Action::RestartProgram(name) => name.clone(),
        Action::RestartUnit(unit) | Action::ReloadUnit(unit) => unit.clone(),
        Action::UpgradeAgent => "palisade".to_owned(),
        Action::Leave { name, .. } => name.clone(),
    }
}

/// Restarts the host if it is needed and allowed. None: the run goes on to its end.
async fn restart_host<P: Packages, S, W: Power, J: Journal, C: WallClock>(
    record: &mut Record,
    cut_off: bool,
    settings: &Settings,
    parts: &mut Parts<P, S, W, J, C>,
    stop: &CancellationToken,
) -> Option<Left> {
    record.reboot = parts.power.need().await;
    if cut_off {
        // The host was restarted, by this run or by somebody else: once is enough.
        record.rebooted = true;
        if !record.reboot.reasons.is_empty() {
            let why = record.reboot.reasons.join("; ");
            record.notes.push(format!("a restart of the host is needed again: {why}"));
        }
        return None;
    }
    let waiting_since = parts.clock.now();
    let mut told = false;
    loop {
        let need: RebootNeed = record.reboot.clone();
        let sessions = parts.power.sessions().await;
        let busy = parts.packages.lock_holder().await;
        let situation = Situation {
            need: &need,
            allowed: settings.reboot,
            last_call: record.last_call,
            unsound: !record.failed.is_empty(),
            waiting_since,
            sessions: &sessions,
            grace: settings.session_grace,
            busy: busy.as_deref(),
        };
        match reboot::step(&situation, parts.clock.now()) {
            Step::NotNeeded => return None,
            Step::Leave { why } => {
                record.notes.push(format!("the host is not restarted: {why}"));
                return None;
            }
            Step::Wait { why, forced_at } => {
                if let (Some(at), false) = (forced_at, told) {
                    told = true;
                    let reason = need.reasons.join("; ");
                    let text = format!(
                        "This host will be restarted when everybody has logged out, at {at} at the latest: {reason}"
                    );
                    parts.power.tell(&text).await;
                    record.notes.push(format!("the restart waits: {why}"));
                    if let Err(e) = parts.journal.save(record) {
                        tracing::warn!(error = %e, "the journal could not be written");
                    }
                }
                if stop.run_until_cancelled(time::sleep(LOOK_EVERY)).await.is_none() {
                    return Some(Left::Stopped);
                }
            }
            Step::Now => {
                if !sessions.is_empty() {
                    parts.power.tell("This host is restarted now.").await;
                }
                match parts.power.restart().await {
                    Ok(()) => return Some(Left::Restarting),
                    Err(e) => {
                        let why = Chain(&e).to_string();
                        record.notes.push(format!("the host could not be restarted: {why}"));
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
