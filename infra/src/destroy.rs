//! Deletes the stacks, each after all that need it. Before the first is touched, all are looked at:
//! what holds data goes only when its stack or resource was named, and what stays behind is named.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream, stream::FuturesUnordered};
use palisade_infra_model::stateful::{holds_data, is_member_in};
use serde_json::Value;

use crate::{
    apply::failure,
    aws::Aws,
    cfn::{Cfn, Live, ResourceState, Standing},
    failed::{Failed, Outcome},
    follow,
    plan::{AT_A_TIME, Lives, live_of},
    policy::Allowed,
    printer,
    schedule::Schedule,
    tell::Teller,
    unit::Unit,
};

/// What becomes of a resource when its stack is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Snapshot,
    Gone,
}

/// What deleting a stack would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Position of the unit.
    pub(crate) unit: usize,
    /// Resources in it.
    pub(crate) count: usize,
    /// What holds data and would be lost, with its type and id.
    pub(crate) lost: Vec<(String, String)>,
    /// What stays behind, with its type and id.
    pub(crate) kept: Vec<String>,
    pub(crate) protected: bool,
}

/// Looks at the chosen units that are there.
pub(crate) async fn survey(
    aws: &Aws,
    units: &[Unit],
    chosen: &BTreeSet<usize>,
    lives: &Lives,
) -> Outcome<Vec<Survey>> {
    let tasks = chosen.iter().filter_map(|i| {
        let unit = units.get(*i)?;
        Some((*i, unit, live_of(lives, unit)?))
    });
    let tasks = tasks.map(|(i, unit, live)| look(aws, i, unit, live));
    let found: Vec<Outcome<Survey>> = stream::iter(tasks).buffered(AT_A_TIME).collect().await;
    found.into_iter().collect()
}

/// Looks at one stack.
async fn look(aws: &Aws, position: usize, unit: &Unit, live: &Live) -> Outcome<Survey> {
    let cfn = aws.cfn(&unit.region)?;
    let mut survey = Survey { unit: position, protected: live.protected, ..Survey::default() };
    if Standing::of(Some(live)) != Standing::Reserved {
        let resources = cfn.resources(&live.id).await?;
        let template = cfn.template(&live.id).await?;
        fill(&mut survey, &resources, template.as_ref());
    }
    Ok(survey)
}

fn fill(survey: &mut Survey, resources: &[ResourceState], template: Option<&Value>) {
    for resource in resources.iter().filter(|r| r.status != "DELETE_COMPLETE") {
        survey.count += 1;
        let name = format!("{} ({}, {})", resource.logical, resource.kind, resource.physical);
        match fate(resource, template) {
            Fate::Kept => survey.kept.push(name),
            // A snapshot is kept, but what was served from it no longer is.
            Fate::Snapshot | Fate::Gone
                if holds_data(&resource.kind)
                    && !template.is_some_and(|t| is_member_in(t, &resource.logical)) =>
            {
                survey.lost.push((resource.logical.clone(), name));
            }
            Fate::Snapshot | Fate::Gone => {}
        }
    }
}

/// As the template says that the stack was made of. Without one, everything goes.
fn fate(resource: &ResourceState, template: Option<&Value>) -> Fate {
    let policy = template
        .and_then(|t| t.get("Resources")?.get(&resource.logical)?.get("DeletionPolicy")?.as_str());
    match policy {
        Some("Retain" | "RetainExceptOnCreate") => Fate::Kept,
        Some("Snapshot") => Fate::Snapshot,
        Some(_) => Fate::Gone,
        // CloudFormation's own default; that of an instance is told as gone, which is the worse.
        None if resource.kind == "AWS::RDS::DBCluster" => Fate::Snapshot,
        None => Fate::Gone,
    }
}

