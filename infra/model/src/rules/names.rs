//! G02: names. That exports resolve, that no stack needs itself and that nothing is imported across
//! regions, rendering proves by itself; here is what it cannot see: names that AWS would refuse, now or
//! with the longest names of project and environment that the templates take, and two of a name.

use std::collections::HashMap;

use super::{Facts, How, Report, Rule};
use crate::estate::{Place, Stack};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "G02",
        title: "Stacks hang together by exports of their own names, without circles and within a region; \
                every given name is unique and within AWS's limits",
        pci: &["6.5.2"],
        how: How::Check(names),
    }]
}

/// The longest names that the templates' patterns take.
const LONGEST_PROJECT: usize = 16;
const LONGEST_ENV: usize = 10;

/// Types, the property that names them, and how long a name may be.
const LIMITS: &[(&str, &str, usize)] = &[
    ("AWS::AutoScaling::AutoScalingGroup", "AutoScalingGroupName", 255),
    ("AWS::Backup::BackupPlan", "BackupPlan.BackupPlanName", 50),
    ("AWS::Backup::BackupVault", "BackupVaultName", 50),
    ("AWS::Backup::RestoreTestingPlan", "RestoreTestingPlanName", 50),
    ("AWS::CloudFront::CachePolicy", "CachePolicyConfig.Name", 128),
    ("AWS::CloudFront::Function", "Name", 64),
    ("AWS::CloudFront::OriginAccessControl", "OriginAccessControlConfig.Name", 64),
    ("AWS::CloudFront::OriginRequestPolicy", "OriginRequestPolicyConfig.Name", 128),
    ("AWS::CloudFront::ResponseHeadersPolicy", "ResponseHeadersPolicyConfig.Name", 128),
    ("AWS::CloudFront::VpcOrigin", "VpcOriginEndpointConfig.Name", 64),
    ("AWS::CloudTrail::Trail", "TrailName", 128),
    ("AWS::CloudWatch::Alarm", "AlarmName", 255),
    ("AWS::CloudWatch::CompositeAlarm", "AlarmName", 255),
    ("AWS::CloudWatch::Dashboard", "DashboardName", 255),
    ("AWS::CloudWatch::MetricStream", "Name", 255),
    ("AWS::CodeDeploy::Application", "ApplicationName", 100),
    ("AWS::CodeDeploy::DeploymentGroup", "DeploymentGroupName", 100),
    ("AWS::EC2::LaunchTemplate", "LaunchTemplateName", 128),
    ("AWS::EC2::PrefixList", "PrefixListName", 255),
    ("AWS::EC2::SecurityGroup", "GroupName", 255),
    ("AWS::ECR::Repository", "RepositoryName", 256),
    ("AWS::ECS::Cluster", "ClusterName", 255),
    ("AWS::ECS::Service", "ServiceName", 255),
    ("AWS::ECS::TaskDefinition", "Family", 255),
    ("AWS::ElastiCache::ReplicationGroup", "ReplicationGroupId", 40),
    ("AWS::ElastiCache::SubnetGroup", "CacheSubnetGroupName", 255),
    ("AWS::ElastiCache::User", "UserId", 40),
    ("AWS::ElastiCache::UserGroup", "UserGroupId", 40),
    ("AWS::ElasticLoadBalancingV2::LoadBalancer", "Name", 32),
    ("AWS::ElasticLoadBalancingV2::TargetGroup", "Name", 32),
    ("AWS::Events::Rule", "Name", 64),
    ("AWS::IAM::Group", "GroupName", 128),
    ("AWS::IAM::InstanceProfile", "InstanceProfileName", 128),
    ("AWS::IAM::ManagedPolicy", "ManagedPolicyName", 128),
    ("AWS::IAM::Role", "RoleName", 64),
    ("AWS::KMS::Alias", "AliasName", 256),
    ("AWS::KinesisFirehose::DeliveryStream", "DeliveryStreamName", 64),
    ("AWS::Lambda::Function", "FunctionName", 64),
    ("AWS::Logs::DeliveryDestination", "Name", 60),
    ("AWS::Logs::DeliverySource", "Name", 60),
    ("AWS::Logs::LogGroup", "LogGroupName", 512),
    ("AWS::RDS::DBCluster", "DBClusterIdentifier", 63),
    ("AWS::RDS::DBClusterParameterGroup", "DBClusterParameterGroupName", 255),
    ("AWS::RDS::DBInstance", "DBInstanceIdentifier", 63),
    ("AWS::RDS::DBSubnetGroup", "DBSubnetGroupName", 255),
    ("AWS::S3::Bucket", "BucketName", 63),
    ("AWS::SNS::Topic", "TopicName", 256),
    ("AWS::SQS::Queue", "QueueName", 80),
    ("AWS::SSM::Document", "Name", 128),
    ("AWS::SSM::MaintenanceWindow", "Name", 128),
    ("AWS::SSM::Parameter", "Name", 1011),
    ("AWS::SSM::PatchBaseline", "Name", 128),
    ("AWS::SSM::ResourceDataSync", "SyncName", 64),
    ("AWS::SecretsManager::Secret", "Name", 512),
    ("AWS::Synthetics::Canary", "Name", 255),
    ("AWS::WAFv2::IPSet", "Name", 128),
    ("AWS::WAFv2::RegexPatternSet", "Name", 128),
    ("AWS::WAFv2::WebACL", "Name", 128),
];

/// Types whose names are the same in all regions of an account, or in all of AWS.
const EVERYWHERE: &[&str] = &["AWS::IAM::", "AWS::S3::Bucket", "AWS::CloudFront::"];

