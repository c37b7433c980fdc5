//! L01, L02: what happens leaves a trace that lasts, and nobody who is watched can wipe it.

use std::collections::HashSet;

use super::{Facts, How, Report, Rule};
use crate::{
    estate::{Place, Resource},
    value::Value,
};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            id: "L01",
            title: "Every network records all its flows; log groups are encrypted and, in production, \
                    kept for a year",
            pci: &["10.2.1", "10.3.1", "10.3.2", "10.5.1"],
            how: How::Check(logs),
        },
        Rule {
            id: "L02",
            title: "One trail records all regions, validated and encrypted, into a bucket whose objects \
                    are locked; threats, changes and access from outside are watched for",
            pci: &["10.2.1", "10.3.2", "10.3.4", "10.4.1.1", "11.5.1", "11.5.2"],
            how: How::Check(trail),
        },
    ]
}

/// Requirement 10.5.1: twelve months.
const YEAR: i64 = 365;

fn logs(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut recorded = HashSet::new();
    for (place, flow) in estate.of("AWS::EC2::FlowLog") {
        if flow.str("TrafficType") != Some("ALL") {
            report.add(facts, place, "TrafficType", "does not record all flows");
        }
        let known = |path: &str| flow.str(path).is_some_and(|id| estate.find(id).is_some());
        if !["LogGroupName", "LogDestination"].into_iter().any(known) {
            report.add(facts, place, "", "records flows where the environment has nothing");
        }
        recorded.extend(flow.str("ResourceId"));
    }
    for (place, vpc) in estate.of("AWS::EC2::VPC") {
        if !recorded.contains(vpc.id.as_str()) {
            report.add(facts, place, "", "is a network whose flows nobody records");
        }
    }
    let mut groups = HashSet::new();
    for (place, group) in estate.of("AWS::Logs::LogGroup") {
        groups.insert(group.id.as_str());
        if group.get("KmsKeyId").is_none() {
            report.add(facts, place, "", "is a log group without a key of ours");
        }
        match group.get("RetentionInDays").map(Value::as_int) {
            None => {
                report.add(facts, place, "", "keeps logs for ever: no RetentionInDays");
            }
            Some(days) if estate.is_production() && days.is_none_or(|d| d < YEAR) => {
                let what = format!("keeps logs of production for less than {YEAR} days");
                report.add(facts, place, "RetentionInDays", what);
            }
            Some(_) => {}
        }
    }
    for (place, function) in estate.of("AWS::Lambda::Function") {
        // A function without a group gets one of its own, without a key and for ever.
        let own = format!("/aws/lambda/{}", function.id);
        let group = function.str("LoggingConfig.LogGroup").unwrap_or(&own);
        if !groups.contains(group) {
            let what = format!("logs to {group}, which is no group of the environment");
            report.add(facts, place, "LoggingConfig.LogGroup", what);
        }
    }
}

fn trail(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut any = false;
    for (place, trail) in estate.of("AWS::CloudTrail::Trail") {
        any = true;
        for (path, what) in [
            ("IsMultiRegionTrail", "records one region only"),
            ("EnableLogFileValidation", "cannot prove that its files are whole"),
            ("IsLogging", "is switched off"),
            ("IncludeGlobalServiceEvents", "does not record IAM and CloudFront"),
        ] {
            // This one is on unless it is switched off in a trail of all regions.
            let default = path == "IncludeGlobalServiceEvents" && trail.get(path).is_none();
            if !trail.yes(path) && !default {
                report.add(facts, place, path, what);
            }
        }
        if trail.get("KMSKeyId").is_none() {
            report.add(facts, place, "", "is encrypted with no key of ours");
        }
        bucket(facts, report, place, trail);
    }
    // Singletons of an account: an environment that leaves them to others says so.
    let Some(baseline) = estate.parameters.get("AuditBaseline") else {
        if let Some(first) = facts.project.stacks.first() {
            let what = "AuditBaseline says neither true nor false: who records what happens?";
            report.at(&first.at, "audit", what);
        }
        return;
    };
    if baseline.as_bool() != Some(true) {
        return;
    }
    let there = |kind: &str| estate.of(kind).next().is_some();
    for (there, what) in [
        (any, "no trail is there"),
        (there("AWS::Config::ConfigurationRecorder"), "no recorder of configurations is there"),
        (there("AWS::AccessAnalyzer::Analyzer"), "no analyzer of access from outside is there"),
        (
            estate.of("AWS::GuardDuty::Detector").any(|(_, d)| d.yes("Enable")),
            "no detector of threats is there and on",
        ),
    ] {
        if !there {
            report.at(&baseline.at, "AuditBaseline", what);
        }
    }
}