/// Why these stacks must not be deleted, if so.
pub(crate) fn refusal(
    units: &[Unit],
    surveys: &[Survey],
    allowed: &Allowed,
    unprotect: bool,
) -> Option<Failed> {
    let mut whys = Vec::new();
    let mut stacks = BTreeSet::new();
    let mut protected = false;
    for survey in surveys {
        let Some(unit) = units.get(survey.unit) else { continue };
        for (logical, name) in &survey.lost {
            if !allowed.resource_or_stack(&unit.name, logical) {
                whys.push(format!("{}: {name} holds data", unit.name));
                stacks.insert(unit.name.as_str());
            }
        }
        if survey.protected && !unprotect {
            whys.push(format!("{}: it is protected against deletion", unit.name));
            protected = true;
        }
    }
    if whys.is_empty() {
        return None;
    }
    let mut say = Vec::new();
    if !stacks.is_empty() {
        let stacks: Vec<&str> = stacks.into_iter().collect();
        say.push(format!("--allow-data-loss {}", stacks.join(",")));
    }
    if protected {
        say.push("--disable-termination-protection".to_owned());
    }
    let hint = format!("nothing was deleted; to delete it all the same: {}", say.join(" "));
    Some(Failed::refused(whys.join("\n  also: ")).hint(hint))
}

/// What a destroy works with.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) units: &'a [Unit],
    pub(crate) lives: &'a Lives,
    /// What a person has seen.
    pub(crate) surveys: &'a [Survey],
    pub(crate) allowed: Allowed,
    /// Termination protection may be turned off.
    pub(crate) unprotect: bool,
}

/// Deletes the chosen units that are there; returns how many were.
///
/// # Errors
/// The first failure; what was begun is waited for, and nothing more is begun.
pub(crate) async fn destroy(run: &Run<'_>, chosen: &BTreeSet<usize>) -> Outcome<usize> {
    let (units, lives) = (run.units, run.lives);
    let needs: Vec<Vec<usize>> = units.iter().map(|u| u.needs.clone()).collect();
    let mut schedule = Schedule::reversed(&needs, chosen);
    let mut running = FuturesUnordered::new();
    let mut first: Option<Failed> = None;
    let mut count = 0;
    loop {
        while running.len() < AT_A_TIME
            && let Some(next) = schedule.begin()
        {
            match units.get(next).and_then(|u| Some((u, live_of(lives, u)?))) {
                Some((unit, live)) => {
                    running.push(async move { (next, one(run, next, unit, live).await) })
                }
                None => schedule.end(next, true),
            }
        }
        let Some((which, result)) = running.next().await else { break };
        schedule.end(which, result.is_ok());
        match result {
            Ok(()) => count += 1,
            Err(e) => {
                let failed = e.during(units.get(which).map_or("", |u| &u.name));
                match first {
                    Some(_) => printer::failure(&failed),
                    None => first = Some(failed),
                }
            }
        }
    }
    let left: Vec<&str> = schedule
        .left()
        .filter_map(|i| units.get(i))
        .filter(|u| live_of(lives, u).is_some())
        .map(|u| u.name.as_str())
        .collect();
    if !left.is_empty() {
        printer::note(format_args!("not begun: {}", left.join(", ")));
    }
    first.map_or(Ok(count), Err)
}

async fn one(run: &Run<'_>, position: usize, unit: &Unit, live: &Live) -> Outcome<()> {
    let aws = run.aws;
    let cfn: &Cfn = aws.cfn(&unit.region)?;
    // By its id, so that nobody's new stack of that name is meant.
    let mut now = cfn.live(&live.id).await?;
    if Standing::of(now.as_ref()) == Standing::Busy {
        let status = now.map(|l| l.status).unwrap_or_default();
        follow::others(cfn, &unit.name, &live.id, &status).await?;
        now = cfn.live(&live.id).await?;
    }
    let Some(now) = now.filter(|l| Standing::of(Some(l)) != Standing::Absent) else {
        return Ok(());
    };
    still_agreed(run, &look(aws, position, unit, &now).await?)?;
    if now.protected {
        cfn.protect(&live.id, false).await?;
    }
    let deleted = delete(aws, cfn, unit, &live.id).await;
    if now.protected && deleted.is_err() {
        match cfn.protect(&live.id, true).await {
            Ok(()) => {
                printer::note(format_args!("{}: protected against deletion again", unit.name))
            }
            Err(e) => printer::note(format_args!("{}: it is left unprotected: {e}", unit.name)),
        }
    }
    deleted
}

/// Hours may have passed since the survey, at a question and in waits for other stacks: what is to be
/// deleted now is what was seen and allowed then.
fn still_agreed(run: &Run<'_>, now: &Survey) -> Outcome<()> {
    let seen = run.surveys.iter().find(|s| s.unit == now.unit);
    let new = |lost: &&(String, String)| seen.is_none_or(|s| !s.lost.contains(lost));
    if let Some((_, name)) = now.lost.iter().find(new) {
        return Err(Failed::refused(format!("{name} holds data, and was not there before"))
            .hint("run it again: it shows what the stack has now"));
    }
    let judged = refusal(run.units, std::slice::from_ref(now), &run.allowed, run.unprotect);
    judged.map_or(Ok(()), Err)
}

