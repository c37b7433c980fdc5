//! Packets through small networks.

use super::*;
use crate::{
    net::nodes::Kind,
    trial::{project, rendered},
};

/// Two zones, a public and a private subnet in the first, one without a way out in the second; two hosts
/// and a database. `{...}` are filled in by the tests.
const TEMPLATE: &str = "
Parameters:
  CloudFrontPrefixListId: { Type: String }
Resources:
  Vpc: { Type: AWS::EC2::VPC, Properties: { CidrBlock: 10.0.0.0/16 } }
  Gateway: { Type: AWS::EC2::InternetGateway }
  Attachment: { Type: AWS::EC2::VPCGatewayAttachment, Properties: { VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway } }
  Public: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24, AvailabilityZone: a, MapPublicIpOnLaunch: true } }
  Private: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: a } }
  Data: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24, AvailabilityZone: b } }
  PublicTable: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  PrivateTable: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  ToInternet: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gateway } }
  ToNat: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref PrivateTable, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat } }
  Nat: { Type: AWS::EC2::NatGateway, Properties: { SubnetId: !Ref Public } }
  OfPublic: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Public, RouteTableId: !Ref PublicTable } }
  OfPrivate: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Private, RouteTableId: !Ref PrivateTable } }
  Acl: { Type: AWS::EC2::NetworkAcl, Properties: { VpcId: !Ref Vpc } }
  AclOfData: { Type: AWS::EC2::SubnetNetworkAclAssociation, Properties: { SubnetId: !Ref Data, NetworkAclId: !Ref Acl } }
  AclDeny: { Type: AWS::EC2::NetworkAclEntry, Properties: { NetworkAclId: !Ref Acl, RuleNumber: 10, RuleAction: deny, Egress: false, Protocol: 6, CidrBlock: DENIED, PortRange: { From: 3306, To: 3306 } } }
  AclIn: { Type: AWS::EC2::NetworkAclEntry, Properties: { NetworkAclId: !Ref Acl, RuleNumber: 20, RuleAction: allow, Egress: false, Protocol: 6, CidrBlock: 10.0.0.0/16, PortRange: { From: 0, To: 65535 } } }
  AclOut: { Type: AWS::EC2::NetworkAclEntry, Properties: { NetworkAclId: !Ref Acl, RuleNumber: 20, RuleAction: allow, Egress: true, Protocol: 6, CidrBlock: 10.0.0.0/16, PortRange: { From: ANSWERS, To: 65535 } } }
  AppGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupEgress: [EGRESS] } }
  DbGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 3300, ToPort: 3310, SourceSecurityGroupId: !Ref AppGroup }], SecurityGroupEgress: [{ IpProtocol: '-1', CidrIp: 127.0.0.1/32 }] } }
  WebGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [INGRESS] } }
  App: { Type: AWS::EC2::Instance, Properties: { SubnetId: !Ref Private, SecurityGroupIds: [!Ref AppGroup] } }
  Web: { Type: AWS::EC2::Instance, Properties: { SubnetId: !Ref Public, SecurityGroupIds: [!Ref WebGroup] } }
  Subnets: { Type: AWS::RDS::DBSubnetGroup, Properties: { SubnetIds: [!Ref Data] } }
  Db: { Type: AWS::RDS::DBCluster, Properties: { DBSubnetGroupName: !Ref Subnets, VpcSecurityGroupIds: [!Ref DbGroup] } }
";

const EGRESS: &str = "{ IpProtocol: tcp, FromPort: 3306, ToPort: 3400, CidrIp: 10.0.0.0/16 }";
const INGRESS: &str = "{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }";

struct Case {
    denied: &'static str,
    answers: &'static str,
    egress: &'static str,
    ingress: &'static str,
    edit: (&'static str, &'static str),
}

const PLAIN: Case = Case {
    denied: "10.9.0.0/16",
    answers: "1024",
    egress: EGRESS,
    ingress: INGRESS,
    edit: ("", ""),
};

