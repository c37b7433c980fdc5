//! L03: what goes wrong is heard of. The set of alarms that must be there follows from what is there.

use std::collections::HashSet;

use super::{Facts, How, Report, Rule};
use crate::{
    estate::{Estate, Place, Resource},
    policy::statements,
    value::Value,
};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "L03",
        title: "Every alarm tells when it begins and when it ends and what silence means; whatever must \
                be heard of has an alarm; topics are encrypted and closed",
        pci: &["10.4.1", "10.4.1.1", "10.7.2", "10.7.3", "11.5.1", "12.10.5"],
        how: How::Check(alarms),
    }]
}

/// The namespace of the agent's metrics.
const AGENT: &str = "Palisade";

/// All metrics of the agent, as `docs/metrics.md` has them: an alarm on another name would never ring.
const AGENT_METRICS: &[&str] = &[
    "AccessGrantsLive",
    "AccessRefusedTotal",
    "AgentUp",
    "FirewallDriftTotal",
    "FirewallDroppedTotal",
    "FirewallFeedAgeSeconds",
    "FirewallHeldChanges",
    "FirewallInForce",
    "FirewallRanges",
    "HostCpuPercent",
    "HostDiskUsedPercent",
    "HostLoad1",
    "HostMemoryUsedPercent",
    "HostNetworkReceiveBytesTotal",
    "HostNetworkTransmitBytesTotal",
    "HostPressureCpuPercent",
    "HostPressureIoPercent",
    "HostPressureMemoryPercent",
    "LogsBacklogBytes",
    "LogsDeadLetteredTotal",
    "LogsDroppedTotal",
    "LogsLagSeconds",
    "OriginSecretAgeSeconds",
    "PatchFailed",
    "PatchListsAgeSeconds",
    "PatchMissing",
    "PatchPendingReboot",
    "ProgramCpuPercent",
    "ProgramFatal",
    "ProgramMemoryBytes",
    "ProgramReady",
    "ProgramRestartsTotal",
    "ProgramRunning",
];

/// Dimensions that the agent sends.
const AGENT_DIMENSIONS: &[&str] = &["AutoScalingGroupName", "InstanceId", "Program", "Source"];

/// What must be heard of: for whom (a type that is there), and by which metrics (any of them) or events.
struct Wanted {
    what: &'static str,
    of: &'static str,
    namespace: &'static str,
    /// Beginnings of names of metrics.
    metrics: &'static [&'static str],
    /// The event source that does as well, and a word of its detail type.
    event: Option<(&'static str, &'static str)>,
}

const fn metric(
    what: &'static str,
    of: &'static str,
    namespace: &'static str,
    metrics: &'static [&'static str],
) -> Wanted {
    Wanted { what, of, namespace, metrics, event: None }
}

