//! What an apply would change, found out without changing anything: a stack that is there is asked for
//! a change set, which is taken away again; of one that is not there everything is new, and its name is
//! not reserved by asking.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::{
    aws::Aws,
    cfn::{Cfn, Change, Live, Standing, Wanted},
    failed::{Failed, Outcome},
    follow,
    policy::{Allowed, Refusal, refusals, wants_template},
    unit::Unit,
};

/// Stacks that are asked about, or worked on, at a time.
pub(crate) const AT_A_TIME: usize = 4;

/// What would happen to a stack.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Position of the unit.
    pub(crate) unit: usize,
    pub(crate) what: What,
    pub(crate) refused: Vec<Refusal>,
    /// Parameters whose values are known only when other stacks are there.
    pub(crate) later: Vec<String>,
}

/// The change.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It is made.
    New,
    /// Its first creation failed: it is deleted and made anew.
    Again,
    /// Nothing.
    Nothing,
    /// These resources; none if only outputs or tags of the stack change.
    Changes(Vec<Change>),
    /// It depends on changes of stacks before it.
    Unknown(String),
    /// Somebody is changing it.
    Busy(String),
    /// It has to be repaired first.
    Stuck(String),
}

impl Planned {
    /// Whether a person who saw this plan has seen these changes of the stack. Why a resource changes
    /// is left out: what happens to it is what was agreed to.
    pub(crate) fn has_shown(&self, create: bool, changes: &[Change]) -> bool {
        let same = |shown: &[Change]| {
            let keys = |all: &[Change]| {
                let key = |c: &Change| {
                    let (action, replacement) = (c.action.as_str(), c.replacement.as_str());
                    (c.logical.clone(), c.kind.clone(), action, replacement)
                };
                all.iter().map(key).collect::<BTreeSet<_>>()
            };
            keys(shown) == keys(changes)
        };
        match &self.what {
            What::New | What::Again => create,
            What::Changes(shown) => !create && same(shown),
            What::Nothing | What::Unknown(_) | What::Busy(_) | What::Stuck(_) => false,
        }
    }
}

impl What {
    /// Whether nothing would be done.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// All stacks of the regions, by region and name.
pub(crate) type Lives = BTreeMap<(String, String), Live>;

/// Reads what is there.
pub(crate) async fn lives(aws: &Aws) -> Outcome<Lives> {
    let mut lives = Lives::new();
    for cfn in aws.regions() {
        let found = cfn.all().await.map_err(|e| Failed::from(e).during(cfn.region()))?;
        for live in found {
            lives.insert((cfn.region().to_owned(), live.name.clone()), live);
        }
    }
    Ok(lives)
}

/// The stack of a unit, if it is there.
pub(crate) fn live_of<'a>(lives: &'a Lives, unit: &Unit) -> Option<&'a Live> {
    lives.get(&(unit.region.clone(), unit.full_name.clone()))
}

/// What a unit's fed parameters are, as far as the stacks that feed it are there.
pub(crate) fn fed<'a>(
    units: &'a [Unit],
    unit: &'a Unit,
    outputs: impl Fn(&Unit) -> Option<&'a BTreeMap<String, String>>,
) -> BTreeMap<String, Option<String>> {
    let value = |from: usize, output: &str| outputs(units.get(from)?)?.get(output).cloned();
    unit.feeds.iter().map(|f| (f.parameter.clone(), value(f.unit, &f.output))).collect()
}

/// Plans the chosen units.
///
/// # Errors
/// When AWS does not answer, or refuses a change set for a reason of its own.
pub(crate) async fn plan(
    aws: &Aws,
    units: &[Unit],
    chosen: &BTreeSet<usize>,
    lives: &Lives,
    allowed: &Allowed,
) -> Outcome<Vec<Planned>> {
    let tasks = chosen.iter().filter_map(|i| Some((*i, units.get(*i)?))).map(|(i, unit)| {
        let live = live_of(lives, unit);
        let feeds = fed(units, unit, |u| live_of(lives, u).map(|l| &l.outputs));
        async move {
            let planned = one(aws, unit, i, live, feeds, allowed).await;
            planned.map_err(|e| e.during(&unit.name))
        }
    });
    let found: Vec<Outcome<(Planned, Option<String>)>> =
        stream::iter(tasks).buffered(AT_A_TIME).collect().await;
    let mut planned: Vec<Planned> = Vec::new();
    for result in found {
        let (mut one, bad) = result?;
        if let Some(reason) = bad {
            let unit = units.get(one.unit);
            // A change set that fails may fail for want of what comes before it.
            let before = unit.and_then(|u| changing_before(units, u, &planned));
            match (before, unit) {
                (Some(before), _) => {
                    one.what = What::Unknown(format!("known after {before} is applied"));
                }
                (None, unit) => {
                    let name = unit.map(|u| u.name.as_str()).unwrap_or_default();
                    return Err(Failed::plain(format!("{name}: {reason}")));
                }
            }
        }
        planned.push(one);
    }
    Ok(planned)
}

