//! D04: keys. Data, logs, backups and secrets each have a key of their own, so that who may read one
//! class cannot read the others. No name says which class a key is of: the stores that use it do, and one
//! that is of another class than the most of them is in the wrong place. Whether log groups, topics and
//! trails have a key at all is asked by the rules about them (L01 to L03).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Facts, Report, data_buckets::log_targets, data_key_users, edge::nowhere};
use crate::{
    estate::{Place, Resource},
    policy,
    value::Value,
};

const KEY: &str = "AWS::KMS::Key";

/// What a key protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Data,
    Logs,
    Backups,
    Secrets,
}

/// Where a type names its key, which class it is, and whether another rule asks that there is one.
const STORES: &[(&str, &str, Class, bool)] = &[
    ("AWS::RDS::DBCluster", "KmsKeyId", Class::Data, true),
    ("AWS::RDS::DBCluster", "MasterUserSecret.KmsKeyId", Class::Secrets, true),
    ("AWS::RDS::DBInstance", "KmsKeyId", Class::Data, true),
    ("AWS::RDS::DBInstance", "PerformanceInsightsKMSKeyId", Class::Data, true),
    ("AWS::DocDB::DBCluster", "KmsKeyId", Class::Data, true),
    ("AWS::Neptune::DBCluster", "KmsKeyId", Class::Data, true),
    ("AWS::DynamoDB::Table", "SSESpecification.KMSMasterKeyId", Class::Data, true),
    ("AWS::EFS::FileSystem", "KmsKeyId", Class::Data, true),
    ("AWS::FSx::FileSystem", "KmsKeyId", Class::Data, true),
    ("AWS::EC2::Volume", "KmsKeyId", Class::Data, true),
    ("AWS::ElastiCache::ReplicationGroup", "KmsKeyId", Class::Data, true),
    ("AWS::ECR::Repository", "EncryptionConfiguration.KmsKey", Class::Data, true),
    ("AWS::Kinesis::Stream", "StreamEncryption.KeyId", Class::Data, true),
    ("AWS::SQS::Queue", "KmsMasterKeyId", Class::Data, true),
    ("AWS::Backup::BackupVault", "EncryptionKeyArn", Class::Backups, true),
    ("AWS::SecretsManager::Secret", "KmsKeyId", Class::Secrets, true),
    ("AWS::Logs::LogGroup", "KmsKeyId", Class::Logs, false),
    ("AWS::SNS::Topic", "KmsMasterKeyId", Class::Logs, false),
    ("AWS::CloudTrail::Trail", "KMSKeyId", Class::Logs, false),
];

/// A store's key.
struct Use<'a> {
    place: Place,
    path: String,
    class: Option<Class>,
    key: &'a str,
}

pub(super) fn by_class(facts: &Facts<'_>, report: &mut Report) {
    let mut uses = Vec::new();
    let targets = log_targets(facts);
    for (place, resource) in facts.estate.all() {
        for (_, path, class, wanted) in STORES.iter().filter(|(kind, ..)| *kind == resource.kind) {
            match resource.str(path) {
                Some(key) => {
                    let path = (*path).to_owned();
                    uses.push(Use { place, path, class: Some(*class), key });
                }
                None if *wanted && has_key(resource, path) => {
                    report.add(
                        facts,
                        place,
                        path,
                        "it is encrypted by a key of AWS's, not of ours",
                    );
                }
                None => {}
            }
        }
        more_uses(facts, place, resource, &mut uses, &targets, report);
        if resource.kind == KEY {
            key(facts, place, resource, report);
        }
    }
    if facts.estate.of(KEY).next().is_none() {
        nowhere(facts, report, "there is no key");
    }
    classes(facts, &uses, report);
}

/// Whether a resource would have a key at this path: not what belongs to a cluster, nor what is off.
fn has_key(resource: &Resource, path: &str) -> bool {
    match path {
        "PerformanceInsightsKMSKeyId" => resource.yes("EnablePerformanceInsights"),
        "MasterUserSecret.KmsKeyId" => resource.yes("ManageMasterUserPassword"),
        _ => {
            resource.kind != "AWS::RDS::DBInstance" || resource.get("DBClusterIdentifier").is_none()
        }
    }
}