async fn delete(aws: &Aws, cfn: &Cfn, unit: &Unit, id: &str) -> Outcome<()> {
    let last = cfn.last_event(id).await?;
    aws.is_busy(&unit.full_name, format!("DELETE_IN_PROGRESS in {}", unit.region));
    cfn.delete(id).await.inspect_err(|e| aws.not_begun(&unit.full_name, e))?;
    printer::note(format_args!("{}: is being deleted", unit.name));
    let mut teller = Teller::new(&unit.name, &unit.full_name, &unit.places, last);
    let after = follow::stack(aws, cfn, id, None, &mut teller).await?;
    aws.is_idle(&unit.full_name);
    match Standing::of(after.as_ref()) {
        Standing::Absent => {
            printer::note(format_args!("{}: deleted", unit.name));
            Ok(())
        }
        _ => Err(failure(after, &teller)
            .hint("mend the cause and run it again; a bucket must be empty, an export unused")),
    }
}

/// Stacks of the environment that the list no longer has, as units that everything else is under:
/// they are the first to go. Known by their parameters, since one name can begin another.
pub(crate) fn orphans(
    units: &[Unit],
    lives: &Lives,
    order: &[String],
    project: &str,
    env: &str,
) -> Vec<Unit> {
    let prefix = format!("{project}-{env}-");
    let ours = |live: &&Live| {
        let is = |key: &str, value: &str| live.parameters.get(key).is_some_and(|v| v == value);
        is("Project", project) && is("Env", env)
    };
    let mut found: Vec<Unit> = lives
        .iter()
        .filter(|((region, name), _)| {
            !units.iter().any(|u| u.region == *region && u.full_name == *name)
        })
        .filter(|(_, live)| ours(live))
        .filter_map(|((region, full_name), _)| {
            let name = full_name.strip_prefix(&prefix)?.to_owned();
            Some(Unit {
                name,
                full_name: full_name.clone(),
                region: region.clone(),
                body: String::new(),
                parameters: BTreeMap::new(),
                feeds: Vec::new(),
                needs: Vec::new(),
                capabilities: Vec::new(),
                tags: Vec::new(),
                resources: Vec::new(),
                places: BTreeMap::new(),
                protect: false,
            })
        })
        .collect();
    // Later in the list needs what is earlier; what is in no list goes first of all.
    let place = |u: &Unit| order.iter().position(|n| *n == u.name).unwrap_or(usize::MAX);
    found.sort_by_key(place);
    for (i, orphan) in found.iter_mut().enumerate() {
        orphan.needs = (0..units.len() + i).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(logical: &str, kind: &str) -> ResourceState {
        ResourceState {
            logical: logical.into(),
            physical: format!("id-{logical}"),
            kind: kind.into(),
            status: "CREATE_COMPLETE".into(),
        }
    }

    #[test]
    fn what_would_be_lost_and_what_stays_is_told_from_the_template_that_is_deployed() {
        let template = json!({"Resources": {
            "Kept": {"DeletionPolicy": "Retain"}, "Db": {"DeletionPolicy": "Snapshot"},
            "Bucket": {"DeletionPolicy": "Delete"}, "Vpc": {}}});
        let resources = [
            resource("Kept", "AWS::S3::Bucket"),
            resource("Db", "AWS::RDS::DBCluster"),
            resource("Bucket", "AWS::S3::Bucket"),
            resource("Vpc", "AWS::EC2::VPC"),
        ];
        let mut survey = Survey::default();
        fill(&mut survey, &resources, Some(&template));
        let lost: Vec<&str> = survey.lost.iter().map(|(l, _)| l.as_str()).collect();
        assert_eq!((lost, survey.count), (vec!["Db", "Bucket"], 4));
        assert_eq!(survey.kept, ["Kept (AWS::S3::Bucket, id-Kept)"]);
        let mut blind = Survey::default();
        fill(&mut blind, &resources, None);
        assert_eq!(blind.lost.len(), 3, "without a template everything goes");
    }
}
