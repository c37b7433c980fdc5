//! E01 and E02: a web firewall before every distribution, and what it must block. A group that only
//! counts blocks nothing; a group that looks at a part of the requests leaves the rest; a rule that
//! allows lets a request past all that come behind it.

use super::{
    Facts, Report,
    edge::{distributions, nowhere},
};
use crate::{
    estate::{Place, Resource},
    value::Value,
};

const ACL: &str = "AWS::WAFv2::WebACL";
/// AWS's rule groups that every site needs, and what they are against.
const GROUPS: &[(&str, &str)] = &[
    ("AWSManagedRulesCommonRuleSet", "cross-site scripting and other common attacks"),
    ("AWSManagedRulesKnownBadInputsRuleSet", "inputs that are known to be bad"),
    ("AWSManagedRulesSQLiRuleSet", "SQL injection"),
    ("AWSManagedRulesAmazonIpReputationList", "addresses of bad repute"),
];
const BOTS: &str = "AWSManagedRulesBotControlRuleSet";
/// Single rules that may only count: what they find is no attack by itself. Uploads are larger than 8 KiB,
/// and programs that use an API are no browsers.
const MAY_COUNT: &[(&str, &str)] = &[
    ("AWSManagedRulesCommonRuleSet", "SizeRestrictions_BODY"),
    (BOTS, "CategoryHttpLibrary"),
    (BOTS, "SignalNonBrowserUserAgent"),
];
/// The highest limit of requests that still is one.
const MAX_RATE: i64 = 100_000;

pub(super) fn every_distribution_has_one(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for (place, distribution) in distributions(facts.estate) {
        any = true;
        let path = "DistributionConfig.WebACLId";
        let acl = distribution.str(path).unwrap_or_default();
        if acl.is_empty() {
            report.add(facts, place, path, "there is no web firewall before it");
            continue;
        }
        match facts.estate.find(acl) {
            Some(found) if found.kind == ACL && found.str("Scope") == Some("CLOUDFRONT") => {}
            Some(found) if found.kind == ACL => {
                let scope = found.str("Scope").unwrap_or("no");
                let what = format!("its web firewall has {scope} scope, which CloudFront refuses");
                report.add(facts, place, path, what);
            }
            Some(_) | None => {
                let what = format!("{acl} is no web firewall of this environment");
                report.add(facts, place, path, what);
            }
        }
    }
    if !any {
        nowhere(facts, report, "there is no distribution");
    }
}

pub(super) fn it_blocks(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for (place, acl) in facts.estate.of(ACL).filter(|(_, r)| r.str("Scope") == Some("CLOUDFRONT")) {
        any = true;
        one_blocks(facts, place, acl, report);
    }
    // An ACL of another scope that a distribution uses is E01's.
    if !any && facts.estate.of(ACL).next().is_none() {
        nowhere(facts, report, "there is no web firewall for CloudFront");
    }
}

/// What decides about a rule of an ACL.
struct Rule<'a> {
    path: String,
    name: &'a str,
    priority: i64,
    value: &'a Value,
}

impl Rule<'_> {
    fn does(&self, part: &str, action: &str) -> bool {
        self.value.path(part).is_some_and(|a| a.get(action).is_some())
    }

    fn group(&self) -> Option<&Value> {
        self.value.path("Statement.ManagedRuleGroupStatement")
    }
}