/// Keys that lists and buckets name.
fn more_uses<'a>(
    facts: &Facts<'a>,
    place: Place,
    resource: &'a Resource,
    uses: &mut Vec<Use<'a>>,
    targets: &HashSet<&str>,
    report: &mut Report,
) {
    let (list, below, class) = match resource.kind.as_str() {
        "AWS::S3::Bucket" => (
            "BucketEncryption.ServerSideEncryptionConfiguration",
            "ServerSideEncryptionByDefault.KMSMasterKeyID",
            // What cannot be changed is kept as backups are; what else a bucket holds, it does not say.
            resource.yes("ObjectLockEnabled").then_some(Class::Backups),
        ),
        "AWS::EC2::LaunchTemplate" => {
            ("LaunchTemplateData.BlockDeviceMappings", "Ebs.KmsKeyId", Some(Class::Data))
        }
        "AWS::EC2::Instance" => ("BlockDeviceMappings", "Ebs.KmsKeyId", Some(Class::Data)),
        "AWS::SecretsManager::Secret" => ("ReplicaRegions", "KmsKeyId", Some(Class::Secrets)),
        _ => return,
    };
    let items = resource.get(list).map(Value::items).unwrap_or_default();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{list}.{i}.{below}");
        match item.path(below).and_then(Value::as_str) {
            Some(key) => uses.push(Use { place, path, class, key }),
            None => {
                let algorithm = item.path("ServerSideEncryptionByDefault.SSEAlgorithm");
                let algorithm = algorithm.and_then(Value::as_str);
                let fine = match resource.kind.as_str() {
                    // Load balancers write with S3's own keys only. That it is encrypted is D05's.
                    "AWS::S3::Bucket" => algorithm.is_none() || targets.contains(&*resource.id),
                    // A mapping that takes a device away.
                    _ => item.get("NoDevice").is_some(),
                };
                if !fine {
                    let what = "it is encrypted by a key of AWS's, not of ours";
                    report.add(facts, place, &path, what);
                }
            }
        }
    }
}

/// Finds out what each key is for, and who uses one that is for something else.
fn classes(facts: &Facts<'_>, uses: &[Use<'_>], report: &mut Report) {
    let estate = facts.estate;
    let mut by_key: BTreeMap<Place, Vec<&Use<'_>>> = BTreeMap::new();
    for one in uses {
        match estate.find_of(KEY, one.key) {
            Some((key, _)) => by_key.entry(key).or_default().push(one),
            // By its alias, if that is ours.
            None => match alias(facts, one.key) {
                Some(key) => by_key.entry(key).or_default().push(one),
                None => {
                    let what = format!("{} is no key of this environment", one.key);
                    report.add(facts, one.place, &one.path, what);
                }
            },
        }
    }
    let mut opened = BTreeSet::new();
    for (key, users) in by_key {
        let mut counts: BTreeMap<Class, usize> = BTreeMap::new();
        for class in users.iter().filter_map(|u| u.class) {
            *counts.entry(class).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let main: Vec<Class> =
            counts.iter().filter(|(_, n)| **n == most).map(|(class, _)| *class).collect();
        // Where two classes use it as much as each other, both are told.
        let right = if let [one] = main.as_slice() { Some(*one) } else { None };
        if right != Some(Class::Logs) {
            opened.insert(key);
        }
        for user in users.iter().filter(|u| u.class.is_some() && u.class != right) {
            let class = user.class.map(|c| format!("{c:?}").to_lowercase()).unwrap_or_default();
            let others = users.iter().filter(|o| o.class != user.class);
            let witness: Vec<_> = others
                .map(|o| format!("{} uses it too: {}", estate.name(o.place), o.path))
                .collect();
            let what = format!("{} is not the key for {class}", estate.name(key));
            report.add(facts, user.place, &user.path, what).witness = witness;
        }
    }
    data_key_users::judge(facts, &opened, report);
}

/// The key that an alias of this environment means.
fn alias(facts: &Facts<'_>, name: &str) -> Option<Place> {
    let (_, alias) = facts.estate.find_of("AWS::KMS::Alias", name)?;
    facts.estate.find_of(KEY, alias.str("TargetKeyId")?).map(|(place, _)| place)
}

/// A key rotates, and its policy names whom it lets in.
fn key(facts: &Facts<'_>, place: Place, key: &Resource, report: &mut Report) {
    let symmetric = key.str("KeySpec").is_none_or(|s| s == "SYMMETRIC_DEFAULT");
    if symmetric && !key.yes("EnableKeyRotation") {
        report.add(facts, place, "EnableKeyRotation", "it does not rotate");
    }
    let statements = key.get("KeyPolicy").map(policy::statements).unwrap_or_default();
    for s in statements.iter().filter(|s| s.allows) {
        let tied =
            ["aws:PrincipalAccount", "aws:PrincipalArn", "aws:PrincipalOrgID", "kms:CallerAccount"]
                .iter()
                .any(|key| s.condition(key).is_some());
        if !tied && (s.not_principal || s.principals.iter().any(|(_, who)| *who == "*")) {
            report.at(s.at, facts.estate.name(place), "everybody may use it");
        }
    }
}
