//! What L03 finds in a small template, fault by fault.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::rules::small::{found, only_these};

const ALARMS: &str = "
Resources:
  T: { Type: AWS::SNS::Topic, Properties: { KmsMasterKeyId: k } }
  P:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [!Ref T]
      PolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { Service: cloudwatch.amazonaws.com }
            Condition: { StringEquals: { aws:SourceAccount: a } }
  G: { Type: AWS::AutoScaling::AutoScalingGroup }
  Up:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmActions: [!Ref T]
      OKActions: [!Ref T]
      TreatMissingData: breaching
      Namespace: Palisade
      MetricName: AgentUp
      Dimensions: [{ Name: AutoScalingGroupName, Value: !Ref G }]
  Disk:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmActions: [!Ref T]
      OKActions: [!Ref T]
      TreatMissingData: missing
      Metrics:
        - { Id: a, Expression: m }
        - { Id: m, MetricStat: { Metric: { Namespace: Palisade, MetricName: HostDiskUsedPercent, Dimensions: [{ Name: AutoScalingGroupName, Value: !Ref G }] } } }
  D: { Type: AWS::GuardDuty::Detector }
  E:
    Type: AWS::Events::Rule
    Properties: { EventPattern: { source: [aws.guardduty] }, Targets: [{ Arn: !Ref T }] }
";

#[test]
fn alarms_are_held_to_their_rule() {
    only_these(
        rules,
        "L03",
        ALARMS,
        &[
            ("OKActions: [!Ref T]", "OKActions: []", "18 t.Up: tells no topic of its region"),
            ("AlarmActions: [!Ref T]", "X: 1", "t.Up: tells no topic of its region when it b"),
            ("      OK", "      ActionsEnabled: false\n      OK", "switched off"),
            ("TreatMissingData: breaching", "TreatMissingData: ignore", "silence of the agent for"),
            ("      TreatMissingData: missing\n", "", "what silence means"),
            ("Name: AutoScalingGroupName", "Name: Host", "a dimension Host"),
            ("KmsMasterKeyId: k", "TopicName: k", "3 t.T: is a topic without a key"),
            ("Topics: [!Ref T]", "Topics: []", "who may publish"),
            ("aws:SourceAccount", "aws:Other", "for any account"),
            ("aws.guardduty", "aws.health", "nobody hears of findings"),
            ("{ Arn: !Ref T }", "{ Arn: other }", "nobody hears of findings"),
        ],
    );
    let renamed = ALARMS.replace("HostDiskUsedPercent", "HostDiskPercent");
    let said = found(rules(), "L03", &renamed);
    assert!(said.len() == 2 && said[1].contains("HostDiskPercent, which no agent"), "{said:?}");
}

#[test]
fn a_query_names_its_metric() {
    for (query, is) in [
        ("SELECT MAX(A) FROM \"N\" WHERE B = 'c'", Some(("A", "N"))),
        ("SELECT SUM(\"A\") FROM SCHEMA(\"AWS/X\", B)", Some(("A", "AWS/X"))),
        ("m1 / m2", None),
    ] {
        assert_eq!(selected(query), is, "{query}");
    }
    let query = ALARMS.replace(
        "MetricStat: { Metric: { Namespace: Palisade, MetricName: HostDiskUsedPercent, Dimensions: [{ Name: AutoScalingGroupName, Value: !Ref G }] } }",
        "Expression: !Sub \"SELECT MAX(HostDiskUsedPercent) FROM \\\"Palisade\\\" WHERE AutoScalingGroupName = '${G}'\"",
    );
    assert_eq!(found(rules(), "L03", &query), Vec::<String>::new());
    let said = found(rules(), "L03", &query.replace("MAX(HostDisk", "MAX(Disk"));
    assert!(said.iter().any(|s| s.contains("which no agent sends")), "{said:?}");
}

#[test]
fn whatever_is_there_must_be_heard_of() {
    let mut all: Vec<_> = WANTED.iter().map(|w| w.of).collect();
    all.sort_unstable();
    all.dedup();
    // The database has a reader too.
    all.push("AWS::RDS::DBInstance");
    let template: String =
        all.iter().enumerate().map(|(i, kind)| format!("  R{i}: {{ Type: {kind} }}\n")).collect();
    let said = found(rules(), "L03", &format!("Resources:\n{template}"));
    assert_eq!(said.len(), WANTED.len(), "{said:#?}");
}

/// Metrics of the agent by its page, which is made of its own table, and the dimension that each has
/// beside the host's.
fn page() -> BTreeMap<String, Option<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|l| l.starts_with("| `") && l.contains("| `palisade_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
        (quoted(cells[1]).unwrap(), quoted(cells[5]))
    };
    rows.map(row).collect()
}

#[test]
fn the_metrics_of_the_agent_are_those_that_it_sends() {
    let page = page();
    assert_eq!(page.keys().map(String::as_str).collect::<Vec<_>>(), AGENT_METRICS);
    let mut dimensions: BTreeSet<&str> = page.values().flatten().map(String::as_str).collect();
    dimensions.extend(["AutoScalingGroupName", "InstanceId"]);
    assert_eq!(dimensions.into_iter().collect::<Vec<_>>(), AGENT_DIMENSIONS);
}

/// Also what no rule reads: dashboards, and conditions of queries.
#[test]
fn whatever_templates_ask_of_the_agent_it_sends_with_the_dimensions_they_name() {
    let page = page();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates");
    let query = regex::Regex::new(r#"SELECT \w+\((\w+)\) FROM "Palisade" WHERE (\w+) = "#).unwrap();
    let search = r#"SEARCH\('Namespace=\\"Palisade\\" MetricName=\(([^)]*)\)'"#;
    let search = regex::Regex::new(search).unwrap();
    let (mut queries, mut searches, mut places) = (0, 0, 0);
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // Each place in which the namespace is asked is one that is understood here.
        places += text.matches(r#"FROM "Palisade""#).count();
        places += text.matches(r#"Namespace=\"Palisade\""#).count();
        for found in query.captures_iter(&text) {
            let (name, dimension) = (&found[1], &found[2]);
            assert!(page.contains_key(name), "{}: {name}", path.display());
            let of_all = ["InstanceId", "AutoScalingGroupName"].contains(&dimension);
            let own = page[name].as_deref() == Some(dimension);
            assert!(of_all || own, "{}: {name} of {dimension}", path.display());
            queries += 1;
        }
        for found in search.captures_iter(&text) {
            for name in found[1].split(" OR ").map(|n| n.trim_matches(['\\', '"'])) {
                assert!(page.contains_key(name), "{}: {name}", path.display());
            }
            searches += 1;
        }
    }
    assert!(queries >= 20 && searches >= 3, "{queries} queries, {searches} searches");
    assert_eq!(queries + searches, places);
}