const fn event(
    what: &'static str,
    of: &'static str,
    (namespace, metrics): (&'static str, &'static [&'static str]),
    event: (&'static str, &'static str),
) -> Wanted {
    Wanted { what, of, namespace, metrics, event: Some(event) }
}

/// In which the number of those that there must be to want it is another than one.
const AT_LEAST: &[(&str, usize)] = &[("lag of replicas", 2)];

const WANTED: &[Wanted] = &[
    metric("errors at the edge", "AWS::CloudFront::Distribution", "AWS/CloudFront", &["5xx"]),
    metric(
        "errors of the load balancer",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS/ApplicationELB",
        &["HTTPCode_ELB_5XX", "HTTPCode_Target_5XX"],
    ),
    metric(
        "unhealthy hosts",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS/ApplicationELB",
        &["UnHealthyHostCount", "HealthyHostCount"],
    ),
    metric("the database's load", "AWS::RDS::DBCluster", "AWS/RDS", &["CPUUtilization"]),
    metric("the database's memory", "AWS::RDS::DBCluster", "AWS/RDS", &["FreeableMemory"]),
    metric(
        "the database's connections",
        "AWS::RDS::DBCluster",
        "AWS/RDS",
        &["DatabaseConnections"],
    ),
    metric("lag of replicas", "AWS::RDS::DBInstance", "AWS/RDS", &["AuroraReplicaLag"]),
    metric(
        "the cache's memory",
        "AWS::ElastiCache::ReplicationGroup",
        "AWS/ElastiCache",
        &["DatabaseMemoryUsagePercentage"],
    ),
    metric("full disks", "AWS::AutoScaling::AutoScalingGroup", AGENT, &["HostDiskUsedPercent"]),
    metric("silence of the agent", "AWS::AutoScaling::AutoScalingGroup", AGENT, &["AgentUp"]),
    metric("requests that are blocked", "AWS::WAFv2::WebACL", "AWS/WAFV2", &["BlockedRequests"]),
    event(
        "backups that fail",
        "AWS::Backup::BackupPlan",
        ("AWS/Backup", &["NumberOfBackupJobsFailed"]),
        ("aws.backup", "Backup Job"),
    ),
    event(
        "certificates that expire",
        "AWS::CertificateManager::Certificate",
        ("AWS/CertificateManager", &["DaysToExpiry"]),
        ("aws.acm", "Expir"),
    ),
    event("findings of threats", "AWS::GuardDuty::Detector", ("", &[]), ("aws.guardduty", "")),
    event(
        "use of the account's root",
        "AWS::CloudTrail::Trail",
        ("", &["RootUse", "RootAccount", "Root"]),
        ("aws.signin", "Sign"),
    ),
];

fn alarms(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut watched = Vec::new();
    for (place, alarm) in estate.all() {
        let composite = alarm.kind == "AWS::CloudWatch::CompositeAlarm";
        if !composite && alarm.kind != "AWS::CloudWatch::Alarm" {
            continue;
        }
        one_alarm(facts, report, place, alarm, composite);
        if !composite {
            let all = metrics(alarm);
            agent(facts, report, place, &all);
            if all.iter().any(|m| m.namespace == AGENT && m.name == "AgentUp")
                && alarm.str("TreatMissingData") != Some("breaching")
            {
                let what = "takes silence of the agent for health";
                report.add(facts, place, "TreatMissingData", what);
            }
            watched.extend(all);
        }
    }
    wanted(facts, report, &watched);
    topics(facts, report);
}

fn one_alarm(
    facts: &Facts<'_>,
    report: &mut Report,
    place: Place,
    alarm: &Resource,
    composite: bool,
) {
    let region = facts.estate.stacks.get(place.stack).map_or("", |s| s.region.as_str());
    for (path, when) in [("AlarmActions", "begins"), ("OKActions", "ends")] {
        let actions = alarm.get(path).map(Value::items).unwrap_or_default();
        let told = actions.iter().filter_map(Value::as_str).any(|arn| {
            let topic = facts.estate.find(arn).is_some_and(|r| r.kind == "AWS::SNS::Topic");
            topic && arn.split(':').nth(3) == Some(region)
        });
        if !told {
            let what = format!("tells no topic of its region when it {when}");
            report.add(facts, place, path, what);
        }
    }
    if alarm.get("ActionsEnabled").and_then(Value::as_bool) == Some(false) {
        report.add(facts, place, "ActionsEnabled", "tells nobody: its actions are switched off");
    }
    const SILENCE: &[&str] = &["breaching", "notBreaching", "ignore", "missing"];
    let silence = alarm.str("TreatMissingData");
    if !composite && !silence.is_some_and(|s| SILENCE.contains(&s)) {
        report.add(facts, place, "TreatMissingData", "does not say what silence means");
    }
}

/// A metric that an alarm looks at.
struct Metric<'a> {
    namespace: &'a str,
    name: &'a str,
    dimensions: Vec<&'a str>,
    /// What it is about: values of dimensions, or the whole query.
    about: Vec<&'a str>,
    path: String,
}

fn metrics(alarm: &Resource) -> Vec<Metric<'_>> {
    let inner = alarm.get("Metrics").map(Value::items).unwrap_or_default();
    let mut all = Vec::new();
    all.extend(metric_of(&alarm.properties, String::new()));
    for (i, part) in inner.iter().enumerate() {
        if let Some(metric) = part.path("MetricStat.Metric") {
            all.extend(metric_of(metric, format!("Metrics.{i}.MetricStat.Metric.")));
        }
        let expression = part.get("Expression").and_then(Value::as_str).unwrap_or_default();
        if let Some((name, namespace)) = selected(expression) {
            let path = format!("Metrics.{i}.Expression");
            let (dimensions, about) = (Vec::new(), vec![expression]);
            all.push(Metric { namespace, name, dimensions, about, path });
        }
    }
    all
}

fn metric_of(value: &Value, before: String) -> Option<Metric<'_>> {
    let name = value.get("MetricName")?.as_str()?;
    let dimensions = value.get("Dimensions").map(Value::items).unwrap_or_default();
    Some(Metric {
        namespace: value.get("Namespace").and_then(Value::as_str).unwrap_or_default(),
        name,
        dimensions: dimensions.iter().filter_map(|d| d.get("Name")?.as_str()).collect(),
        about: dimensions.iter().filter_map(|d| d.get("Value")?.as_str()).collect(),
        path: format!("{before}MetricName"),
    })
}