/// The trail's bucket is one of ours, and what is in it cannot be changed.
fn bucket(facts: &Facts<'_>, report: &mut Report, place: Place, trail: &Resource) {
    let name = trail.str("S3BucketName").unwrap_or_default();
    let bucket = facts.estate.find_of("AWS::S3::Bucket", name).map(|(_, bucket)| bucket);
    let locked = bucket.is_some_and(|b| {
        let rule = "ObjectLockConfiguration.Rule.DefaultRetention";
        b.yes("ObjectLockEnabled")
            && b.get("ObjectLockConfiguration").is_some_and(|c| c.get("Rule").is_some())
            && ["Days", "Years"].iter().any(|p| b.get(&format!("{rule}.{p}")).is_some())
    });
    if bucket.is_none() {
        let what = format!("is written to {name}, which is no bucket of the environment");
        report.add(facts, place, "S3BucketName", what);
    } else if !locked {
        let what = "is written to a bucket whose objects can be changed: no object lock by default";
        report.add(facts, place, "S3BucketName", what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    const LOGS: &str = "
Resources:
  V: { Type: AWS::EC2::VPC }
  G: { Type: AWS::Logs::LogGroup, Properties: { KmsKeyId: k, RetentionInDays: 400 } }
  F:
    Type: AWS::EC2::FlowLog
    Properties: { ResourceId: !Ref V, TrafficType: ALL, LogGroupName: !Ref G }
  L:
    Type: AWS::Lambda::Function
    Properties: { LoggingConfig: { LogGroup: !Ref G } }
";

    #[test]
    fn logs_are_held_to_their_rule() {
        only_these(
            rules,
            "L01",
            LOGS,
            &[
                ("TrafficType: ALL", "TrafficType: REJECT", "7 t.F: does not record all"),
                ("ResourceId: !Ref V", "ResourceId: vpc-0", "3 t.V: is a network whose"),
                ("LogGroupName: !Ref G", "LogGroupName: other", "has nothing"),
                ("KmsKeyId: k, ", "", "t.G: is a log group without a key"),
                ("RetentionInDays: 400", "LogGroupClass: a", "for ever"),
                ("RetentionInDays: 400", "RetentionInDays: 90", "less than 365"),
                ("LogGroup: !Ref G }", "LogFormat: JSON }", "t.L: logs to /aws/lambda/"),
            ],
        );
        let dev = format!("#= Production: false\n{}", LOGS.replace("400", "30"));
        assert_eq!(found(rules(), "L01", &dev), Vec::<String>::new());
    }

    const TRAIL: &str = "
Resources:
  B:
    Type: AWS::S3::Bucket
    Properties:
      ObjectLockEnabled: true
      ObjectLockConfiguration: { Rule: { DefaultRetention: { Mode: GOVERNANCE, Days: 365 } } }
  T:
    Type: AWS::CloudTrail::Trail
    Properties:
      { IsMultiRegionTrail: true, EnableLogFileValidation: true, IsLogging: true, KMSKeyId: k, S3BucketName: !Ref B }
  C: { Type: AWS::Config::ConfigurationRecorder }
  A: { Type: AWS::AccessAnalyzer::Analyzer }
  D: { Type: AWS::GuardDuty::Detector, Properties: { Enable: true } }
";

    #[test]
    fn the_trail_is_held_to_its_rule() {
        only_these(
            rules,
            "L02",
            TRAIL,
            &[
                ("MultiRegionTrail: true", "MultiRegionTrail: false", "11 t.T: records one region"),
                ("EnableLogFileValidation: true, ", "", "t.T: cannot prove"),
                ("IsLogging: true", "IsLogging: false", "switched off"),
                ("KMSKeyId: k, ", "", "no key of ours"),
                ("Name: !Ref B", "Name: other", "no bucket of the environment"),
                ("Days: 365", "", "can be changed"),
                ("ObjectLockEnabled: true", "ObjectLockEnabled: false", "can be changed"),
                ("{ Enable: true }", "{ Enable: false }", "no detector"),
                ("AWS::Config::ConfigurationRecorder", "AWS::SNS::Topic", "no recorder"),
            ],
        );
        let none = "Resources: {}\n";
        assert_eq!(found(rules(), "L02", none).len(), 4);
        assert!(found(rules(), "L02", &format!("#= AuditBaseline: false\n{none}")).is_empty());
    }
}