fn names(facts: &Facts<'_>, report: &mut Report) {
    let mut taken: HashMap<(&str, &str, &str), Place> = HashMap::new();
    for (place, resource) in facts.estate.all() {
        let Some((kind, path, most)) = LIMITS.iter().find(|(kind, ..)| *kind == resource.kind)
        else {
            continue;
        };
        let Some(name) = resource.str(path) else { continue };
        let longest = longest(facts, name);
        if longest > *most {
            let what = format!("{name} can be {longest} characters long; {most} is the most");
            report.add(facts, place, path, what);
        }
        if let Some(bad) = refused(kind, name) {
            report.add(facts, place, path, format!("{name} {bad}"));
        }
        let region = match facts.estate.stacks.get(place.stack) {
            Some(_) if EVERYWHERE.iter().any(|k| kind.starts_with(k)) => "",
            Some(stack) => stack.region.as_str(),
            None => continue,
        };
        if let Some(first) = taken.insert((kind, region, name), place) {
            let what = format!("{name} is also the name of {}", facts.estate.name(first));
            report.add(facts, place, path, what);
        }
    }
    for stack in &facts.estate.stacks {
        exports(facts, report, stack);
    }
}

/// How long a name is with the longest project and environment.
fn longest(facts: &Facts<'_>, name: &str) -> usize {
    let (project, env) = (facts.estate.project.as_str(), facts.estate.env.as_str());
    let grows = |part: &str, most: usize| {
        let times = if part.is_empty() { 0 } else { name.matches(part).count() };
        times * most.saturating_sub(part.len())
    };
    name.chars().count() + grows(project, LONGEST_PROJECT) + grows(env, LONGEST_ENV)
}

/// Why a service refuses a name; nothing if it takes it.
fn refused(kind: &str, name: &str) -> Option<&'static str> {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match kind {
        "AWS::S3::Bucket" if !name.chars().all(|c| lower(c) || c == '.') || name.len() < 3 => {
            Some("is no name of a bucket: lower-case letters, digits, hyphens and dots")
        }
        "AWS::RDS::DBCluster" | "AWS::RDS::DBInstance" | "AWS::ElastiCache::ReplicationGroup"
            if !name.chars().all(word)
                || !name.starts_with(|c: char| c.is_ascii_alphabetic())
                || name.ends_with('-')
                || name.contains("--") =>
        {
            Some("must be letters, digits and single hyphens, a letter first")
        }
        "AWS::ElasticLoadBalancingV2::LoadBalancer"
        | "AWS::ElasticLoadBalancingV2::TargetGroup"
            if !name.chars().all(word) || name.starts_with(['-']) || name.ends_with('-') =>
        {
            Some("must be letters, digits and hyphens, none of them at an end")
        }
        "AWS::ElasticLoadBalancingV2::LoadBalancer" if name.starts_with("internal-") => {
            Some("must not begin with internal-")
        }
        "AWS::KMS::Alias" if !name.starts_with("alias/") || name.starts_with("alias/aws/") => {
            Some("must begin with alias/ and not with alias/aws/")
        }
        "AWS::Backup::RestoreTestingPlan"
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
        {
            Some("must be letters, digits and underscores")
        }
        _ => None,
    }
}

/// Exports are called `PROJECT-ENV-TEMPLATE-OUTPUT`, so that an importer can be read and none collides.
fn exports(facts: &Facts<'_>, report: &mut Report, stack: &Stack) {
    let Some(template) = facts.project.templates.get(stack.template) else { return };
    let stem = template.file.trim_start_matches("templates/").trim_end_matches(".yaml");
    for (logical, output) in &stack.outputs {
        let Some(export) = &output.export else { continue };
        let wanted = format!("{}-{}-{stem}-{logical}", facts.estate.project, facts.estate.env);
        if *export != wanted {
            let at = template.root.get("Outputs").and_then(|o| o.entry(logical)).map(|e| &e.at);
            let what = format!("exports {export}, which is to be called {wanted}");
            report.at(at.unwrap_or(&template.root.at), format!("{}.{logical}", stack.name), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::only_these;

    const NAMED: &str = "
Parameters: { Project: { Type: String }, Env: { Type: String } }
Resources:
  A: { Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: { Name: !Sub '${Project}-${Env}-alb' } }
  B: { Type: AWS::S3::Bucket, Properties: { BucketName: abc } }
  C: { Type: AWS::S3::Bucket, Properties: { BucketName: abd } }
  D: { Type: AWS::RDS::DBCluster, Properties: { DBClusterIdentifier: data } }
  K: { Type: AWS::KMS::Alias, Properties: { AliasName: alias/data } }
Outputs:
  X: { Value: x, Export: { Name: !Sub '${Project}-${Env}-t-X' } }
";

    #[test]
    fn names_are_held_to_their_rule() {
        only_these(
            rules,
            "G02",
            NAMED,
            &[
                // 17 characters here, 33 with the longest names.
                ("-alb'", "-front'", "4 t.A: palisade-prod-front can be 33"),
                ("-alb'", "-al_'", "must be letters"),
                ("Name: abd", "Name: abc", "6 t.C: abc is also the name of t.B"),
                ("Name: abd", "Name: Abd", "no name of a bucket"),
                ("Identifier: data", "Identifier: da--ta", "single hyphens"),
                ("alias/data", "data", "must begin with alias/"),
                ("-t-X'", "-X'", "10 t.X: exports palisade-prod-X, which"),
            ],
        );
    }
}
