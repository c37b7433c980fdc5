//! Makes the stacks what the templates say. Each stack: a change set, the policy's word on that very
//! change set, its execution, its end. A run that was cut off anywhere is continued by the next one,
//! which finds every stack in one of the states of [`Standing`].

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use palisade_cloud::CloudError;

use crate::{
    aws::Aws,
    cfn::{Cfn, ChangeSet, Live, Standing, went_well},
    consent::Consent,
    failed::{Failed, Outcome},
    follow,
    plan::{AT_A_TIME, Lives, Planned, fed, judge, live_of, parameters, wanted},
    policy::Allowed,
    printer,
    schedule::Schedule,
    show,
    tell::Teller,
    unit::Unit,
};

/// Times that somebody else may be quicker on one stack.
const MAX_ROUNDS: u32 = 10;

/// What fed parameters are, as far as the stacks that feed them are there.
type Feeds = BTreeMap<String, Option<String>>;

/// What an apply works with: the units, and what was planned of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) units: &'a [Unit],
    pub(crate) planned: &'a [Planned],
    /// The stacks that the plan was made of.
    pub(crate) lives: &'a Lives,
    pub(crate) allowed: &'a Allowed,
    pub(crate) consent: &'a Consent,
}

/// Applies the chosen units; returns how many changed.
///
/// # Errors
/// The first failure; what was begun is waited for, and nothing more is begun.
pub(crate) async fn apply(run: &Run<'_>, chosen: &BTreeSet<usize>) -> Outcome<usize> {
    let units = run.units;
    let needs: Vec<Vec<usize>> = units.iter().map(|u| u.needs.clone()).collect();
    let mut schedule = Schedule::new(&needs, chosen);
    let mut changed = 0;
    let mut running = FuturesUnordered::new();
    let mut failures: Vec<Failed> = Vec::new();
    loop {
        while running.len() < AT_A_TIME
            && let Some(next) = schedule.begin()
        {
            let Some(unit) = units.get(next) else { continue };
            let planned = run.planned.iter().find(|p| p.unit == next);
            running.push(async move { (next, one(run, unit, planned).await) });
        }
        let Some((which, result)) = running.next().await else { break };
        let name = units.get(which).map(|u| u.name.as_str()).unwrap_or_default();
        schedule.end(which, result.is_ok());
        match result {
            Ok(did) => changed += usize::from(did),
            Err(e) => {
                let failed = e.during(name);
                if !failures.is_empty() {
                    printer::failure(&failed);
                }
                failures.push(failed);
            }
        }
    }
    let left: Vec<&str> =
        schedule.left().filter_map(|i| units.get(i)).map(|u| u.name.as_str()).collect();
    if !left.is_empty() {
        printer::note(format_args!("not begun: {}", left.join(", ")));
    }
    match failures.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(changed),
    }
}

/// What a unit is fed now, each stack that feeds it read anew: whoever changed it, here or elsewhere.
async fn feeds_now(run: &Run<'_>, unit: &Unit) -> Outcome<Feeds> {
    let mut outputs: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    let feeders: BTreeSet<usize> = unit.feeds.iter().map(|f| f.unit).collect();
    for feeder in feeders.into_iter().filter_map(|i| run.units.get(i)) {
        let live = run.aws.cfn(&feeder.region)?.live(&feeder.full_name).await?;
        outputs.insert(&feeder.name, live.unwrap_or_default().outputs);
    }
    Ok(fed(run.units, unit, |u| outputs.get(u.name.as_str())))
}

/// Makes one stack what its unit says; true if anything was changed.
async fn one(run: &Run<'_>, unit: &Unit, planned: Option<&Planned>) -> Outcome<bool> {
    let feeds = feeds_now(run, unit).await?;
    let before = live_of(run.lives, unit);
    if planned.is_some_and(|p| p.what.is_nothing()) {
        // Whoever is fed anew may change after all; whoever imports cannot, for CloudFormation
        // keeps exports in use as they are.
        let fed_then = fed(run.units, unit, |u| live_of(run.lives, u).map(|l| &l.outputs));
        let protected = before.is_some_and(|l| l.protected);
        if feeds == fed_then && (protected || !unit.protect) {
            return Ok(false);
        }
    }
    if let Some(unknown) = unit.feeds.iter().find(|f| feeds.get(&f.parameter) == Some(&None)) {
        return Err(Failed::plain(format!(
            "the value of {} is not known: output {} of its stack is not there",
            unknown.parameter, unknown.output
        ))
        .hint("apply the stack that has it first"));
    }
    let cfn = run.aws.cfn(&unit.region)?;
    let task = Task { run, cfn, unit, planned };
    for _ in 0..MAX_ROUNDS {
        let live = cfn.live(&unit.full_name).await?;
        let create = match Standing::of(live.as_ref()) {
            Standing::Absent | Standing::Reserved => true,
            Standing::Usable => false,
            Standing::Busy => {
                let status = live.map(|l| l.status).unwrap_or_default();
                follow::others(cfn, &unit.name, &unit.full_name, &status).await?;
                continue;
            }
            Standing::NeverMade => {
                let live = live.unwrap_or_default();
                printer::note(format_args!(
                    "{}: its first creation failed ({}): deleted, to be made anew",
                    unit.name, live.status
                ));
                task.delete(&live).await?;
                continue;
            }
            Standing::Stuck => return Err(stuck(&live.unwrap_or_default())),
        };
        if let Some(changed) = task.carry_out(&feeds, create).await? {
            protect(cfn, unit).await?;
            return Ok(changed);
        }
    }
    Err(Failed::plain("somebody else keeps changing this stack").hint("run it again later"))
}

