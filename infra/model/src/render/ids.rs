//! Stand-ins for what only AWS knows: ids, names and ARNs of the right shape, made of the resource's own
//! name, so that two runs agree and two resources never do.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What a stand-in is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) stack: String,
    pub(super) logical: &'a str,
    /// The name that the template gives.
    pub(super) name: Option<&'a str>,
}

impl Facts<'_> {
    /// So many hexadecimal digits.
    fn hex(&self, digits: usize) -> String {
        let mut hash = Sha256::new();
        for part in [self.region, &self.stack, self.logical] {
            hash.update(part);
            hash.update([0]);
        }
        let mut hex = String::new();
        for byte in hash.finalize() {
            // Writing to a text cannot fail.
            write!(hex, "{byte:02x}").unwrap_or_default();
        }
        hex.truncate(digits);
        hex
    }

    /// The name given, or what CloudFormation would make of the stack's and the resource's.
    fn named(&self) -> String {
        let made = || format!("{}-{}-{}", self.stack, self.logical, self.hex(12).to_uppercase());
        self.name.map_or_else(made, str::to_owned)
    }

    fn uuid(&self) -> String {
        let hex = self.hex(32);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }
}

/// Properties that name a resource of a type, the first that is given counts.
pub(super) fn names(kind: &str) -> Vec<String> {
    let last = kind.rsplit("::").next().unwrap_or(kind);
    let known = match kind {
        "AWS::ElastiCache::ReplicationGroup" => Some("ReplicationGroupId"),
        "AWS::ElastiCache::SubnetGroup" | "AWS::ElastiCache::ParameterGroup" => {
            Some("CacheSubnetGroupName")
        }
        "AWS::RDS::DBCluster" | "AWS::RDS::DBInstance" => None,
        "AWS::KMS::Alias" => Some("AliasName"),
        "AWS::Logs::LogGroup" => Some("LogGroupName"),
        "AWS::Events::Rule" | "AWS::SSM::Parameter" | "AWS::SSM::Document" => Some("Name"),
        "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => Some("AlarmName"),
        _ => None,
    };
    match known {
        Some(name) => vec![name.to_owned()],
        None => vec![format!("{last}Name"), format!("{last}Identifier"), "Name".to_owned()],
    }
}

/// Beginnings of ids that AWS makes.
const PREFIXES: &[(&str, &str)] = &[
    ("AWS::EC2::VPC", "vpc"),
    ("AWS::EC2::Subnet", "subnet"),
    ("AWS::EC2::SecurityGroup", "sg"),
    ("AWS::EC2::SecurityGroupIngress", "sgr"),
    ("AWS::EC2::SecurityGroupEgress", "sgr"),
    ("AWS::EC2::RouteTable", "rtb"),
    ("AWS::EC2::SubnetRouteTableAssociation", "rtbassoc"),
    ("AWS::EC2::InternetGateway", "igw"),
    ("AWS::EC2::NatGateway", "nat"),
    ("AWS::EC2::VPCEndpoint", "vpce"),
    ("AWS::EC2::NetworkAcl", "acl"),
    ("AWS::EC2::FlowLog", "fl"),
    ("AWS::EC2::PrefixList", "pl"),
    ("AWS::EC2::Instance", "i"),
    ("AWS::EC2::LaunchTemplate", "lt"),
    ("AWS::EC2::Volume", "vol"),
    ("AWS::EC2::EIP", "eipalloc"),
    ("AWS::EFS::FileSystem", "fs"),
    ("AWS::SSM::MaintenanceWindow", "mw"),
    ("AWS::SSM::MaintenanceWindowTarget", "wt"),
    ("AWS::SSM::PatchBaseline", "pb"),
    ("AWS::CloudFront::VpcOrigin", "vo"),
];

/// Types whose `Ref` is their ARN.
const REF_IS_ARN: &[&str] = &[
    "AWS::AccessAnalyzer::Analyzer",
    "AWS::CE::AnomalyMonitor",
    "AWS::CE::AnomalySubscription",
    "AWS::CertificateManager::Certificate",
    "AWS::ECS::Service",
    "AWS::ECS::TaskDefinition",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::ListenerRule",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::OIDCProvider",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SecretsManager::Secret",
    "AWS::SecurityHub::Hub",
];

