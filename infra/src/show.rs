//! How a plan is shown: for people as a table, for programs as data. Pure.

use serde::Serialize;

use crate::{
    cfn::{Action, Change, Replacement},
    plan::{Planned, What},
    unit::Unit,
};
use palisade_cloud::terminal::{clean, clean_lines, table};

/// A stack's plan as data.
#[derive(Debug, Serialize)]
pub(crate) struct StackPlan<'a> {
    stack: &'a str,
    name: &'a str,
    region: &'a str,
    /// `new`, `again`, `unchanged`, `changed`, `unknown`, `busy` or `stuck`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    changes: Vec<Row>,
    refused: Vec<String>,
    known_after_apply: &'a [String],
}

/// A resource's change.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Row {
    action: &'static str,
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    replacement: &'static str,
    why: String,
}

/// The plan as data.
pub(crate) fn data<'a>(units: &'a [Unit], planned: &'a [Planned]) -> Vec<StackPlan<'a>> {
    let of = |plan: &'a Planned| {
        let unit = units.get(plan.unit)?;
        Some(StackPlan {
            stack: &unit.name,
            name: &unit.full_name,
            region: &unit.region,
            state: state(&plan.what).0,
            why: why(&plan.what).map(clean_lines),
            changes: rows(unit, &plan.what),
            refused: plan.refused.iter().map(ToString::to_string).collect(),
            known_after_apply: &plan.later,
        })
    };
    planned.iter().filter_map(of).collect()
}

/// The plan as lines.
pub(crate) fn lines(units: &[Unit], planned: &[Planned]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut unchanged = Vec::new();
    for plan in planned {
        let Some(unit) = units.get(plan.unit) else { continue };
        if plan.what.is_nothing() {
            unchanged.push(unit.name.as_str());
            continue;
        }
        lines.push(format!("{} in {}: {}", unit.full_name, unit.region, words(&plan.what)));
        lines.extend(cells(rows(unit, &plan.what)));
        for parameter in &plan.later {
            lines.push(format!("  {parameter}: known after apply"));
        }
        for refusal in &plan.refused {
            lines.push(format!("  refused: {refusal}"));
        }
    }
    if !unchanged.is_empty() {
        lines.push(format!("no changes: {}", unchanged.join(", ")));
    }
    lines.push(summary(units, planned));
    lines
}

/// Changes of a stack that no plan has shown.
pub(crate) fn changes(changes: &[Change]) -> Vec<String> {
    if changes.is_empty() {
        return vec!["  only its outputs or its tags change".to_owned()];
    }
    cells(changes.iter().map(row).collect())
}

fn cells(rows: Vec<Row>) -> Vec<String> {
    let cells =
        |r: Row| vec![format!("  {}", r.action), r.resource, r.kind, r.replacement.into(), r.why];
    table(&rows.into_iter().map(cells).collect::<Vec<_>>())
}

fn summary(units: &[Unit], planned: &[Planned]) -> String {
    let all: Vec<Row> =
        planned.iter().filter_map(|p| Some(rows(units.get(p.unit)?, &p.what))).flatten().collect();
    let count = |action: Action| all.iter().filter(|r| r.action == action.as_str()).count();
    let replaced = all.iter().filter(|r| !r.replacement.is_empty()).count();
    let stacks = planned.iter().filter(|p| !p.what.is_nothing()).count();
    if stacks == 0 {
        return "nothing to change".to_owned();
    }
    format!(
        "{} to add, {} to change ({replaced} replaced), {} to remove, in {stacks} of {} stacks",
        count(Action::Add),
        count(Action::Modify),
        count(Action::Remove),
        planned.len()
    )
}

/// A word for programs, and one for people.
fn state(what: &What) -> (&'static str, &'static str) {
    match what {
        What::New => ("new", "is made"),
        What::Again => ("again", "its first creation failed: it is deleted and made anew"),
        What::Nothing => ("unchanged", "no changes"),
        What::Changes(changes) if changes.is_empty() => {
            ("changed", "only its outputs or its tags change")
        }
        What::Changes(_) => ("changed", "is changed"),
        What::Unknown(_) => ("unknown", "its changes are not known yet"),
        What::Busy(_) => ("busy", "somebody is changing it"),
        What::Stuck(_) => ("stuck", "it has to be repaired first"),
    }
}

