//! R01 to R16 on one small network that keeps them all, and on what strangers add to it. The project's
//! own templates are in `tests/own_templates.rs`, faults planted in them in `infra/mutations`.

use super::reach::rules;
use crate::trial::{found, found_in, ids};

const PARAMETERS: &str = "{ Production: 'true', AlbExposure: internal, BastionMode: public, SshPort: '2222', CloudFrontPrefixListId: pl-0123456789abcdef0 }";

/// A whole site: CloudFront, a load balancer, a host, a database, a cache, and a bastion in its own stack.
const SITE: &str = "
Parameters:
  Production: { Type: String }
  AlbExposure: { Type: String }
  BastionMode: { Type: String }
  SshPort: { Type: Number }
  CloudFrontPrefixListId: { Type: String }
Resources:
  Vpc: { Type: AWS::EC2::VPC, Properties: { CidrBlock: 10.0.0.0/16 } }
  Empty: { Type: Custom::Empty, Properties: { ServiceToken: x, Group: !GetAtt Vpc.DefaultSecurityGroup } }
  Gateway: { Type: AWS::EC2::InternetGateway }
  Attachment: { Type: AWS::EC2::VPCGatewayAttachment, Properties: { VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway } }
  Public: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24, AvailabilityZone: a } }
  Public2: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: b } }
  Private: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24, AvailabilityZone: a } }
  Private2: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.3.0/24, AvailabilityZone: b } }
  Data: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.4.0/24, AvailabilityZone: a } }
  Data2: { Type: AWS::EC2::Subnet, Properties: { VpcId: !Ref Vpc, CidrBlock: 10.0.5.0/24, AvailabilityZone: b } }
  PublicTable: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  Table: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  Table2: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  PublicRoute: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gateway } }
  Route: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat } }
  Route2: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref Table2, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat2 } }
  Nat: { Type: AWS::EC2::NatGateway, Properties: { SubnetId: !Ref Public } }
  Nat2: { Type: AWS::EC2::NatGateway, Properties: { SubnetId: !Ref Public2 } }
  OfPublic: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Public, RouteTableId: !Ref PublicTable } }
  OfPublic2: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Public2, RouteTableId: !Ref PublicTable } }
  OfPrivate: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Private, RouteTableId: !Ref Table } }
  OfPrivate2: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Private2, RouteTableId: !Ref Table2 } }
  BalancerGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 443, ToPort: 443, SourcePrefixListId: !Ref CloudFrontPrefixListId }], SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 80, ToPort: 80, CidrIp: 10.0.0.0/16 }, { IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }] } }
  AppGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 80, ToPort: 80, SourceSecurityGroupId: !Ref BalancerGroup }, { IpProtocol: tcp, FromPort: 2222, ToPort: 2222, SourceSecurityGroupId: !Ref BastionGroup }], SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }, { IpProtocol: tcp, FromPort: 3306, ToPort: 6379, CidrIp: 10.0.0.0/16 }] } }
  DataGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 3306, ToPort: 3306, SourceSecurityGroupId: !Ref AppGroup }], SecurityGroupEgress: [{ IpProtocol: '-1', CidrIp: 127.0.0.1/32 }] } }
  CacheGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 6379, ToPort: 6379, SourceSecurityGroupId: !Ref AppGroup }], SecurityGroupEgress: [{ IpProtocol: '-1', CidrIp: 127.0.0.1/32 }] } }
  BastionGroup: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 2222, ToPort: 2222, SourcePrefixListId: !Ref Admins }], SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }, { IpProtocol: tcp, FromPort: 2222, ToPort: 2222, CidrIp: 10.0.0.0/16 }] } }
  Admins: { Type: AWS::EC2::PrefixList, Properties: { MaxEntries: 1, Entries: [{ Cidr: 203.0.113.0/28 }] } }
  Balancer: { Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: { Scheme: internal, Subnets: [!Ref Private, !Ref Private2], SecurityGroups: [!Ref BalancerGroup] } }
  Listener: { Type: AWS::ElasticLoadBalancingV2::Listener, Properties: { LoadBalancerArn: !Ref Balancer, Port: 443, DefaultActions: [{ Type: forward, TargetGroupArn: !Ref Targets }] } }
  Targets: { Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: { Port: 80, Targets: [{ Id: !Ref App }] } }
  App: { Type: AWS::EC2::Instance, Properties: { SubnetId: !Ref Private, SecurityGroupIds: [!Ref AppGroup] } }
  DataSubnets: { Type: AWS::RDS::DBSubnetGroup, Properties: { SubnetIds: [!Ref Data, !Ref Data2] } }
  Db: { Type: AWS::RDS::DBCluster, Properties: { DBSubnetGroupName: !Ref DataSubnets, VpcSecurityGroupIds: [!Ref DataGroup] } }
  Cache: { Type: AWS::ElastiCache::ServerlessCache, Properties: { SubnetIds: [!Ref Data, !Ref Data2], SecurityGroupIds: [!Ref CacheGroup] } }
  Bastion: { Type: AWS::EC2::Instance, Properties: { NetworkInterfaces: [{ SubnetId: !Ref Public, GroupSet: [!Ref BastionGroup], AssociatePublicIpAddress: true }] } }
  VpcOrigin: { Type: AWS::CloudFront::VpcOrigin, Properties: { VpcOriginEndpointConfig: { Arn: !Ref Balancer, HTTPSPort: 443 } } }
  Distribution: { Type: AWS::CloudFront::Distribution, Properties: { DistributionConfig: { Origins: [{ Id: a, DomainName: x.example.com, VpcOriginConfig: { VpcOriginId: !Ref VpcOrigin } }] } } }
