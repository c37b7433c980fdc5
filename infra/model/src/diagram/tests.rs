//! Pictures of a small estate.

use super::*;
use crate::trial::{project, rendered};

const TEMPLATE: &str = "
Resources:
  Vpc: { Type: AWS::EC2::VPC, Properties: { CidrBlock: 10.0.0.0/16 } }
  A: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: eu-west-1a } }
  App: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 6379, ToPort: 6379, DestinationSecurityGroupId: !Ref Store }] } }
  Store: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupEgress: [{ IpProtocol: '-1', CidrIp: 127.0.0.1/32 }] } }
  In: { Type: AWS::EC2::SecurityGroupIngress, Properties: { GroupId: !Ref Store, IpProtocol: tcp, FromPort: 6000, ToPort: 7000, SourceSecurityGroupId: !Ref App } }
  Host: { Type: AWS::EC2::Instance, Properties: { SubnetId: !Ref A, SecurityGroupIds: [!Ref App] } }
  Cache: { Type: AWS::ElastiCache::ServerlessCache, Properties: { SubnetIds: [!Ref A], SecurityGroupIds: [!Ref Store] } }
";

fn drawn(template: &str, format: Format) -> String {
    let files = [
        ("stacks.yaml", "stacks: [{ name: t, template: t.yaml }]"),
        ("templates/t.yaml", template),
    ];
    let dir = project(&files, "{}");
    diagram(&rendered(dir.path()).1, format)
}

#[test]
fn an_arrow_has_the_ports_that_get_through() {
    let chart = drawn(TEMPLATE, Format::Mermaid);
    assert!(chart.contains("tHost -->|\"tcp 6379\"| tCache\n"), "{chart}");
    assert!(chart.contains("Data tier, no way out: a 10.0.1.0/24"), "{chart}");
    assert_eq!(chart.matches("-->").count(), 1, "{chart}");
}

#[test]
fn what_is_not_proved_is_not_drawn() {
    let without = TEMPLATE.replace("FromPort: 6000", "FromPort: 6380");
    assert!(!drawn(&without, Format::Mermaid).contains("-->"));
    assert!(drawn(TEMPLATE, Format::Svg).contains("marker-end"));
    assert!(!drawn(&without, Format::Svg).contains("marker-end"));
}

#[test]
fn the_table_names_every_rule_and_its_line() {
    let table = drawn(TEMPLATE, Format::Groups);
    assert!(
        table.contains("| t.Store | t.Cache | t.App | tcp | 6000-7000 | templates/t.yaml:7 |"),
        "{table}"
    );
    assert!(table.contains("| t.App | t.Host | nobody |"), "{table}");
    assert!(table.contains("| t.Store | t.Cache | 127.0.0.1/32 | all | any port |"), "{table}");
}

#[test]
fn two_runs_agree_and_markup_in_names_stays_text() {
    for format in [Format::Mermaid, Format::Svg, Format::Groups] {
        assert_eq!(drawn(TEMPLATE, format), drawn(TEMPLATE, format));
    }
    let svg = drawn(TEMPLATE, Format::Svg);
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert_eq!(svg.matches("<rect").count(), svg.matches("<rect ").count());
}
