//! Which types of resources hold data, and which of their properties cannot change without a new, empty
//! resource. Facts of AWS's resource schemas; `tests/stateful_facts.rs` holds them against the schemas.
//!
//! Out of the same facts comes the plan between two releases that needs no AWS: what a new rendering
//! would replace or delete of an old one.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value as Json;

use crate::{
    estate::{Estate, Place, Resource, Stack},
    finding::Finding,
    value::At,
};

/// A type whose resources hold what cannot be made again.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// The type, `AWS::RDS::DBCluster`.
    pub kind: &'static str,
    /// Properties whose change replaces the resource, by path.
    pub always: &'static [&'static str],
    /// Properties whose change may replace it; only a change set can tell.
    pub perhaps: &'static [&'static str],
}

const fn store(
    kind: &'static str,
    always: &'static [&'static str],
    perhaps: &'static [&'static str],
) -> Store {
    Store { kind, always, perhaps }
}

/// All of them, sorted.
#[rustfmt::skip]
pub const STORES: &[Store] = &[
    store("AWS::Backup::BackupVault", &["BackupVaultName", "EncryptionKeyArn"], &[]),
    store("AWS::Backup::LogicallyAirGappedBackupVault", &["BackupVaultName", "EncryptionKeyArn", "MaxRetentionDays", "MinRetentionDays"], &[]),
    store("AWS::Cognito::UserPool", &[], &[]),
    store("AWS::DocDB::DBCluster", &["AvailabilityZones", "DBClusterIdentifier", "DBSubnetGroupName", "KmsKeyId", "MasterUsername", "SnapshotIdentifier", "SourceDBClusterIdentifier", "StorageEncrypted"], &[]),
    store("AWS::DynamoDB::GlobalTable", &["TableName"], &["GlobalTableSourceArn", "KeySchema", "LocalSecondaryIndexes"]),
    store("AWS::DynamoDB::Table", &["ImportSourceSpecification", "TableName"], &["KeySchema"]),
    store("AWS::EC2::Volume", &[], &[]),
    store("AWS::ECR::Repository", &["EncryptionConfiguration", "RepositoryName"], &[]),
    store("AWS::EFS::FileSystem", &["AvailabilityZoneName", "Encrypted", "KmsKeyId", "PerformanceMode"], &[]),
    store("AWS::ElastiCache::CacheCluster", &["CacheSubnetGroupName", "ClusterName", "Engine", "NetworkType", "Port", "SnapshotArns", "SnapshotName"], &["IpDiscovery", "PreferredAvailabilityZones"]),
    store("AWS::ElastiCache::ReplicationGroup", &["AtRestEncryptionEnabled", "CacheSubnetGroupName", "DataTieringEnabled", "GlobalReplicationGroupId", "KmsKeyId", "NetworkType", "Port", "PreferredCacheClusterAZs", "ReplicationGroupId", "SnapshotArns", "SnapshotName"], &["AuthToken", "NodeGroupConfiguration"]),
    store("AWS::ElastiCache::ServerlessCache", &["ConnectionType", "KmsKeyId", "NetworkType", "ServerlessCacheName", "SnapshotArnsToRestore", "SubnetIds"], &[]),
    store("AWS::FSx::FileSystem", &["BackupId", "FileSystemType", "KmsKeyId", "SecurityGroupIds", "SubnetIds"], &[]),
    store("AWS::KMS::Key", &[], &[]),
    store("AWS::Kinesis::Stream", &["Name"], &[]),
    store("AWS::Logs::LogGroup", &["LogGroupName"], &[]),
    store("AWS::MemoryDB::Cluster", &["ClusterName", "DataTiering", "KmsKeyId", "MultiRegionClusterName", "NetworkType", "Port", "SnapshotArns", "SnapshotName", "SubnetGroupName", "TLSEnabled"], &[]),
    store("AWS::Neptune::DBCluster", &["AvailabilityZones", "DBClusterIdentifier", "DBSubnetGroupName", "GlobalClusterIdentifier", "KmsKeyId", "RestoreToTime", "RestoreType", "SnapshotIdentifier", "SourceDBClusterIdentifier", "StorageEncrypted", "UseLatestRestorableTime"], &[]),
    store("AWS::OpenSearchService::Domain", &["DomainName", "EngineMode"], &["AdvancedSecurityOptions.Enabled", "EncryptionAtRestOptions.Enabled", "EncryptionAtRestOptions.KmsKeyId"]),
    store("AWS::RDS::DBCluster", &["ClusterScalabilityType", "DBClusterIdentifier", "DBSubnetGroupName", "DBSystemId", "DatabaseName", "EngineMode", "KmsKeyId", "PubliclyAccessible", "RestoreToTime", "RestoreType", "SnapshotIdentifier", "SourceDBClusterIdentifier", "SourceDbClusterResourceId", "SourceRegion", "StorageEncrypted", "UseLatestRestorableTime"], &["AvailabilityZones", "Engine", "GlobalClusterIdentifier", "MasterUsername"]),
    store("AWS::RDS::DBInstance", &["BackupTarget", "CharacterSetName", "CustomIAMInstanceProfile", "DBClusterIdentifier", "DBInstanceIdentifier", "DBName", "DBSubnetGroupName", "DBSystemId", "KmsKeyId", "MasterUsername", "NcharCharacterSetName", "SourceRegion", "StorageEncrypted", "Timezone"], &["AutoMinorVersionUpgrade", "AvailabilityZone", "BackupRetentionPeriod", "DBClusterSnapshotIdentifier", "DBParameterGroupName", "DBSnapshotIdentifier", "Engine", "MultiAZ", "PerformanceInsightsKMSKeyId", "PreferredMaintenanceWindow", "RestoreTime", "SourceDBClusterIdentifier", "SourceDBInstanceAutomatedBackupsArn", "SourceDBInstanceIdentifier", "SourceDbiResourceId", "UseLatestRestorableTime"]),
    store("AWS::Redshift::Cluster", &["ClusterIdentifier", "ClusterSubnetGroupName", "DBName", "MasterUsername", "OwnerAccount", "SnapshotClusterIdentifier", "SnapshotIdentifier"], &[]),
    store("AWS::Route53::HostedZone", &["DelegationSetId", "Name"], &[]),
    store("AWS::S3::Bucket", &["BucketName", "BucketNamePrefix", "BucketNamespace"], &[]),
    store("AWS::SQS::Queue", &["FifoQueue", "QueueName"], &[]),
    store("AWS::SecretsManager::Secret", &["Name"], &[]),
];