";

/// The site as the one stack `bastion`: all of its hosts that are no origins are bastions.
fn site(template: &str) -> Vec<crate::Finding> {
    let files = [
        ("stacks.yaml", "stacks: [{ name: bastion, template: t.yaml }]"),
        ("templates/t.yaml", template),
    ];
    found_in(&rules(), &files, PARAMETERS)
}

fn with(more: &str) -> Vec<crate::Finding> {
    site(&format!("{SITE}{more}"))
}

fn changed(from: &str, to: &str) -> Vec<crate::Finding> {
    assert!(SITE.contains(from), "{from}");
    site(&SITE.replace(from, to))
}

#[test]
fn the_small_site_keeps_every_rule() {
    let found = site(SITE);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_empty_estate_breaks_the_rule_of_what_must_be_there_alone() {
    let found = found(&rules(), "Resources: { T: { Type: AWS::SNS::Topic } }", "{}");
    assert_eq!(ids(&found), ["R10"]);
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn a_stranger_between_the_internet_and_the_origin_is_found_with_its_way() {
    // A function that wears the load balancer's group: SSH, databases and bastions have nothing to do
    // with it, and no line of the security groups has changed.
    let found = with(
        "  Stranger: { Type: AWS::Lambda::Function, Properties: { VpcConfig: { SubnetIds: [!Ref Private], SecurityGroupIds: [!Ref BalancerGroup] } } }\n",
    );
    assert_eq!(ids(&found), ["R03"], "{found:#?}");
    let finding = &found[0];
    assert_eq!(finding.subject, "bastion.Stranger");
    let way = finding.witness.join("\n");
    assert!(
        way.contains("out of bastion.Stranger") && way.contains("reaches bastion.App"),
        "{way}"
    );
}

#[test]
fn the_internets_way_by_a_public_stranger_is_told_hop_by_hop() {
    let found = with(
        "  Open: { Type: AWS::EC2::SecurityGroup, Properties: { VpcId: !Ref Vpc, SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 8080, ToPort: 8080, CidrIp: 0.0.0.0/0 }], SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 80, ToPort: 80, CidrIp: 10.0.0.0/16 }, { IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }] } }
  ToApp: { Type: AWS::EC2::SecurityGroupIngress, Properties: { GroupId: !Ref AppGroup, IpProtocol: tcp, FromPort: 80, ToPort: 80, SourceSecurityGroupId: !Ref Open } }
  Public6: { Type: AWS::ECS::Service, Properties: { NetworkConfiguration: { AwsvpcConfiguration: { AssignPublicIp: ENABLED, Subnets: [!Ref Public], SecurityGroups: [!Ref Open] } } } }\n",
    );
    assert_eq!(ids(&found), ["R01", "R03", "R08"], "{found:#?}");
    let way = found.iter().find(|f| f.what == "the internet has a way to it").unwrap();
    let way = way.witness.join("\n");
    let hops = ["tcp from internet", "reaches bastion.Public6", "reaches bastion.App"];
    let places: Vec<_> =
        hops.iter().map(|hop| way.find(hop).unwrap_or_else(|| panic!("{hop}: {way}"))).collect();
    assert!(places.is_sorted(), "{way}");
}

#[test]
fn each_fault_is_found_by_its_rule_and_at_its_line() {
    for (rule, line, from, to) in [
        (
            "R02",
            "Balancer:",
            "Scheme: internal, Subnets: [!Ref Private,",
            "Scheme: internal, Subnets: [!Ref Public,",
        ),
        (
            "R05",
            "CacheGroup:",
            "FromPort: 6379, ToPort: 6379, SourceSecurityGroupId",
            "FromPort: 1, ToPort: 6379, SourceSecurityGroupId",
        ),
        (
            "R09",
            "DataGroup:",
            "SecurityGroupEgress: [{ IpProtocol: '-1', CidrIp: 127.0.0.1/32 }] } }\n  CacheGroup",
            "} }\n  CacheGroup",
        ),
        ("R11", "Vpc:", "!GetAtt Vpc.DefaultSecurityGroup", "!Ref AppGroup"),
        ("R12", "BastionGroup:", "MaxEntries: 1,", "MaxEntries: 100,"),
        ("R14", "Data2:", "10.0.5.0/24", "10.0.4.128/25"),
        ("R15", "Route2:", "NatGatewayId: !Ref Nat2", "NatGatewayId: !Ref Nat"),
    ] {
        let found = changed(from, to);
        assert_eq!(ids(&found), [rule], "{found:#?}");
        let text = SITE.replace(from, to);
        let at = usize::try_from(found[0].at.line).unwrap();
        let said = text.lines().nth(at - 1).unwrap().trim_start();
        assert!(said.starts_with(line), "{rule}: {said}");
    }
}

#[test]
fn version_six_by_the_back_door_is_found() {
    let found = with(
        "  Six: { Type: AWS::EC2::SecurityGroupIngress, Properties: { GroupId: !Ref AppGroup, IpProtocol: tcp, FromPort: 80, ToPort: 80, CidrIpv6: '2a00::/12' } }\n",
    );
    assert_eq!(ids(&found), ["R13"], "{found:#?}");
}

/// That a site breaks a rule, and what the rule says of it.
#[track_caller]
fn says(found: &[crate::Finding], rule: &str, what: &str) {
    let said = found.iter().any(|f| f.rule == rule && f.what.contains(what));
    assert!(said, "{rule} {what}: {found:#?}");
}

#[test]
fn a_table_that_nobody_here_made_may_lead_to_the_internet() {
    let found = with(
        "  OfData: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Data, RouteTableId: rtb-0123456789abcdef0 } }\n",
    );
    says(&found, "R02", "is in bastion.Data, which the internet is routed to");
}

#[test]
fn routes_to_what_nobody_here_knows_lead_there_all_the_same() {
    let table = "  DataTable: { Type: AWS::EC2::RouteTable, Properties: { VpcId: !Ref Vpc } }
  OfData: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Data, RouteTableId: !Ref DataTable } }
  OfData2: { Type: AWS::EC2::SubnetRouteTableAssociation, Properties: { SubnetId: !Ref Data2, RouteTableId: !Ref DataTable } }\n";
    assert_eq!(ids(&with(table)), [""; 0]);
    for (more, rule, what) in [
        (
            "  R: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref DataTable, DestinationPrefixListId: pl-0a, GatewayId: !Ref Gateway } }\n",
            "R02",
            "which the internet is routed to",
        ),
        (
            "  R: { Type: AWS::EC2::Route, Properties: { RouteTableId: !Ref DataTable, DestinationPrefixListId: pl-0a, GatewayId: '{{resolve:ssm:/gateway}}' } }\n",
            "R02",
            "which the internet is routed to",
        ),
        (
            "  R: { Type: AWS::EC2::VPNGatewayRoutePropagation, Properties: { VpnGatewayId: vgw-0a, RouteTableIds: [!Ref DataTable] } }\n",
            "R04",
            "leads out of a subnet that holds data",
        ),
    ] {
        let found = with(&format!("{table}{more}"));
        assert_eq!(ids(&found), [rule], "{found:#?}");
        says(&found, rule, what);
    }
}

