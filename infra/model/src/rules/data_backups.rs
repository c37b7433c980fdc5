//! D06: backups. Every store that AWS Backup knows is chosen by a plan, by tag or by ARN; the plan's vault
//! cannot be emptied; and restoring is tried on a schedule. Buckets are not asked for here: they keep every
//! version themselves (D05).

use std::collections::HashMap;

use super::{Facts, Report, data_buckets::literal, edge::nowhere};
use crate::{
    estate::{Place, Resource},
    policy::matches,
    stateful::keeps_data,
    value::Value,
};

/// Types that hold data and that AWS Backup can back up.
const BACKED_UP: &[&str] = &[
    "AWS::DocDB::DBCluster",
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::EC2::Volume",
    "AWS::EFS::FileSystem",
    "AWS::FSx::FileSystem",
    "AWS::Neptune::DBCluster",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::Redshift::Cluster",
];
const PLAN: &str = "AWS::Backup::BackupPlan";
const VAULT: &str = "AWS::Backup::BackupVault";
/// Days for which production's recovery points are kept.
const PRODUCTION_DAYS: i64 = 35;

pub(super) fn covered(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for (place, plan) in facts.estate.of(PLAN) {
        any = true;
        rules(facts, place, plan, report);
    }
    if !any {
        nowhere(facts, report, "nothing backs anything up: there is no plan");
        return;
    }
    stores(facts, report);
    restored(facts, report);
}

fn rules(facts: &Facts<'_>, place: Place, plan: &Resource, report: &mut Report) {
    let list = "BackupPlan.BackupPlanRule";
    let rules = plan.get(list).map(Value::items).unwrap_or_default();
    if rules.is_empty() {
        report.add(facts, place, list, "the plan makes no backup");
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = |part: &str| format!("{list}.{i}.{part}");
        if rule.get("ScheduleExpression").is_none() {
            report.add(facts, place, &path("ScheduleExpression"), "nothing says when");
        }
        let days = rule.path("Lifecycle.DeleteAfterDays").and_then(Value::as_int);
        if facts.estate.is_production() && days.is_some_and(|d| d < PRODUCTION_DAYS) {
            let what = format!("recovery points are deleted before {PRODUCTION_DAYS} days");
            report.add(facts, place, &path("Lifecycle.DeleteAfterDays"), what);
        }
        let name = rule.get("TargetBackupVault").and_then(Value::as_str).unwrap_or_default();
        match facts.estate.find_of(VAULT, name) {
            Some((vault_place, vault)) => locked(facts, vault_place, vault, report),
            None => {
                let what = format!("{name} is no vault of this environment");
                report.add(facts, place, &path("TargetBackupVault"), what);
            }
        }
    }
}

fn locked(facts: &Facts<'_>, place: Place, vault: &Resource, report: &mut Report) {
    let days = vault.get("LockConfiguration.MinRetentionDays").and_then(Value::as_int);
    if facts.estate.is_production() && days.is_none_or(|d| d < 1) {
        let what = "whoever takes over the account empties the vault";
        report.add(facts, place, "LockConfiguration", what);
    }
    let path = "LockConfiguration.ChangeableForDays";
    let said = vault.get(path).and_then(Value::scalar);
    if said.is_some_and(|days| written(facts, place, vault, path, &days)) {
        let what = "the lock can never be taken back, so only a parameter may choose it";
        report.add(facts, place, path, what);
    }
}

fn written(facts: &Facts<'_>, place: Place, vault: &Resource, path: &str, value: &str) -> bool {
    let stack = facts.estate.stacks.get(place.stack);
    let template = stack.and_then(|s| facts.project.templates.get(s.template));
    let source = format!("Resources.{}.Properties.{path}", vault.logical);
    let number = template.and_then(|t| t.root.path(&source)).and_then(Value::scalar);
    number.is_some_and(|n| n == value) || literal(facts, place, vault, path, value)
}

/// A selection of a plan, as the stores are held against it.
struct Selection<'a> {
    resources: Vec<&'a str>,
    not: Vec<&'a str>,
    /// Key and value, one of which must be there.
    tags: Vec<(&'a str, &'a str)>,
    /// Key and value, all of which must be there.
    all: Vec<(&'a str, &'a str)>,
}

