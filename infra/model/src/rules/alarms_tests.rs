//! What L03 finds in a small template, fault by fault.

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
