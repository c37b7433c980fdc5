//! The rules that an environment must keep, safety and liveness both. A rule is a pure function over what
//! was rendered; it names the lines that break it. See docs of each file for what its rules mean.

mod access;
mod admit;
mod alarms;
mod audit;
mod compute;
mod data;
mod data_backups;
mod data_buckets;
mod data_keeping;
mod data_key_users;
mod data_keys;
mod data_secrets;
mod data_stores;
mod deploy_role;
mod edge;
mod edge_behaviours;
mod edge_firewall;
mod edge_origins;
mod edge_places;
mod engineering;
mod grants;
mod iam;
mod names;
mod reach;
mod reach_access;
mod reach_data;
mod reach_live;
mod reach_origin;
mod reach_plan;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod small;
#[cfg(test)]
mod testing;
mod trust;
mod windows;

use crate::{
    estate::{Estate, Place, Resource},
    finding::Finding,
    net::Network,
    project::Project,
    value::At,
};

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `R03`.
    pub id: &'static str,
    /// What must hold, in one sentence.
    pub title: &'static str,
    /// Requirements of PCI DSS 4.0 that it serves, `1.3.1`.
    pub pci: &'static [&'static str],
    /// How it is held.
    pub how: How,
}

/// How a rule is held.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Looked at by `palisade-infra check`.
    Check(fn(&Facts<'_>, &mut Report)),
    /// Proved by a test that needs more than the templates: its file and its name.
    Test(&'static str),
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The sources.
    pub project: &'a Project,
    /// The environment, rendered.
    pub estate: &'a Estate,
    /// Its network.
    pub net: &'a Network,
}

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rule: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    /// A resource that breaks the rule, at the line of a property, or of the resource if it has none
    /// such. The finding, so that a witness can be added.
    pub fn add(
        &mut self,
        facts: &Facts<'_>,
        place: Place,
        path: &str,
        what: impl Into<String>,
    ) -> &mut Finding {
        let resource = facts.estate.resource(place);
        let at =
            resource.map_or_else(|| At::new(&"?".into(), 0), |r: &Resource| r.at(path).clone());
        self.at(&at, facts.estate.name(place), what)
    }

    /// Anything else that breaks it.
    pub fn at(
        &mut self,
        at: &At,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> &mut Finding {
        let finding = Finding {
            rule: self.rule,
            at: at.clone(),
            subject: subject.into(),
            what: what.into(),
            witness: Vec::new(),
        };
        let last = self.findings.len();
        self.findings.push(finding);
        // Just pushed.
        &mut self.findings[last]
    }
}

/// All rules, in the order of their ids' groups.
#[must_use]
pub fn all() -> Vec<Rule> {
    [
        reach::rules(),
        edge::rules(),
        data::rules(),
        compute::rules(),
        access::rules(),
        windows::rules(),
        iam::rules(),
        trust::rules(),
        deploy_role::rules(),
        audit::rules(),
        alarms::rules(),
        engineering::rules(),
        names::rules(),
    ]
    .concat()
}

/// What an environment breaks, sorted by rule and place.
#[must_use]
pub fn check(project: &Project, estate: &Estate) -> Vec<Finding> {
    findings(&all(), project, estate)
}

/// What an environment breaks of some rules, sorted by rule and place.
pub(crate) fn findings(rules: &[Rule], project: &Project, estate: &Estate) -> Vec<Finding> {
    let facts = Facts { project, estate, net: &Network::of(estate) };
    let mut report = Report::default();
    for rule in rules {
        if let How::Check(check) = rule.how {
            report.rule = rule.id;
            check(&facts, &mut report);
        }
    }
    let mut findings = report.findings;
    findings.sort();
    findings.dedup();
    findings
}