fn network(case: &Case) -> Network {
    let template = TEMPLATE
        .replace("DENIED", case.denied)
        .replace("ANSWERS", case.answers)
        .replace("EGRESS", case.egress)
        .replace("INGRESS", case.ingress);
    assert!(template.contains(case.edit.0), "{}", case.edit.0);
    let template = template.replace(case.edit.0, case.edit.1);
    let files = [
        ("stacks.yaml", "stacks: [{ name: t, template: t.yaml }]"),
        ("templates/t.yaml", template.as_str()),
    ];
    let dir = project(&files, "{ CloudFrontPrefixListId: pl-0123456789abcdef0 }");
    Network::of(&rendered(dir.path()).1)
}

fn node(net: &Network, name: &str) -> End {
    End::Node(net.nodes.iter().position(|n| n.name == format!("t.{name}")).unwrap())
}

fn ports(net: &Network, from: End, to: End, mode: Mode) -> String {
    flow(net, from, to, Protocol::TCP, &Ranges::all_ports(), mode).ports.to_string()
}

fn app_to_db(case: &Case, mode: Mode) -> String {
    let net = network(case);
    ports(&net, node(&net, "App"), node(&net, "Db"), mode)
}

#[test]
fn both_groups_and_the_acl_must_let_a_port_through() {
    assert_eq!(app_to_db(&PLAIN, Mode::May), "3306-3310");
    assert_eq!(app_to_db(&PLAIN, Mode::Must), "3306-3310");
    let net = network(&PLAIN);
    assert_eq!(ports(&net, node(&net, "Web"), node(&net, "Db"), Mode::May), "no port");
    assert_eq!(ports(&net, node(&net, "Db"), node(&net, "App"), Mode::May), "no port");
}

#[test]
fn what_holds_for_half_of_a_subnet_may_be_but_must_not() {
    // The ACL's first entry decides, so half of the clients are kept out.
    let case = Case { denied: "10.0.1.128/25", ..PLAIN };
    assert_eq!(app_to_db(&case, Mode::May), "3306-3310");
    assert_eq!(app_to_db(&case, Mode::Must), "3307-3310");
    // Two halves are a whole.
    let halves = "{ IpProtocol: tcp, FromPort: 3306, ToPort: 3306, CidrIp: 10.0.2.0/25 }, \
                  { IpProtocol: tcp, FromPort: 3306, ToPort: 3306, CidrIp: 10.0.2.128/25 }";
    assert_eq!(app_to_db(&Case { egress: halves, ..PLAIN }, Mode::Must), "3306");
}

#[test]
fn answers_need_their_own_entry() {
    let case = Case { answers: "32768", ..PLAIN };
    assert_eq!(app_to_db(&case, Mode::May), "3306-3310");
    assert_eq!(app_to_db(&case, Mode::Must), "no port");
    let none = Case {
        edit: (
            "RuleNumber: 20, RuleAction: allow, Egress: true",
            "RuleNumber: 20, RuleAction: deny, Egress: true",
        ),
        ..PLAIN
    };
    assert_eq!(app_to_db(&none, Mode::May), "no port");
}

#[test]
fn a_group_without_egress_lets_everything_out() {
    assert_eq!(app_to_db(&Case { egress: "", ..PLAIN }, Mode::Must), "3300-3310");
}

#[test]
fn the_internet_needs_a_rule_a_public_address_a_route_and_a_gateway() {
    let web = |case: &Case| {
        let net = network(case);
        let flow = flow(
            &net,
            End::Internet,
            node(&net, "Web"),
            Protocol::TCP,
            &Ranges::all_ports(),
            Mode::May,
        );
        (flow.ports.to_string(), flow.stopped.map(|s| s.0).unwrap_or_default())
    };
    assert_eq!(web(&PLAIN).0, "443");
    for (edit, why) in [
        (("MapPublicIpOnLaunch: true", "MapPublicIpOnLaunch: false"), "has no public address"),
        (
            ("SubnetId: !Ref Public, RouteTableId", "SubnetId: !Ref Data, RouteTableId"),
            "has none to an internet gateway",
        ),
        (("InternetGatewayId: !Ref Gateway", "VpnGatewayId: vgw-1"), "that is attached"),
        (("CidrIp: 0.0.0.0/0 }]", "CidrIp: 10.0.0.0/8 }]"), "no ingress rule of t.WebGroup"),
    ] {
        let (ports, stopped) = web(&Case { edit, ..PLAIN });
        assert_eq!(ports, "no port", "{edit:?}");
        assert!(stopped.contains(why), "{stopped}");
    }
    let net = network(&PLAIN);
    assert_eq!(ports(&net, End::Internet, node(&net, "App"), Mode::May), "no port");
}