/// Metric and namespace of a query of Metrics Insights: `SELECT MAX(Name) FROM "Namespace" ...`, or
/// `FROM SCHEMA("Namespace", ...)`.
fn selected(expression: &str) -> Option<(&str, &str)> {
    let query = expression.trim().strip_prefix("SELECT ")?;
    let (call, from) = query.split_once(" FROM ")?;
    let name = call.split_once('(')?.1.trim_end().strip_suffix(')')?;
    let from = from.trim_start().trim_start_matches("SCHEMA(").trim_start();
    let namespace = from.split([',', ')', ' ']).next()?;
    Some((name.trim().trim_matches('"'), namespace.trim_matches('"')))
}

/// An alarm on a metric of the agent looks at one that exists.
fn agent(facts: &Facts<'_>, report: &mut Report, place: Place, all: &[Metric<'_>]) {
    for metric in all.iter().filter(|m| m.namespace == AGENT) {
        if !AGENT_METRICS.contains(&metric.name) {
            let what = format!("waits for {}, which no agent sends", metric.name);
            report.add(facts, place, &metric.path, what);
        }
        for dimension in metric.dimensions.iter().filter(|d| !AGENT_DIMENSIONS.contains(d)) {
            let what = format!("waits for a dimension {dimension}, which no agent sends");
            report.add(facts, place, &metric.path, what);
        }
    }
}

fn wanted(facts: &Facts<'_>, report: &mut Report, watched: &[Metric<'_>]) {
    for want in WANTED {
        let fits: Vec<_> = watched
            .iter()
            .filter(|m| want.namespace.is_empty() || m.namespace == want.namespace)
            .filter(|m| want.metrics.iter().any(|name| m.name.starts_with(name)))
            .collect();
        let by_event = want.event.is_some_and(|(source, word)| told_of(facts.estate, source, word));
        let least = AT_LEAST.iter().find(|(what, _)| *what == want.what).map_or(1, |(_, n)| *n);
        let what = format!("has no alarm: nobody hears of {}", want.what);
        if want.namespace == AGENT {
            // Each group of hosts has its own: one that is silent must not hide behind another.
            for (place, group) in facts.estate.of(want.of) {
                let about = |m: &&Metric<'_>| m.about.iter().any(|text| names(text, &group.id));
                if !fits.iter().any(about) {
                    report.add(facts, place, "", what.clone());
                }
            }
        } else if let Some((place, _)) = facts.estate.of(want.of).nth(least - 1)
            && fits.is_empty()
            && !by_event
        {
            report.add(facts, place, "", what);
        }
    }
}

/// Whether a dimension's value or a query names a group: as a whole, or in quotes.
fn names(text: &str, group: &str) -> bool {
    text == group || text.contains(&format!("'{group}'"))
}

/// Whether a rule hands events of a source to a topic.
fn told_of(estate: &Estate, source: &str, word: &str) -> bool {
    estate.of("AWS::Events::Rule").any(|(_, rule)| {
        let has = |path: &str, fits: &dyn Fn(&str) -> bool| {
            let values = rule.get("EventPattern").and_then(|p| p.get(path));
            values.is_some_and(|v| v.items().iter().filter_map(Value::as_str).any(fits))
        };
        let told = rule.get("Targets").map(Value::items).unwrap_or_default().iter().any(|t| {
            let arn = t.get("Arn").and_then(Value::as_str).unwrap_or_default();
            estate.find(arn).is_some_and(|r| r.kind == "AWS::SNS::Topic")
        });
        has("source", &|s| s == source)
            && (word.is_empty() || has("detail-type", &|d| d.contains(word)))
            && told
            && rule.str("State") != Some("DISABLED")
    })
}

/// Topics are encrypted, and services publish for this account only.
fn topics(facts: &Facts<'_>, report: &mut Report) {
    let mut with_policy = HashSet::new();
    for (place, policy) in facts.estate.of("AWS::SNS::TopicPolicy") {
        let topics = policy.get("Topics").map(Value::items).unwrap_or_default();
        with_policy.extend(topics.iter().filter_map(Value::as_str));
        let document = policy.get("PolicyDocument").map(statements).unwrap_or_default();
        for one in document.iter().filter(|s| s.allows) {
            let service = one.principals.iter().find(|(kind, _)| *kind == "Service");
            let whose = ["aws:SourceAccount", "aws:SourceArn", "aws:SourceOwner"];
            let Some((_, service)) = service else { continue };
            if !whose.iter().any(|key| one.condition(key).is_some()) {
                let what = format!("lets {service} publish for any account");
                report.at(one.at, facts.estate.name(place), what);
            }
        }
    }
    for (place, topic) in facts.estate.of("AWS::SNS::Topic") {
        if topic.get("KmsMasterKeyId").is_none() {
            report.add(facts, place, "", "is a topic without a key");
        }
        if !with_policy.contains(topic.id.as_str()) {
            report.add(facts, place, "", "is a topic without a policy that says who may publish");
        }
    }
}

#[cfg(test)]
#[path = "alarms_tests.rs"]
mod tests;
