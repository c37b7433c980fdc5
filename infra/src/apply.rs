//! Makes the stacks what the templates say. Each stack: a change set, the policy's word on that very
//! change set, its execution, its end. A run that was cut off anywhere is continued by the next one,
//! which finds every stack in one of the states of [`Standing`].

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    aws::Aws,
    cfn::{Cfn, Live, Standing, went_well},
    failed::{Failed, Outcome},
    follow,
    plan::{AT_A_TIME, Lives, Planned, fed, live_of, parameters, wanted},
    policy::{Allowed, refusals},
    printer,
    schedule::Schedule,
    tell::Teller,
    unit::Unit,
};

/// Times that somebody else may be quicker on one stack.
const MAX_ROUNDS: u32 = 10;

/// Outputs of a stack.
type Outputs = BTreeMap<String, String>;

/// What came of a stack.
#[derive(Debug)]
struct Applied {
    outputs: Outputs,
    changed: bool,
}

/// Applies the chosen units. `planned` says which have nothing to do unless what feeds them changes.
///
/// # Errors
/// The first failure; what was begun is waited for, and nothing more is begun.
pub(crate) async fn apply(
    aws: &Aws,
    units: &[Unit],
    chosen: &BTreeSet<usize>,
    planned: &[Planned],
    lives: &Lives,
    allowed: &Allowed,
) -> Outcome<usize> {
    let needs: Vec<Vec<usize>> = units.iter().map(|u| u.needs.clone()).collect();
    let mut schedule = Schedule::new(&needs, chosen);
    let mut outputs: Vec<Option<Outputs>> =
        units.iter().map(|u| live_of(lives, u).map(|l| l.outputs.clone())).collect();
    let idle: BTreeSet<usize> =
        planned.iter().filter(|p| p.what.is_nothing()).map(|p| p.unit).collect();
    let mut changed: BTreeSet<usize> = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    let mut failures: Vec<Failed> = Vec::new();
    loop {
        while running.len() < AT_A_TIME
            && let Some(next) = schedule.begin()
        {
            let Some(unit) = units.get(next) else { continue };
            // Whoever is fed by a stack that changed may change as well; whoever imports from one
            // cannot, for CloudFormation keeps exports in use as they are.
            let fed_anew = unit.feeds.iter().any(|f| changed.contains(&f.unit));
            let protected = live_of(lives, unit).is_some_and(|l| l.protected);
            if idle.contains(&next) && !fed_anew && (protected || !unit.protect) {
                schedule.end(next, true);
                continue;
            }
            let feeds = fed(units, unit, |u| {
                let at = units.iter().position(|other| other.full_name == u.full_name)?;
                outputs.get(at)?.as_ref()
            });
            running.push(async move { (next, one(aws, unit, feeds, allowed).await) });
        }
        let Some((which, result)) = running.next().await else { break };
        let name = units.get(which).map(|u| u.name.as_str()).unwrap_or_default();
        schedule.end(which, result.is_ok());
        match result {
            Ok(applied) => {
                if applied.changed {
                    changed.insert(which);
                }
                if let Some(slot) = outputs.get_mut(which) {
                    *slot = Some(applied.outputs);
                }
            }
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
        None => Ok(changed.len()),
    }
}

/// What to do next with a stack.
enum Next {
    Done(Applied),
    /// Somebody else was quicker.
    Again,
}

async fn one(
    aws: &Aws,
    unit: &Unit,
    feeds: BTreeMap<String, Option<String>>,
    allowed: &Allowed,
) -> Outcome<Applied> {
    if let Some(unknown) = unit.feeds.iter().find(|f| feeds.get(&f.parameter) == Some(&None)) {
        return Err(Failed::plain(format!(
            "the value of {} is not known: output {} of its stack is not there",
            unknown.parameter, unknown.output
        ))
        .hint("apply the stack that has it first"));
    }
    let cfn = aws.cfn(&unit.region)?;
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
                delete(aws, cfn, unit, &live).await?;
                continue;
            }
            Standing::Stuck => return Err(stuck(&live.unwrap_or_default())),
        };
        let before = live.filter(|_| !create);
        match carry_out(aws, cfn, unit, &feeds, before, allowed).await? {
            Next::Done(applied) => {
                protect(cfn, unit).await?;
                return Ok(applied);
            }
            Next::Again => {}
        }
    }
    Err(Failed::plain("somebody else keeps changing this stack").hint("run it again later"))
}