/// What `Ref` gives.
pub(super) fn reference(kind: &str, facts: &Facts<'_>) -> String {
    if REF_IS_ARN.contains(&kind) {
        return arn(kind, facts, &facts.named()).unwrap_or_else(|| facts.named());
    }
    if let Some((_, prefix)) = PREFIXES.iter().find(|(k, _)| *k == kind) {
        let digits = if kind == "AWS::CloudFront::VpcOrigin" { 22 } else { 17 };
        let between = if kind == "AWS::CloudFront::VpcOrigin" { "_" } else { "-" };
        return format!("{prefix}{between}{}", facts.hex(digits));
    }
    match kind {
        "AWS::KMS::Key" => facts.uuid(),
        "AWS::CloudFront::Distribution" | "AWS::CloudFront::OriginAccessControl" => {
            format!("E{}", facts.hex(13).to_uppercase())
        }
        "AWS::CloudFront::CachePolicy"
        | "AWS::CloudFront::OriginRequestPolicy"
        | "AWS::CloudFront::ResponseHeadersPolicy"
        | "AWS::Backup::BackupPlan"
        | "AWS::SSM::Association" => facts.uuid(),
        "AWS::S3::Bucket" => facts.named().to_lowercase(),
        "AWS::RDS::DBCluster"
        | "AWS::RDS::DBInstance"
        | "AWS::RDS::DBClusterParameterGroup"
        | "AWS::RDS::DBParameterGroup"
        | "AWS::RDS::DBSubnetGroup"
        | "AWS::ElastiCache::ReplicationGroup"
        | "AWS::ElastiCache::ParameterGroup"
        | "AWS::ElastiCache::SubnetGroup" => facts.named().to_lowercase(),
        "AWS::Route53::HostedZone" => format!("Z{}", facts.hex(20).to_uppercase()),
        "AWS::WAFv2::WebACL" | "AWS::WAFv2::IPSet" | "AWS::WAFv2::RegexPatternSet" => {
            format!("{}|{}|CLOUDFRONT", facts.named(), facts.uuid())
        }
        _ => facts.named(),
    }
}

/// The ARN of a resource whose `Ref` (or name, where that is the ARN) is `id`.
pub(super) fn arn(kind: &str, facts: &Facts<'_>, id: &str) -> Option<String> {
    if id.starts_with("arn:") {
        return Some(id.to_owned());
    }
    let (region, account) = (facts.region, facts.account);
    let here = |service: &str, rest: String| format!("arn:aws:{service}:{region}:{account}:{rest}");
    let everywhere = |service: &str, rest: String| format!("arn:aws:{service}::{account}:{rest}");
    let hex = |digits| facts.hex(digits);
    // Names of load balancers and target groups have 32 characters at most.
    let short =
        || format!("{}-{}", id.chars().take(15).collect::<String>().trim_end_matches('-'), hex(12));
    let made = match kind {
        "AWS::S3::Bucket" => format!("arn:aws:s3:::{id}"),
        "AWS::IAM::Role" => everywhere("iam", format!("role/{id}")),
        "AWS::IAM::Group" => everywhere("iam", format!("group/{id}")),
        "AWS::IAM::ManagedPolicy" => everywhere("iam", format!("policy/{id}")),
        "AWS::IAM::InstanceProfile" => everywhere("iam", format!("instance-profile/{id}")),
        "AWS::IAM::OIDCProvider" => {
            everywhere("iam", "oidc-provider/token.actions.githubusercontent.com".to_owned())
        }
        "AWS::CloudFront::Distribution" => everywhere("cloudfront", format!("distribution/{id}")),
        "AWS::CloudFront::VpcOrigin" => everywhere("cloudfront", format!("vpcorigin/{id}")),
        "AWS::CloudFront::Function" => everywhere("cloudfront", format!("function/{id}")),
        "AWS::KMS::Key" => here("kms", format!("key/{id}")),
        "AWS::Logs::LogGroup" => here("logs", format!("log-group:{id}:*")),
        "AWS::SNS::Topic" => here("sns", id.to_owned()),
        "AWS::SQS::Queue" => here("sqs", id.to_owned()),
        "AWS::Lambda::Function" => here("lambda", format!("function:{id}")),
        "AWS::RDS::DBCluster" => here("rds", format!("cluster:{id}")),
        "AWS::RDS::DBInstance" => here("rds", format!("db:{id}")),
        "AWS::SecretsManager::Secret" => here("secretsmanager", format!("secret:{id}-{}", hex(6))),
        "AWS::ElastiCache::ReplicationGroup" => {
            here("elasticache", format!("replicationgroup:{id}"))
        }
        "AWS::ElasticLoadBalancingV2::LoadBalancer" => {
            here("elasticloadbalancing", format!("loadbalancer/app/{}/{}", short(), hex(16)))
        }
        "AWS::ElasticLoadBalancingV2::TargetGroup" => {
            here("elasticloadbalancing", format!("targetgroup/{}/{}", short(), hex(16)))
        }
        "AWS::ElasticLoadBalancingV2::Listener" => here(
            "elasticloadbalancing",
            format!("listener/app/{}/{}/{}", short(), hex(16), hex(16)),
        ),
        "AWS::ElasticLoadBalancingV2::ListenerRule" => {
            here("elasticloadbalancing", format!("listener-rule/app/{}/{}", short(), hex(16)))
        }
        "AWS::AutoScaling::AutoScalingGroup" => here(
            "autoscaling",
            format!("autoScalingGroup:{}:autoScalingGroupName/{id}", facts.uuid()),
        ),
        "AWS::Backup::BackupVault" => here("backup", format!("backup-vault:{id}")),
        "AWS::Backup::BackupPlan" => here("backup", format!("backup-plan:{id}")),
        "AWS::SSM::Parameter" => here("ssm", format!("parameter/{}", id.trim_start_matches('/'))),
        "AWS::SSM::Document" => here("ssm", format!("document/{id}")),
        "AWS::ECS::Cluster" => here("ecs", format!("cluster/{id}")),
        "AWS::ECS::Service" => here("ecs", format!("service/{id}")),
        "AWS::ECS::TaskDefinition" => here("ecs", format!("task-definition/{id}:1")),
        "AWS::CloudTrail::Trail" => here("cloudtrail", format!("trail/{id}")),
        "AWS::CloudWatch::Alarm" | "AWS::CloudWatch::CompositeAlarm" => {
            here("cloudwatch", format!("alarm:{id}"))
        }
        "AWS::CodeDeploy::Application" => here("codedeploy", format!("application:{id}")),
        "AWS::KinesisFirehose::DeliveryStream" => here("firehose", format!("deliverystream/{id}")),
        "AWS::Events::Rule" => here("events", format!("rule/{id}")),
        "AWS::CertificateManager::Certificate" => {
            here("acm", format!("certificate/{}", facts.uuid()))
        }
        "AWS::WAFv2::WebACL" | "AWS::WAFv2::IPSet" | "AWS::WAFv2::RegexPatternSet" => {
            let mut parts = id.split('|');
            let (name, uuid) = (parts.next()?, parts.next()?);
            let what = kind.rsplit("::").next().unwrap_or_default().to_lowercase();
            let scope = if region == "us-east-1" { "global" } else { "regional" };
            here("wafv2", format!("{scope}/{what}/{name}/{uuid}"))
        }
        _ => {
            let (service, what) = kind.strip_prefix("AWS::")?.split_once("::")?;
            here(&service.to_lowercase(), format!("{}/{id}", what.to_lowercase()))
        }
    };
    Some(made)
}