#[test]
fn nat_leads_out_and_not_in() {
    let out = "{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }";
    let net = network(&Case { egress: out, ..PLAIN });
    assert_eq!(ports(&net, node(&net, "App"), End::Internet, Mode::Must), "443");
    assert_eq!(ports(&net, node(&net, "Db"), End::Internet, Mode::May), "no port");
    let lost = Case {
        egress: out,
        edit: ("InternetGatewayId: !Ref Gateway", "VpnGatewayId: vgw-1"),
        ..PLAIN
    };
    let net = network(&lost);
    assert_eq!(ports(&net, node(&net, "App"), End::Internet, Mode::May), "no port");
}

#[test]
fn cloudfronts_list_admits_cloudfront_and_nobody_else() {
    let listed = "{ IpProtocol: tcp, FromPort: 443, ToPort: 443, SourcePrefixListId: !Ref CloudFrontPrefixListId }";
    let net = network(&Case { ingress: listed, ..PLAIN });
    assert_eq!(ports(&net, End::Internet, node(&net, "Web"), Mode::May), "no port");
    assert_eq!(ports(&net, End::CloudFront, node(&net, "Web"), Mode::May), "443");
    let other =
        "{ IpProtocol: tcp, FromPort: 443, ToPort: 443, SourcePrefixListId: pl-00000000000000000 }";
    let net = network(&Case { ingress: other, ..PLAIN });
    assert_eq!(ports(&net, End::Internet, node(&net, "Web"), Mode::May), "443");
    assert_eq!(ports(&net, End::Internet, node(&net, "Web"), Mode::Must), "no port");
}

#[test]
fn a_rule_that_cannot_be_read_lets_through() {
    let net = network(&Case {
        ingress: "{ IpProtocol: tcp, FromPort: x, ToPort: 1, CidrIp: y }",
        ..PLAIN
    });
    assert_eq!(ports(&net, End::Internet, node(&net, "Web"), Mode::May), "any port");
}

#[test]
fn a_stranger_with_subnets_and_groups_is_a_node() {
    let edit = (
        "  Db: {",
        "  Stranger: { Type: AWS::EFS::MountTarget, Properties: { SubnetId: !Ref Private, SecurityGroups: [!Ref AppGroup] } }\n  Db: {",
    );
    let net = network(&Case { edit, ..PLAIN });
    assert_eq!(net.of_kind(Kind::Other).count(), 1);
    assert_eq!(ports(&net, node(&net, "Stranger"), node(&net, "Db"), Mode::May), "3306-3310");
}

#[test]
fn every_packet_of_small_sets_agrees_with_its_set() {
    // Each source address and port by itself against the answer for the whole subnet.
    let net = network(&Case { denied: "10.0.1.128/25", ..PLAIN });
    let acl = &net.acls.all[0];
    for port in [3305_u128, 3306, 3307] {
        let piece = Ranges::one(port);
        let first = u128::from(u32::from_be_bytes([10, 0, 1, 0]));
        let all = Ranges::of(first, first + 255);
        let set = acl.lets(false, Protocol::TCP, &piece, crate::net::addresses::Family::V4, &all);
        for address in first..first + 256 {
            let one = acl.lets(
                false,
                Protocol::TCP,
                &piece,
                crate::net::addresses::Family::V4,
                &Ranges::one(address),
            );
            assert_eq!(!one.is_empty(), set.has(address), "{address} {port}");
            assert_eq!(!one.is_empty(), port != 3306 || address - first < 128);
        }
    }
}