async fn carry_out(
    aws: &Aws,
    cfn: &Cfn,
    unit: &Unit,
    feeds: &BTreeMap<String, Option<String>>,
    live: Option<Live>,
    allowed: &Allowed,
) -> Outcome<Next> {
    let create = live.is_none();
    let parameters = parameters(unit, feeds);
    let name = follow::fresh_name()?;
    aws.made_set(&name, &unit.region, &unit.full_name);
    if let Err(e) = cfn.create_change_set(&name, &wanted(unit, create, &parameters)).await {
        aws.settled_set(&name);
        let said = e.to_string();
        // Between the look and the request, somebody made it or began to change it.
        let raced = e.code() == Some("AlreadyExistsException") || said.contains("_IN_PROGRESS");
        return if raced { Ok(Next::Again) } else { Err(e.into()) };
    }
    let Some(set) = follow::change_set(cfn, &unit.full_name, &name).await? else {
        aws.settled_set(&name);
        return Ok(Next::Again);
    };
    if set.is_empty() || set.status == "FAILED" {
        cfn.delete_change_set(&unit.full_name, &name).await?;
        aws.settled_set(&name);
        if set.is_empty() {
            let outputs = live.map(|l| l.outputs).unwrap_or_default();
            return Ok(Next::Done(Applied { outputs, changed: false }));
        }
        if create {
            free_name(cfn, unit).await?;
        }
        return Err(Failed::plain(set.reason));
    }
    if let Some(refused) =
        refusals(&unit.name, &unit.members, &set.changes, live.as_ref(), allowed).first()
    {
        cfn.delete_change_set(&unit.full_name, &name).await?;
        aws.settled_set(&name);
        return Err(Failed::refused(refused.to_string()).hint(refused.hint()));
    }
    let last = cfn.last_event(&unit.full_name).await?;
    if let Err(e) = cfn.execute(&unit.full_name, &name, create).await {
        return match e.code() {
            // Another change set of this stack was carried out first, and this one with it is void.
            Some("InvalidChangeSetStatus" | "ChangeSetNotFound") => {
                cfn.delete_change_set(&unit.full_name, &name).await?;
                aws.settled_set(&name);
                Ok(Next::Again)
            }
            _ => Err(e.into()),
        };
    }
    aws.settled_set(&name);
    let doing = if create { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" };
    printer::note(format_args!(
        "{}: {} resources to {}",
        unit.name,
        set.changes.len(),
        if create { "create" } else { "change" }
    ));
    aws.is_busy(&unit.full_name, format!("{doing} in {}", unit.region));
    let mut teller = Teller::new(&unit.name, &unit.full_name, &unit.places, last);
    let after = follow::stack(aws, cfn, &unit.full_name, &mut teller).await?;
    aws.is_idle(&unit.full_name);
    match after {
        Some(after) if went_well(&after.status) => {
            printer::note(format_args!("{}: done", unit.name));
            Ok(Next::Done(Applied { outputs: after.outputs, changed: true }))
        }
        after => Err(failure(after, &teller)),
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

async fn delete(aws: &Aws, cfn: &Cfn, unit: &Unit, live: &Live) -> Outcome<()> {
    let last = cfn.last_event(&live.id).await?;
    cfn.delete(&live.id).await?;
    aws.is_busy(&unit.full_name, format!("DELETE_IN_PROGRESS in {}", unit.region));
    let mut teller = Teller::new(&unit.name, &unit.full_name, &unit.places, last);
    let after = follow::stack(aws, cfn, &live.id, &mut teller).await?;
    aws.is_idle(&unit.full_name);
    match Standing::of(after.as_ref()) {
        Standing::Absent => Ok(()),
        _ => Err(failure(after, &teller)),
    }
}

/// A change set of a new stack reserves its name, which nobody else must be using by now.
async fn free_name(cfn: &Cfn, unit: &Unit) -> Outcome<()> {
    let live = cfn.live(&unit.full_name).await?;
    let reserved = Standing::of(live.as_ref()) == Standing::Reserved;
    if reserved && !cfn.has_change_sets(&unit.full_name).await? {
        cfn.delete(&unit.full_name).await?;
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