/// An attribute that is known for its type, or whose name says what it is.
pub(super) fn attribute(kind: &str, facts: &Facts<'_>, id: &str, name: &str) -> Option<String> {
    let region = facts.region;
    match (kind, name) {
        (
            "AWS::Lambda::Function" | "AWS::RDS::DBCluster" | "AWS::RDS::DBInstance",
            "Arn" | "DBClusterArn" | "DBInstanceArn",
        )
        | (_, "Arn") => arn(kind, facts, id),
        (_, other) if ids_itself(kind, other) => Some(id.to_owned()),
        (
            _,
            "DBClusterArn" | "DBInstanceArn" | "FunctionArn" | "TopicArn" | "BackupVaultArn"
            | "BackupPlanArn" | "LoadBalancerArn" | "TargetGroupArn" | "ListenerArn" | "RuleArn"
            | "FunctionARN",
        ) => arn(kind, facts, id),
        ("AWS::CloudFront::Distribution", "DomainName") => {
            Some(format!("d{}.cloudfront.net", facts.hex(13)))
        }
        ("AWS::ElasticLoadBalancingV2::LoadBalancer", "DNSName") => {
            Some(format!("internal-{}.{region}.elb.amazonaws.com", facts.hex(20)))
        }
        ("AWS::ElasticLoadBalancingV2::LoadBalancer", "LoadBalancerFullName") => {
            id.split_once("loadbalancer/").map(|(_, full)| full.to_owned())
        }
        ("AWS::ElasticLoadBalancingV2::TargetGroup", "TargetGroupFullName") => {
            id.rsplit_once(':').map(|(_, full)| full.to_owned())
        }
        ("AWS::S3::Bucket", "DomainName") => Some(format!("{id}.s3.amazonaws.com")),
        ("AWS::S3::Bucket", "RegionalDomainName") => {
            Some(format!("{id}.s3.{region}.amazonaws.com"))
        }
        ("AWS::RDS::DBCluster", "Endpoint.Address") => {
            Some(format!("{id}.cluster-{}.{region}.rds.amazonaws.com", facts.hex(12)))
        }
        ("AWS::RDS::DBCluster", "ReadEndpoint.Address") => {
            Some(format!("{id}.cluster-ro-{}.{region}.rds.amazonaws.com", facts.hex(12)))
        }
        ("AWS::RDS::DBCluster", "MasterUserSecret.SecretArn") => Some(format!(
            "arn:aws:secretsmanager:{region}:{}:secret:rds!cluster-{}-{}",
            facts.account,
            facts.uuid(),
            facts.hex(6)
        )),
        ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Address") => {
            Some(format!("master.{id}.{}.cache.amazonaws.com", facts.hex(6)))
        }
        ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Port") => Some("6379".to_owned()),
        _ => None,
    }
}

/// Attributes that are what `Ref` gives.
fn ids_itself(kind: &str, name: &str) -> bool {
    let last = kind.rsplit("::").next().unwrap_or(kind);
    name == "Id" && !kind.starts_with("AWS::WAFv2")
        || name.strip_suffix("Id").is_some_and(|thing| thing.eq_ignore_ascii_case(last))
        || kind == "AWS::EC2::SecurityGroup" && name == "GroupId"
}

/// Any other attribute.
pub(super) fn any_attribute(facts: &Facts<'_>, name: &str) -> String {
    format!("{}-{}-{}", facts.logical, name, facts.hex(12)).to_lowercase()
}
