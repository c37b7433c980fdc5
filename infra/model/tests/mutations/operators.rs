//! Kinds of single edits that weaken what the templates promise. An operator lists every place of the
//! sources where it applies; which of them is made is left to chance.

use palisade_infra_model::{At, Project, Value, project::Edit, stateful::holds_data, value::Kind};

use super::sources::Change;

/// An edit and the operator that it is of.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) operator: &'static str,
    pub(crate) at: At,
    pub(crate) change: Change,
}

/// Every edit that every operator could make.
pub(crate) fn all(project: &Project) -> Vec<Candidate> {
    let mut found = Vec::new();
    for template in &project.templates {
        let resources = template.root.get("Resources").map(Value::entries).unwrap_or_default();
        for resource in resources {
            let kind = resource.value.get("Type").and_then(Value::as_str).unwrap_or_default();
            let mut places = Places { file: &template.file, kind, found: &mut found };
            if let Some(properties) = resource.value.get("Properties") {
                places.walk(&format!("Resources.{}.Properties", resource.key), properties);
            }
            // Of others it decides about nothing that could be lost; a cluster's data are the cluster's.
            let of_cluster = resource.value.path("Properties.DBClusterIdentifier").is_some();
            let keeps = ["DeletionPolicy", "UpdateReplacePolicy"]
                .iter()
                .filter(|_| holds_data(kind) && !of_cluster);
            for policy in keeps {
                if let Some(entry) = resource.value.entry(policy) {
                    let path = format!("Resources.{}.{policy}", resource.key);
                    places.add("drop the policy", &path, &entry.at, Edit::Remove);
                }
            }
        }
    }
    found
}

/// The places of one resource.
struct Places<'a> {
    file: &'a str,
    kind: &'a str,
    found: &'a mut Vec<Candidate>,
}

impl Places<'_> {
    fn add(&mut self, operator: &'static str, path: &str, at: &At, edit: Edit) {
        let change = Change { file: self.file.to_owned(), path: path.to_owned(), edit };
        self.found.push(Candidate { operator, at: at.clone(), change });
    }

    fn walk(&mut self, path: &str, value: &Value) {
        match &value.kind {
            Kind::Map(entries) => {
                let statement = value.get("Effect").is_some();
                // A wider denial is no weakness.
                let allows = value.get("Effect").is_some_and(|e| e.is("Allow"));
                for entry in entries {
                    let path = format!("{path}.{}", entry.key);
                    if allows {
                        self.at_statement(&entry.key, &path, &entry.at);
                    } else if !statement {
                        self.at_key(&entry.key, &path, &entry.at, &entry.value);
                    }
                    self.walk(&path, &entry.value);
                }
            }
            Kind::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.walk(&format!("{path}.{i}"), item);
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) => {}
        }
    }

    fn at_statement(&mut self, key: &str, path: &str, at: &At) {
        let all = || Edit::Set(Value::text(at, "*"));
        match key {
            // IAM itself refuses other actions than those of STS in a trust policy.
            "Action" if !path.contains("AssumeRolePolicyDocument") => {
                self.add("every action", path, at, all());
            }
            "Principal" => self.add("everybody", path, at, all()),
            "Condition" => self.add("drop the condition", path, at, Edit::Remove),
            _ => {}
        }
    }

    fn at_key(&mut self, key: &str, path: &str, at: &At, value: &Value) {
        let set = |text: &str| Edit::Set(Value::text(at, text));
        let group = self.kind.starts_with("AWS::EC2::SecurityGroup");
        let firewall = group || self.kind == "AWS::EC2::NetworkAclEntry";
        match (key, &value.kind) {
            ("CidrIp" | "CidrBlock", _) if firewall && !value.is("0.0.0.0/0") => {
                self.add("widen to the world", path, at, set("0.0.0.0/0"));
            }
            ("SourceSecurityGroupId" | "SourcePrefixListId" | "DestinationSecurityGroupId", _)
                if group =>
            {
                self.add("drop the other side", path, at, Edit::Remove);
            }
            ("IpProtocol", _) if group => self.add("every protocol", path, at, set("-1")),
            ("FromPort", _) if group => self.add("from port 0", path, at, set("0")),
            ("ToPort", _) if group => self.add("to port 65535", path, at, set("65535")),
            (
                "KmsKeyId" | "KmsMasterKeyId" | "KMSMasterKeyID" | "KMSKeyId" | "EncryptionKeyArn",
                _,
            ) => {
                self.add("drop the key", path, at, Edit::Remove);
            }
            (
                "PermissionsBoundary"
                | "RetentionInDays"
                | "WebACLId"
                | "OKActions"
                | "AlarmActions",
                _,
            ) => {
                self.add("drop the guard", path, at, Edit::Remove);
            }
            (_, Kind::Bool(b)) if SWITCHES.contains(&key) => {
                let other = Value::new(at, Kind::Bool(!b));
                self.add("flip the switch", path, at, Edit::Set(other));
            }
            _ => {}
        }
    }
}

/// Truth values that secure something.
const SWITCHES: &[&str] = &[
    "AssignPublicIp",
    "AssociatePublicIpAddress",
    "AtRestEncryptionEnabled",
    "AutomaticFailoverEnabled",
    "BlockPublicAcls",
    "BlockPublicPolicy",
    "CopyTagsToSnapshot",
    "DeletionProtection",
    "EnableIAMDatabaseAuthentication",
    "EnableKeyRotation",
    "EnableLogFileValidation",
    "Encrypted",
    "IgnorePublicAcls",
    "IsMultiRegionTrail",
    "MapPublicIpOnLaunch",
    "MultiAZEnabled",
    "PubliclyAccessible",
    "ReadonlyRootFilesystem",
    "RestrictPublicBuckets",
    "StorageEncrypted",
    "TransitEncryptionEnabled",
];