fn words(what: &What) -> String {
    let text = state(what).1;
    why(what).map_or_else(|| text.to_owned(), |why| format!("{text}: {}", clean_lines(why)))
}

fn why(what: &What) -> Option<&str> {
    match what {
        What::Unknown(why) | What::Busy(why) | What::Stuck(why) => Some(why),
        What::New | What::Again | What::Nothing | What::Changes(_) => None,
    }
}

fn rows(unit: &Unit, what: &What) -> Vec<Row> {
    match what {
        What::New | What::Again => unit
            .resources
            .iter()
            .map(|(logical, kind)| Row {
                action: Action::Add.as_str(),
                resource: logical.clone(),
                kind: kind.clone(),
                replacement: Replacement::No.as_str(),
                why: String::new(),
            })
            .collect(),
        What::Changes(changes) => changes.iter().map(row).collect(),
        What::Nothing | What::Unknown(_) | What::Busy(_) | What::Stuck(_) => Vec::new(),
    }
}

fn row(change: &Change) -> Row {
    let cause = |c: &crate::cfn::Cause| {
        let by = if c.by.is_empty() { String::new() } else { format!(" (by {})", c.by) };
        let replaces = change.replacement != Replacement::No && c.recreation == "Always";
        let mark = if replaces { " replaces it" } else { "" };
        format!("{}{by}{mark}", c.what)
    };
    let causes: Vec<String> = change.causes.iter().map(cause).collect();
    Row {
        action: change.action.as_str(),
        resource: clean(&change.logical),
        kind: clean(&change.kind),
        replacement: change.replacement.as_str(),
        why: clean(&causes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cfn::Cause;

    fn unit(name: &str) -> Unit {
        Unit {
            name: name.into(),
            full_name: format!("p-d-{name}"),
            region: "eu-west-1".into(),
            body: String::new(),
            parameters: BTreeMap::new(),
            feeds: Vec::new(),
            needs: Vec::new(),
            capabilities: Vec::new(),
            tags: Vec::new(),
            resources: vec![("Vpc".into(), "AWS::EC2::VPC".into())],
            places: BTreeMap::new(),
            protect: false,
        }
    }

    fn planned(unit: usize, what: What) -> Planned {
        Planned { unit, what, refused: Vec::new(), later: Vec::new() }
    }

    #[test]
    fn a_plan_names_each_resource_what_happens_and_why() {
        let change = Change {
            action: Action::Modify,
            logical: "Subnet".into(),
            kind: "AWS::EC2::Subnet".into(),
            replacement: Replacement::Yes,
            causes: vec![Cause {
                what: "CidrBlock".into(),
                by: "VpcCidr".into(),
                recreation: "Always".into(),
            }],
        };
        let units = [unit("network"), unit("keys"), unit("edge")];
        let plans = [
            planned(0, What::Changes(vec![change])),
            planned(1, What::Nothing),
            Planned { later: vec!["WebAclArn".into()], ..planned(2, What::New) },
        ];
        let lines = lines(&units, &plans);
        assert_eq!(
            lines,
            [
                "p-d-network in eu-west-1: is changed",
                "  change  Subnet  AWS::EC2::Subnet  replaced  CidrBlock (by VpcCidr) replaces it",
                "p-d-edge in eu-west-1: is made",
                "  add  Vpc  AWS::EC2::VPC",
                "  WebAclArn: known after apply",
                "no changes: keys",
                "1 to add, 1 to change (1 replaced), 0 to remove, in 2 of 3 stacks",
            ]
        );
        let nothing = super::lines(&units, &[planned(1, What::Nothing)]);
        assert_eq!(nothing, ["no changes: keys", "nothing to change"]);
    }
}