/// Whether resources of a type hold data.
#[must_use]
pub fn holds_data(kind: &str) -> bool {
    facts(kind).is_some()
}

/// The facts of a type that holds data.
#[must_use]
pub fn facts(kind: &str) -> Option<&'static Store> {
    STORES.binary_search_by(|s| s.kind.cmp(kind)).ok().and_then(|i| STORES.get(i))
}

/// Whether this resource itself holds data: an instance of a cluster does not, its data is the cluster's.
#[must_use]
pub fn keeps_data(resource: &Resource) -> bool {
    let cluster = resource.get(CLUSTER).map(crate::Value::to_json);
    holds_data(&resource.kind) && !is_member(&resource.kind, cluster.as_ref())
}

/// The property that makes an instance one of a cluster.
const CLUSTER: &str = "DBClusterIdentifier";

/// Whether a resource with this cluster is an instance of it. One that may be left out names none.
fn is_member(kind: &str, cluster: Option<&Json>) -> bool {
    kind == "AWS::RDS::DBInstance"
        && cluster.is_some_and(|value| !value.to_string().contains("AWS::NoValue"))
}

/// Whether a resource of a template, as it is deployed, holds no data though its type does.
#[must_use]
pub fn is_member_in(template: &Json, logical: &str) -> bool {
    let resource = template.get("Resources").and_then(|all| all.get(logical));
    let kind = resource.and_then(|r| r.get("Type")?.as_str()).unwrap_or_default();
    is_member(kind, resource.and_then(|r| r.get("Properties")?.get(CLUSTER)))
}