fn one_blocks(facts: &Facts<'_>, place: Place, acl: &Resource, report: &mut Report) {
    let items = acl.get("Rules").map(Value::items).unwrap_or_default();
    let mut rules: Vec<Rule<'_>> = items
        .iter()
        .enumerate()
        .map(|(i, value)| Rule {
            path: format!("Rules.{i}"),
            name: value.get("Name").and_then(Value::as_str).unwrap_or_default(),
            priority: value.get("Priority").and_then(Value::as_int).unwrap_or_default(),
            value,
        })
        .collect();
    rules.sort_by_key(|r| r.priority);
    let stack = facts.estate.stacks.get(place.stack);
    let bots = stack.and_then(|s| s.parameters.get("BotControl")).is_some_and(|v| v.is("true"));
    let bots = bots.then_some((BOTS, "bots"));
    let production = facts.estate.is_production();
    for (name, against) in GROUPS.iter().copied().chain(bots) {
        let found = rules
            .iter()
            .position(|r| r.group().and_then(|g| g.get("Name")).is_some_and(|n| n.is(name)));
        let Some((index, rule)) = found.and_then(|i| Some((i, rules.get(i)?))) else {
            report.add(facts, place, "Rules", format!("nothing is against {against}: no {name}"));
            continue;
        };
        if production && !rule.does("OverrideAction", "None") {
            let path = format!("{}.OverrideAction", rule.path);
            let what = format!("{name} only counts: nothing is against {against}");
            report.add(facts, place, &path, what);
        }
        if production && let Some(group) = rule.group() {
            overrides(facts, place, rule, group, report);
        }
        if name != BOTS && rule.group().is_some_and(|g| g.get("ScopeDownStatement").is_some()) {
            let path =
                format!("{}.Statement.ManagedRuleGroupStatement.ScopeDownStatement", rule.path);
            let what = format!("{name} looks at a part of the requests only");
            report.add(facts, place, &path, what);
        }
        for before in rules.iter().take(index).filter(|r| r.does("Action", "Allow")) {
            let path = format!("{}.Action", before.path);
            let what = format!("{} lets requests past {name}, which comes behind it", before.name);
            report.add(facts, place, &path, what);
        }
    }
    rate(facts, place, &rules, report);
}

/// Single rules of a group that no longer block. Each by itself may be little; all of them are the group.
fn overrides(facts: &Facts<'_>, place: Place, rule: &Rule<'_>, group: &Value, report: &mut Report) {
    let within = format!("{}.Statement.ManagedRuleGroupStatement", rule.path);
    let named = group.get("Name").and_then(Value::as_str).unwrap_or_default();
    let overridden = group.get("RuleActionOverrides").map(Value::items).unwrap_or_default();
    for (i, one) in overridden.iter().enumerate() {
        let name = one.get("Name").and_then(Value::as_str).unwrap_or_default();
        let becomes =
            |action: &str| one.path("ActionToUse").is_some_and(|a| a.get(action).is_some());
        let what = if becomes("Allow") {
            format!("what {name} finds is allowed")
        } else if becomes("Count") && !MAY_COUNT.contains(&(named, name)) {
            format!("what {name} finds is only counted, and it is an attack")
        } else {
            continue;
        };
        report.add(facts, place, &format!("{within}.RuleActionOverrides.{i}"), what);
    }
    // The older way to say that a rule counts.
    let excluded = group.get("ExcludedRules").map(Value::items).unwrap_or_default();
    for (i, one) in excluded.iter().enumerate() {
        let name = one.get("Name").and_then(Value::as_str).unwrap_or_default();
        if !MAY_COUNT.contains(&(named, name)) {
            let what = format!("what {name} finds is only counted, and it is an attack");
            report.add(facts, place, &format!("{within}.ExcludedRules.{i}"), what);
        }
    }
}

fn rate(facts: &Facts<'_>, place: Place, rules: &[Rule<'_>], report: &mut Report) {
    let limits = |r: &&Rule<'_>| r.value.path("Statement.RateBasedStatement").is_some();
    let Some(rule) = rules.iter().find(limits) else {
        report.add(facts, place, "Rules", "nothing limits how many requests an address may make");
        return;
    };
    if !rule.does("Action", "Block") {
        let path = format!("{}.Action", rule.path);
        report.add(facts, place, &path, "who makes too many requests is not blocked");
    }
    let path = format!("{}.Statement.RateBasedStatement.Limit", rule.path);
    let limit = rule.value.path("Statement.RateBasedStatement.Limit").and_then(Value::as_int);
    if limit.is_none_or(|l| l > MAX_RATE) {
        let what = format!("more than {MAX_RATE} requests are no limit");
        report.add(facts, place, &path, what);
    }
}
