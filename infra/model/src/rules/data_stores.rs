//! D01 to D03: database clusters and caches. Their keys are D04's, where they can be reached from is R04's
//! and R05's.

use std::collections::{BTreeSet, HashMap};

use super::{Facts, Report, edge::nowhere};
use crate::{
    estate::{Place, Resource},
    value::Value,
};

const CLUSTER: &str = "AWS::RDS::DBCluster";
const CACHE: &str = "AWS::ElastiCache::ReplicationGroup";
/// Days for which a production database can be taken back to any second: the most that AWS keeps.
const PRODUCTION_DAYS: i64 = 35;
/// Days for which a production cache's snapshots are kept.
const PRODUCTION_SNAPSHOTS: i64 = 7;

pub(super) fn clusters(facts: &Facts<'_>, report: &mut Report) {
    let mut instances: HashMap<&str, Vec<(Place, &Resource)>> = HashMap::new();
    for (place, instance) in facts.estate.of("AWS::RDS::DBInstance") {
        match instance.str("DBClusterIdentifier") {
            Some(cluster) => instances.entry(cluster).or_default().push((place, instance)),
            None if !instance.yes("StorageEncrypted") => {
                report.add(facts, place, "StorageEncrypted", "its storage is not encrypted");
            }
            None => {}
        }
    }
    let mut any = false;
    for (place, cluster) in facts.estate.of(CLUSTER) {
        any = true;
        let members = instances.get(cluster.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        one_cluster(facts, place, cluster, report);
        zones(facts, place, members, report);
    }
    if !any {
        nowhere(facts, report, "there is no database cluster");
    }
}

fn one_cluster(facts: &Facts<'_>, place: Place, cluster: &Resource, report: &mut Report) {
    let production = facts.estate.is_production();
    for (path, always, what) in [
        ("StorageEncrypted", true, "its storage is not encrypted"),
        ("EnableIAMDatabaseAuthentication", true, "nobody can log in by IAM, only by a password"),
        ("CopyTagsToSnapshot", true, "its snapshots lose the tags that say whose they are"),
        ("DeletionProtection", false, "one call deletes it"),
    ] {
        if (always || production) && !cluster.yes(path) {
            report.add(facts, place, path, what);
        }
    }
    // Whoever has the right of the API asks the database from anywhere, past every security group.
    if cluster.yes("EnableHttpEndpoint") {
        report.add(
            facts,
            place,
            "EnableHttpEndpoint",
            "AWS's Data API answers for it outside of the VPC",
        );
    }
    let path = "BackupRetentionPeriod";
    let days = cluster.get(path).and_then(Value::as_int).unwrap_or(1);
    let least = if production { PRODUCTION_DAYS } else { 1 };
    if days < least {
        let what = format!("it can be taken back {days} days, not {least}");
        report.add(facts, place, path, what);
    }
    let path = "EnableCloudwatchLogsExports";
    let logs = cluster.get(path).map(Value::items).unwrap_or_default();
    let engine = cluster.str("Engine").unwrap_or_default();
    let wanted: &[&str] = if engine.contains("postgres") {
        &["postgresql"]
    } else {
        &["audit", "error", "slowquery"]
    };
    // An audit log that nobody writes is an empty one.
    let group = cluster.str("DBClusterParameterGroupName").unwrap_or_default();
    let group = facts.estate.find_of("AWS::RDS::DBClusterParameterGroup", group);
    if let Some((group_place, group)) = group.filter(|_| wanted.contains(&"audit")) {
        let path = "Parameters.server_audit_logging";
        if group.get(path).and_then(Value::scalar).is_none_or(|v| v != "1" && v != "ON") {
            report.add(facts, group_place, path, "nobody writes the audit log");
        }
    }
    for log in wanted.iter().filter(|w| !logs.iter().any(|l| l.is(w))) {
        report.add(facts, place, path, format!("its {log} log stays on its disk"));
    }
}

/// Whether a zone can fail.
fn zones(facts: &Facts<'_>, place: Place, members: &[(Place, &Resource)], report: &mut Report) {
    if members.is_empty() {
        report.add(facts, place, "", "it has no instance, so nobody can connect");
        return;
    }
    if !facts.estate.is_production() {
        return;
    }
    if members.len() < 2 {
        report.add(facts, place, "", "it has one instance, and nothing takes over from it");
        return;
    }
    let known: Option<BTreeSet<&str>> =
        members.iter().map(|(_, m)| m.str("AvailabilityZone")).collect();
    // Where AWS chooses, it need not choose two.
    if known.is_none_or(|zones| zones.len() < 2) {
        let last = members.last().map_or(place, |(p, _)| *p);
        let what = "nothing says that the instances are in two zones";
        report.add(facts, last, "AvailabilityZone", what);
    }
}

pub(super) fn clusters_over_tls(facts: &Facts<'_>, report: &mut Report) {
    for (place, cluster) in facts.estate.of(CLUSTER) {
        let path = "DBClusterParameterGroupName";
        let kind = "AWS::RDS::DBClusterParameterGroup";
        let group = cluster.str(path).and_then(|name| facts.estate.find_of(kind, name));
        let Some((group_place, group)) = group else {
            let what = "it has AWS's parameters, which let plain connections in";
            report.add(facts, place, path, what);
            continue;
        };
        let engine = cluster.str("Engine").unwrap_or_default();
        let (must, version) = if engine.contains("postgres") {
            ("Parameters.rds.force_ssl", "Parameters.ssl_min_protocol_version")
        } else {
            ("Parameters.require_secure_transport", "Parameters.tls_version")
        };
        let parameter = |path: &str| {
            let name = path.trim_start_matches("Parameters.");
            group.get("Parameters").and_then(|p| p.get(name)).and_then(Value::scalar)
        };
        let on = parameter(must).is_some_and(|v| ["ON", "on", "1", "true"].contains(&v.as_str()));
        if !on {
            report.add(facts, group_place, must, "plain connections are let in");
        }
        let versions = parameter(version).unwrap_or_default();
        let modern = |v: &str| ["TLSv1.2", "TLSv1.3"].contains(&v.trim());
        if !versions.split(',').all(modern) {
            report.add(facts, group_place, version, "TLS older than 1.2 is let in");
        }
    }
    for (place, proxy) in facts.estate.of("AWS::RDS::DBProxy") {
        if !proxy.yes("RequireTLS") {
            report.add(facts, place, "RequireTLS", "plain connections are let in");
        }
    }
}

pub(super) fn caches(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for (place, cache) in facts.estate.of(CACHE) {
        any = true;
        one_cache(facts, place, cache, report);
    }
    for (place, cluster) in facts.estate.of("AWS::ElastiCache::CacheCluster") {
        if cluster.str("Engine") != Some("memcached") {
            let what = "a single cache cannot be encrypted: make it a replication group";
            report.add(facts, place, "Engine", what);
        } else if !cluster.yes("TransitEncryptionEnabled") {
            report.add(facts, place, "TransitEncryptionEnabled", "plain connections are let in");
        }
    }
    if !any {
        nowhere(facts, report, "there is no cache");
    }
}

fn one_cache(facts: &Facts<'_>, place: Place, cache: &Resource, report: &mut Report) {
    for (path, what) in [
        ("TransitEncryptionEnabled", "plain connections are let in"),
        ("AtRestEncryptionEnabled", "its snapshots and swap are not encrypted"),
    ] {
        if !cache.yes(path) {
            report.add(facts, place, path, what);
        }
    }
    let path = "TransitEncryptionMode";
    if cache.str(path) == Some("preferred") {
        report.add(facts, place, path, "plain connections are let in beside those over TLS");
    }
    let groups = cache.get("UserGroupIds").map(Value::items).unwrap_or_default();
    if groups.is_empty() {
        report.add(facts, place, "UserGroupIds", "whoever reaches it is let in");
    }
    for group in groups.iter().filter_map(Value::as_str) {
        users(facts, place, group, report);
    }
    let number = |path: &str| cache.get(path).and_then(Value::as_int);
    let path = "SnapshotRetentionLimit";
    let production = facts.estate.is_production();
    let least = if production { PRODUCTION_SNAPSHOTS } else { 1 };
    if number(path).unwrap_or_default() < least {
        report.add(facts, place, path, format!("its snapshots are kept less than {least} days"));
    }
    if !production {
        return;
    }
    for (path, what) in [
        ("MultiAZEnabled", "its nodes may all be in one zone"),
        ("AutomaticFailoverEnabled", "nothing takes over when its first node fails"),
    ] {
        if !cache.yes(path) {
            report.add(facts, place, path, what);
        }
    }
    let nodes = number("NumCacheClusters").unwrap_or(1);
    let replicas = number("ReplicasPerNodeGroup").unwrap_or_default();
    if nodes < 2 && replicas < 1 {
        report.add(facts, place, "NumCacheClusters", "it has one node, and nothing takes over");
    }
}

/// Whether every user of a group must prove who it is.
fn users(facts: &Facts<'_>, place: Place, group: &str, report: &mut Report) {
    let kind = "AWS::ElastiCache::UserGroup";
    let Some((_, group)) = facts.estate.find_of(kind, group) else {
        let what = format!("{group} is no user group of this environment");
        report.add(facts, place, "UserGroupIds", what);
        return;
    };
    let ids = group.get("UserIds").map(Value::items).unwrap_or_default();
    let kind = "AWS::ElastiCache::User";
    for id in ids.iter().filter_map(Value::as_str) {
        let Some((user_place, user)) = facts.estate.find_of(kind, id) else {
            // `default` and others that are made elsewhere: nobody here says how they log in.
            report.add(
                facts,
                place,
                "UserGroupIds",
                format!("{id} is no user of this environment"),
            );
            continue;
        };
        let mode = user.str("AuthenticationMode.Type").unwrap_or("password");
        let passwords = ["Passwords", "AuthenticationMode.Passwords"];
        let has = passwords.iter().any(|p| user.get(p).is_some());
        let proves = mode == "iam" || mode == "password" && has;
        // A user who is off cannot log in with or without a password.
        let off =
            user.str("AccessString").is_some_and(|a| a.split_whitespace().next() == Some("off"));
        if !off && (!proves || user.yes("NoPasswordRequired")) {
            let what = "this user is let in without proof";
            report.add(facts, user_place, "AuthenticationMode.Type", what);
        }
    }
}