/// What a new rendering would replace or delete of what holds data in an old one, which is
/// `{stack: {logical: {"type", "properties"}}}`. By rule G03, sorted by place.
#[must_use]
pub fn replacements(old: &Json, new: &Estate) -> Vec<Finding> {
    let stacks: BTreeMap<&str, (usize, &Stack)> =
        new.stacks.iter().enumerate().map(|(i, s)| (s.name.as_str(), (i, s))).collect();
    let mut findings = Vec::new();
    for (stack, resources) in old.as_object().into_iter().flatten() {
        let now = stacks.get(stack.as_str()).copied();
        let by_name: BTreeMap<&str, usize> = now
            .map(|(_, s)| s.resources.iter().enumerate().map(|(i, r)| (r.logical.as_str(), i)))
            .into_iter()
            .flatten()
            .collect();
        for (logical, before) in resources.as_object().into_iter().flatten() {
            let Some(facts) = before.get("type").and_then(Json::as_str).and_then(facts) else {
                continue;
            };
            let properties = before.get("properties").unwrap_or(&Json::Null);
            if is_member(facts.kind, properties.get(CLUSTER)) {
                continue;
            }
            let kept =
                now.zip(by_name.get(logical.as_str())).and_then(|((stack, s), &resource)| {
                    Some((Place { stack, resource }, s.resources.get(resource)?))
                });
            match kept {
                Some((place, after)) if after.kind == facts.kind => {
                    findings.extend(changed(facts, properties, after, &new.name(place)));
                }
                gone => {
                    let at = gone.map_or_else(|| whole(now), |(_, after)| after.at.clone());
                    findings.push(Finding {
                        rule: "G03",
                        at,
                        subject: format!("{stack}.{logical}"),
                        what: format!("{} is gone, and what it held with it", facts.kind),
                        witness: Vec::new(),
                    });
                }
            }
        }
    }
    findings.sort();
    findings
}

/// Where a stack that lost a resource is written.
fn whole(stack: Option<(usize, &Stack)>) -> At {
    let file: Option<&Arc<str>> =
        stack.and_then(|(_, s)| s.resources.first()).map(|resource| &resource.at.file);
    At::new(&file.cloned().unwrap_or_else(|| "stacks.yaml".into()), 1)
}

fn changed<'a>(
    facts: &'a Store,
    before: &'a Json,
    after: &'a Resource,
    subject: &'a str,
) -> impl Iterator<Item = Finding> + 'a {
    let always = facts.always.iter().map(|p| (*p, "replaces"));
    let perhaps = facts.perhaps.iter().map(|p| (*p, "may replace"));
    always.chain(perhaps).filter_map(move |(path, does)| {
        let was = path.split('.').try_fold(before, |value, part| value.get(part));
        let is = after.get(path).map(crate::Value::to_json);
        let (was, is) = (was.unwrap_or(&Json::Null), is.unwrap_or(Json::Null));
        (!same(was, &is)).then(|| Finding {
            rule: "G03",
            at: after.at(path).clone(),
            subject: subject.to_owned(),
            what: format!("a change of {path} {does} {}: the new one is empty", after.kind),
            witness: vec![format!("it was {was}, it would be {is}")],
        })
    })
}

/// Whether CloudFormation takes two values for the same: `"5"` is 5, and `"true"` is true.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => match (text(a), text(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
    }
}