#[test]
fn a_gateway_of_others_carries_what_must_come_through() {
    let found = changed("0.0.0.0/0, GatewayId: !Ref Gateway", "0.0.0.0/0, GatewayId: igw-0a");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_block_that_cannot_be_read_is_told_of() {
    for (from, to) in [
        ("CidrBlock: 10.0.5.0/24", "CidrBlock: '{{resolve:ssm:/block}}'"),
        ("CidrBlock: 10.0.5.0/24", "Ipv4IpamPoolId: ipam-pool-0a"),
        ("CidrBlock: 10.0.0.0/16", "Ipv4IpamPoolId: ipam-pool-0a"),
    ] {
        says(&changed(from, to), "R14", "has a block that cannot be read");
    }
}

#[test]
fn every_launch_template_of_a_group_of_hosts_and_every_way_to_its_targets_counts() {
    let found = with(
        "  One: { Type: AWS::EC2::LaunchTemplate, Properties: { LaunchTemplateData: { SecurityGroupIds: [!Ref AppGroup] } } }
  Two: { Type: AWS::EC2::LaunchTemplate, Properties: { LaunchTemplateData: { SecurityGroupIds: ['{{resolve:ssm:/group}}'] } } }
  Hosts: { Type: AWS::AutoScaling::AutoScalingGroup, Properties: { VPCZoneIdentifier: [!Ref Private], TrafficSources: [{ Identifier: !Ref Targets }], MixedInstancesPolicy: { LaunchTemplate: { LaunchTemplateSpecification: { LaunchTemplateId: !Ref One }, Overrides: [{ LaunchTemplateSpecification: { LaunchTemplateId: !Ref Two } }] } } } }\n",
    );
    says(&found, "R03", "wears {{resolve:ssm:/group}}, which no template makes");
}

#[test]
fn a_public_cluster_is_found() {
    let found = changed("{ DBSubnetGroupName:", "{ PubliclyAccessible: true, DBSubnetGroupName:");
    says(&found, "R04", "has a public address");
}