/// One stack's work.
#[derive(Clone, Copy, Debug)]
struct Task<'a> {
    run: &'a Run<'a>,
    cfn: &'a Cfn,
    unit: &'a Unit,
    planned: Option<&'a Planned>,
}

impl Task<'_> {
    /// Whether there was anything to change; None if somebody else was quicker.
    async fn carry_out(&self, feeds: &Feeds, create: bool) -> Outcome<Option<bool>> {
        let Self { run: Run { aws, .. }, cfn, unit, .. } = *self;
        let parameters = parameters(unit, feeds);
        let name = follow::fresh_name()?;
        aws.made_set(&name, &unit.region, &unit.full_name);
        if let Err(e) = cfn.create_change_set(&name, &wanted(unit, create, &parameters)).await {
            aws.settled_set(&name);
            let said = e.to_string();
            // Between the look and the request, somebody made it or began to change it.
            let raced = e.code() == Some("AlreadyExistsException") || said.contains("_IN_PROGRESS");
            return if raced { Ok(None) } else { Err(e.into()) };
        }
        let Some(set) = follow::change_set(cfn, &unit.full_name, &name).await? else {
            aws.settled_set(&name);
            return Ok(None);
        };
        let agreed = if set.is_empty() || set.status == "FAILED" {
            Ok(())
        } else {
            self.agreed(&set, create).await
        };
        if set.is_empty() || set.status == "FAILED" || agreed.is_err() {
            cfn.delete_change_set(&unit.full_name, &name).await?;
            aws.settled_set(&name);
            if create {
                free_name(cfn, unit).await?;
            }
            agreed?;
            return if set.is_empty() { Ok(Some(false)) } else { Err(Failed::plain(set.reason)) };
        }
        let last = cfn.last_event(&unit.full_name).await?;
        if !self.execute(&name, create).await? {
            cfn.delete_change_set(&unit.full_name, &name).await?;
            aws.settled_set(&name);
            return Ok(None);
        }
        aws.settled_set(&name);
        printer::note(format_args!(
            "{}: {} resources to {}",
            unit.name,
            set.changes.len(),
            if create { "create" } else { "change" }
        ));
        let mut teller = Teller::new(&unit.name, &unit.full_name, &unit.places, last);
        let after = follow::stack(aws, cfn, &unit.full_name, Some(&name), &mut teller).await?;
        aws.is_idle(&unit.full_name);
        match after {
            Some(after) if went_well(&after.status) => {
                printer::note(format_args!("{}: done", unit.name));
                Ok(Some(true))
            }
            after => Err(failure(after, &teller)),
        }
    }

    /// Whether this very change set may be carried out: policy allows it, and a person has seen it.
    async fn agreed(&self, set: &ChangeSet, create: bool) -> Outcome<()> {
        self.judged(set, create).await?;
        if self.planned.is_some_and(|p| p.has_shown(create, &set.changes)) {
            return Ok(());
        }
        let name = &self.unit.name;
        let mut shown = vec![format!("{name}: these changes are not those of the plan:")];
        shown.extend(show::changes(&set.changes));
        let question = format!("apply these changes of {name}?");
        self.run.consent.to(&shown, &question, "yes").await?;
        // An answer takes its time, in which the stack may have become another.
        self.judged(set, create).await
    }

    /// By the stack as it is now: which VPC origin is in use may have changed since the plan.
    async fn judged(&self, set: &ChangeSet, create: bool) -> Outcome<()> {
        let Self { cfn, unit, .. } = *self;
        let live = if create { None } else { cfn.live(&unit.full_name).await? };
        let refused = judge(cfn, unit, &set.changes, live.as_ref(), self.run.allowed).await?;
        match refused.first() {
            None => Ok(()),
            Some(refused) => Err(Failed::refused(refused.to_string()).hint(refused.hint())),
        }
    }

    /// Begins to carry a change set out; false if another one of the stack went first and made this
    /// one void. It is in the ledger before it is sent, for the answer may not come.
    async fn execute(&self, name: &str, create: bool) -> Outcome<bool> {
        let Self { run: Run { aws, .. }, cfn, unit, .. } = *self;
        let doing = if create { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" };
        aws.is_busy(&unit.full_name, format!("{doing} in {}", unit.region));
        let Err(e) = cfn.execute(&unit.full_name, name, create).await else { return Ok(true) };
        let begun = match e.code() {
            // A request whose answer was lost and that was sent again finds what it began itself.
            Some(
                "InvalidChangeSetStatus" | "TokenAlreadyExistsException" | "ChangeSetNotFound",
            ) => is_begun(cfn, &unit.full_name, name).await.map_err(Failed::from),
            _ => {
                aws.not_begun(&unit.full_name, &e);
                return Err(e.into());
            }
        };
        if matches!(begun, Ok(false)) {
            aws.is_idle(&unit.full_name);
        }
        begun
    }

    async fn delete(&self, live: &Live) -> Outcome<()> {
        let Self { run: Run { aws, .. }, cfn, unit, .. } = *self;
        let last = cfn.last_event(&live.id).await?;
        aws.is_busy(&unit.full_name, format!("DELETE_IN_PROGRESS in {}", unit.region));
        cfn.delete(&live.id).await.inspect_err(|e| aws.not_begun(&unit.full_name, e))?;
        let mut teller = Teller::new(&unit.name, &unit.full_name, &unit.places, last);
        let after = follow::stack(aws, cfn, &live.id, None, &mut teller).await?;
        aws.is_idle(&unit.full_name);
        match Standing::of(after.as_ref()) {
            Standing::Absent => Ok(()),
            _ => Err(failure(after, &teller)),
        }
    }
}