/// The first stack that this one needs, in however many steps, and that would change.
fn changing_before<'a>(units: &'a [Unit], unit: &Unit, planned: &[Planned]) -> Option<&'a str> {
    let mut todo = unit.needs.clone();
    let mut seen = BTreeSet::new();
    while let Some(need) = todo.pop() {
        if !seen.insert(need) {
            continue;
        }
        let needed = units.get(need)?;
        if planned.iter().any(|p| p.unit == need && !p.what.is_nothing()) {
            return Some(&needed.name);
        }
        todo.extend(&needed.needs);
    }
    None
}

/// One stack's plan; with a reason, if CloudFormation could not work the change set out.
async fn one(
    aws: &Aws,
    unit: &Unit,
    position: usize,
    live: Option<&Live>,
    feeds: BTreeMap<String, Option<String>>,
    allowed: &Allowed,
) -> Outcome<(Planned, Option<String>)> {
    let mut later: Vec<String> = Vec::new();
    later.extend(feeds.iter().filter(|(_, v)| v.is_none()).map(|(name, _)| name.clone()));
    let mut planned = Planned { unit: position, what: What::New, refused: Vec::new(), later };
    let status = live.map(|l| l.status.clone()).unwrap_or_default();
    planned.what = match Standing::of(live) {
        Standing::Absent | Standing::Reserved => return Ok((planned, None)),
        Standing::NeverMade => What::Again,
        Standing::Busy => What::Busy(status),
        Standing::Stuck => What::Stuck(status),
        Standing::Usable => {
            let cfn = aws.cfn(&unit.region)?;
            let mut bad = None;
            planned.what = match changes(aws, cfn, unit, &feeds).await? {
                Worked::Nothing => What::Nothing,
                Worked::Changes(changes) => {
                    planned.refused = judge(cfn, unit, &changes, live, allowed).await?;
                    What::Changes(changes)
                }
                Worked::Taken => What::Busy("another change set".to_owned()),
                Worked::Bad(reason) => {
                    bad = Some(reason);
                    What::Nothing
                }
            };
            return Ok((planned, bad));
        }
    };
    Ok((planned, None))
}

/// Why these changes must not be made, by what is deployed now.
pub(crate) async fn judge(
    cfn: &Cfn,
    unit: &Unit,
    changes: &[Change],
    live: Option<&Live>,
    allowed: &Allowed,
) -> Outcome<Vec<Refusal>> {
    let deployed = match live {
        Some(live) if wants_template(changes) => cfn.template(&live.id).await?,
        Some(_) | None => None,
    };
    Ok(refusals(&unit.name, deployed.as_ref(), changes, live, allowed))
}

/// What CloudFormation made of a change set.
enum Worked {
    Nothing,
    Changes(Vec<Change>),
    Bad(String),
    /// Somebody carried out another one meanwhile, and this one is gone with it.
    Taken,
}

async fn changes(
    aws: &Aws,
    cfn: &Cfn,
    unit: &Unit,
    feeds: &BTreeMap<String, Option<String>>,
) -> Outcome<Worked> {
    let parameters = parameters(unit, feeds);
    let wanted = wanted(unit, false, &parameters);
    let name = follow::fresh_name()?;
    aws.made_set(&name, &unit.region, &unit.full_name);
    if let Err(e) = cfn.create_change_set(&name, &wanted).await {
        aws.settled_set(&name);
        // What is wrong with a template or its parameters may be mended by a stack before it.
        return match e.code() {
            Some("ValidationError") => Ok(Worked::Bad(e.to_string())),
            _ => Err(e.into()),
        };
    }
    let Some(set) = follow::change_set(cfn, &unit.full_name, &name).await? else {
        aws.settled_set(&name);
        return Ok(Worked::Taken);
    };
    cfn.delete_change_set(&unit.full_name, &name).await?;
    aws.settled_set(&name);
    Ok(if set.is_empty() {
        Worked::Nothing
    } else if set.status == "FAILED" {
        Worked::Bad(set.reason)
    } else {
        Worked::Changes(set.changes)
    })
}

/// All parameters of a change set; a fed one that is not known keeps its value.
pub(crate) fn parameters(
    unit: &Unit,
    feeds: &BTreeMap<String, Option<String>>,
) -> Vec<(String, Option<String>)> {
    let said = unit.parameters.iter().map(|(k, v)| (k.clone(), Some(v.clone())));
    said.chain(feeds.iter().map(|(k, v)| (k.clone(), v.clone()))).collect()
}

/// The change set that makes of a stack what its unit says.
pub(crate) fn wanted<'a>(
    unit: &'a Unit,
    create: bool,
    parameters: &'a [(String, Option<String>)],
) -> Wanted<'a> {
    Wanted {
        create,
        stack: &unit.full_name,
        body: &unit.body,
        parameters,
        tags: &unit.tags,
        capabilities: &unit.capabilities,
    }
}