fn text(value: &Json) -> Option<String> {
    match value {
        Json::Bool(b) => Some(b.to_string()),
        Json::Number(n) => Some(n.to_string()),
        Json::String(s) => Some(s.clone()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    /// A stack `data` with the resources of a text, each rendered as it stands.
    fn estate(resources: &str) -> Estate {
        let file: Arc<str> = "templates/data.yaml".into();
        let root = crate::yaml::read(&file, resources).unwrap();
        let resource = |e: &crate::value::Entry| Resource {
            logical: e.key.clone(),
            kind: e.value.get("Type").and_then(crate::Value::as_str).unwrap().to_owned(),
            at: e.at.clone(),
            properties: e.value.get("Properties").cloned().unwrap(),
            deletion_policy: None,
            update_replace_policy: None,
            depends_on: Vec::new(),
            extra: Vec::new(),
            id: e.key.clone(),
        };
        let stack = Stack {
            name: "data".into(),
            full_name: "p-e-data".into(),
            region: "eu-west-1".into(),
            template: 0,
            tags: true,
            capabilities: Vec::new(),
            needs: Vec::new(),
            parameters: BTreeMap::new(),
            feeds: BTreeMap::new(),
            resources: root.entries().iter().map(resource).collect(),
            outputs: BTreeMap::new(),
        };
        Estate {
            env: "e".into(),
            project: "p".into(),
            region: "eu-west-1".into(),
            account: "111122223333".into(),
            parameters: BTreeMap::new(),
            stacks: vec![stack],
            owners: HashMap::new(),
        }
    }

    fn told(old: &Json, new: &str) -> Vec<String> {
        replacements(old, &estate(new)).iter().map(|f| format!("{} {}", f.at, f.what)).collect()
    }

    #[test]
    fn types_that_hold_data_are_known_and_sorted() {
        assert!(holds_data("AWS::RDS::DBCluster") && holds_data("AWS::S3::Bucket"));
        assert!(!holds_data("AWS::EC2::VPC") && !holds_data("AWS::S3::BucketPolicy"));
        assert!(STORES.is_sorted_by(|a, b| a.kind < b.kind));
    }

    #[test]
    fn an_instance_is_its_clusters_only_when_the_template_surely_says_so() {
        let template = json!({"Resources": {
            "Alone": {"Type": "AWS::RDS::DBInstance", "Properties": {}},
            "Writer": {"Type": "AWS::RDS::DBInstance", "Properties": {"DBClusterIdentifier": {"Ref": "C"}}},
            "Perhaps": {"Type": "AWS::RDS::DBInstance", "Properties": {"DBClusterIdentifier":
                {"Fn::If": ["Clustered", {"Ref": "C"}, {"Ref": "AWS::NoValue"}]}}},
            "Cluster": {"Type": "AWS::RDS::DBCluster", "Properties": {"DBClusterIdentifier": "c"}}}});
        let members = ["Alone", "Writer", "Perhaps", "Cluster", "Nobody"];
        let members: Vec<_> = members.into_iter().filter(|m| is_member_in(&template, m)).collect();
        assert_eq!(members, ["Writer"]);
    }

    #[test]
    fn a_change_that_makes_a_new_store_is_told_at_its_line() {
        let cluster = |key: &str, days: i64| {
            let properties = json!({"KmsKeyId": key, "BackupRetentionPeriod": days, "Engine": "x"});
            json!({"data": {"Db": {"type": "AWS::RDS::DBCluster", "properties": properties}}})
        };
        let new = "Db:\n  Type: AWS::RDS::DBCluster\n  Properties:\n    BackupRetentionPeriod: 7\n    KmsKeyId: a\n    Engine: x\n";
        assert_eq!(told(&cluster("a", 35), new), [""; 0]);
        let says = "templates/data.yaml:5 a change of KmsKeyId replaces AWS::RDS::DBCluster: the new one is empty";
        assert_eq!(told(&cluster("b", 7), new), [says]);
        let engine = told(&cluster("a", 7), &new.replace("Engine: x", "Engine: y"));
        assert!(engine.first().unwrap().contains("Engine may replace"), "{engine:?}");
        let encrypted = new.replace("Engine: x", "Engine: x\n    StorageEncrypted: true");
        assert!(told(&cluster("a", 7), &encrypted).first().unwrap().contains("StorageEncrypted"));
    }

    #[test]
    fn a_number_and_its_text_are_the_same() {
        let old = json!({"data": {"C": {"type": "AWS::ElastiCache::ReplicationGroup", "properties": {
            "Port": "6379", "AtRestEncryptionEnabled": true}}}});
        let new = "C:\n  Type: AWS::ElastiCache::ReplicationGroup\n  Properties: { Port: 6379, AtRestEncryptionEnabled: 'true' }\n";
        assert_eq!(told(&old, new), [""; 0]);
        assert_eq!(told(&old, &new.replace("6379", "6380")).len(), 1);
    }

    #[test]
    fn a_store_that_is_no_longer_there_is_told() {
        let old = json!({
            "data": {
                "Gone": {"type": "AWS::S3::Bucket", "properties": {}},
                "Other": {"type": "AWS::S3::Bucket", "properties": {}},
                "Member": {"type": "AWS::RDS::DBInstance", "properties": {"DBClusterIdentifier": "c"}},
                "Net": {"type": "AWS::EC2::VPC", "properties": {}},
            },
            "old": {"Key": {"type": "AWS::KMS::Key", "properties": {}}},
        });
        let new = "Other:\n  Type: AWS::SQS::Queue\n  Properties: {}\n";
        assert_eq!(
            told(&old, new),
            [
                "stacks.yaml:1 AWS::KMS::Key is gone, and what it held with it",
                "templates/data.yaml:1 AWS::S3::Bucket is gone, and what it held with it",
                "templates/data.yaml:1 AWS::S3::Bucket is gone, and what it held with it",
            ]
        );
    }
}