impl<'a> Selection<'a> {
    fn new(resource: &'a Resource) -> Self {
        let texts = |path: &str| -> Vec<&'a str> {
            let items = resource.get(path).map(Value::items).unwrap_or_default();
            items.iter().filter_map(Value::as_str).collect()
        };
        let pairs = |path: &str| -> Vec<(&'a str, &'a str)> {
            let items = resource.get(path).map(Value::items).unwrap_or_default();
            let pair = |v: &'a Value| {
                Some((v.get("ConditionKey")?.as_str()?, v.get("ConditionValue")?.as_str()?))
            };
            items.iter().filter_map(pair).collect()
        };
        Self {
            resources: texts("BackupSelection.Resources"),
            not: texts("BackupSelection.NotResources"),
            tags: pairs("BackupSelection.ListOfTags"),
            all: pairs("BackupSelection.Conditions.StringEquals"),
        }
    }

    /// Whether it chooses a resource. Where it names both ARNs and tags, both must fit: what AWS does is
    /// less than clear, and a store must not hang on it.
    fn takes(&self, arn: &str, resource: &Resource) -> bool {
        let fits = |list: &[&str]| list.iter().any(|p| matches(p, arn));
        let named = self.resources.is_empty() || fits(&self.resources);
        let tagged = self.tags.is_empty() || self.tags.iter().any(|(k, v)| has(resource, k, v));
        let all = self
            .all
            .iter()
            .all(|(k, v)| has(resource, k.strip_prefix("aws:ResourceTag/").unwrap_or(k), v));
        let something = !(self.resources.is_empty() && self.tags.is_empty());
        something && named && tagged && all && !fits(&self.not)
    }
}

/// Whether a resource has a tag.
fn has(resource: &Resource, key: &str, value: &str) -> bool {
    let Some(tags) = resource.get("Tags") else { return false };
    let listed = tags.items().iter().any(|t| {
        t.get("Key").is_some_and(|k| k.is(key)) && t.get("Value").is_some_and(|v| v.is(value))
    });
    listed || tags.get(key).is_some_and(|v| v.is(value))
}

fn stores(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut selections = Vec::new();
    for (place, selection) in estate.of("AWS::Backup::BackupSelection") {
        let plan = selection.str("BackupPlanId").and_then(|id| estate.find_of(PLAN, id));
        if plan.is_none() {
            let what = "it chooses for no plan of this environment";
            report.add(facts, place, "BackupPlanId", what);
            continue;
        }
        let role = "BackupSelection.IamRoleArn";
        if selection.str(role).is_none() {
            report.add(facts, place, role, "no role lets the service do it");
        }
        let region = estate.stacks.get(place.stack).map(|s| s.region.as_str());
        selections.push((region, Selection::new(selection)));
    }
    // Of all ARNs that lead to a store (its secret's is one) its own ends with its id.
    let own =
        |place: &Place, id: &str| estate.resource(*place).is_some_and(|r| id.ends_with(&r.id));
    let arns: HashMap<Place, &str> = estate
        .owners
        .iter()
        .filter(|(id, place)| id.starts_with("arn:") && own(place, id))
        .map(|(id, place)| (*place, id.as_str()))
        .collect();
    for (place, store) in estate.all() {
        if !BACKED_UP.contains(&store.kind.as_str()) || !keeps_data(store) {
            continue;
        }
        let region = estate.stacks.get(place.stack).map(|s| s.region.as_str());
        let arn = arns.get(&place).copied().unwrap_or_default();
        if !selections.iter().any(|(r, s)| *r == region && s.takes(arn, store)) {
            report.add(facts, place, "Tags", "no backup plan of its region chooses it");
        }
    }
}

/// Whether a restore is tried, of what the plan keeps.
fn restored(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for (place, plan) in facts.estate.of("AWS::Backup::RestoreTestingPlan") {
        any = true;
        let vaults = "RecoveryPointSelection.IncludeVaults";
        let included = plan.get(vaults).map(Value::items).unwrap_or_default();
        let known = included
            .iter()
            .filter_map(Value::as_str)
            .any(|v| v == "*" || facts.estate.find_of(VAULT, v).is_some());
        if !known {
            report.add(facts, place, vaults, "it tries nothing of a vault of this environment");
        }
        let name = plan.str("RestoreTestingPlanName").unwrap_or_default();
        let selected = facts.estate.of("AWS::Backup::RestoreTestingSelection").any(|(_, s)| {
            s.str("RestoreTestingPlanName").is_some_and(|n| n == name || n == plan.id)
        });
        if !selected {
            report.add(facts, place, "", "it chooses nothing to restore");
        }
    }
    if !any {
        nowhere(facts, report, "nobody tries whether backups can be restored");
    }
}