/// Whether a change set is being carried out, or was.
async fn is_begun(cfn: &Cfn, stack: &str, set: &str) -> Result<bool, CloudError> {
    match cfn.change_set(stack, set).await {
        Ok(set) => Ok(set.execution.starts_with("EXECUTE_")),
        Err(e) if e.code() == Some("ChangeSetNotFound") => Ok(false),
        Err(e) => Err(e),
    }
}

/// Why a stack is not what it should be.
pub(crate) fn failure(after: Option<Live>, teller: &Teller<'_>) -> Failed {
    let after = after.unwrap_or_default();
    let status = if after.status.is_empty() { "it is gone" } else { &after.status };
    let mut causes = teller.causes();
    if causes.is_empty() && !after.reason.is_empty() {
        causes.push(after.reason.clone());
    }
    let hint = match Standing::of_status(&after.status) {
        Standing::NeverMade => {
            "mend the cause and run it again: the stack is deleted and made anew"
        }
        _ => "mend the cause and run it again: it goes on from here",
    };
    Failed::plain(format!("{status}: {}", causes.join("\n  also: "))).hint(hint)
}

/// Why nothing can be done with a stack before somebody has repaired it.
pub(crate) fn stuck(live: &Live) -> Failed {
    let hint = match live.status.as_str() {
        "UPDATE_ROLLBACK_FAILED" => format!(
            "mend what the reason names, then: aws cloudformation continue-update-rollback \
             --stack-name {}",
            live.name
        ),
        "DELETE_FAILED" => "destroy this stack to its end, then apply again".to_owned(),
        _ => "look at the stack's events, mend or destroy it, then apply again".to_owned(),
    };
    let reason = if live.reason.is_empty() { "no reason is given" } else { &live.reason };
    Failed::plain(format!("{}: {reason}", live.status)).hint(hint)
}

/// A change set of a new stack reserves its name. It is freed by the stack's id, and only while nobody
/// uses it: the last look is at what another run would have made of it.
async fn free_name(cfn: &Cfn, unit: &Unit) -> Outcome<()> {
    let Some(live) = cfn.live(&unit.full_name).await? else { return Ok(()) };
    if Standing::of(Some(&live)) != Standing::Reserved || cfn.has_change_sets(&live.id).await? {
        return Ok(());
    }
    let now = cfn.live(&live.id).await?;
    if Standing::of(now.as_ref()) == Standing::Reserved {
        cfn.delete(&live.id).await?;
    }
    Ok(())
}

async fn protect(cfn: &Cfn, unit: &Unit) -> Outcome<()> {
    if !unit.protect {
        return Ok(());
    }
    let live = cfn.live(&unit.full_name).await?;
    if live.is_some_and(|l| !l.protected) {
        cfn.protect(&unit.full_name, true).await?;
        printer::note(format_args!("{}: protected against deletion", unit.name));
    }
    Ok(())
}
