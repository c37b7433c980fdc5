//! All policy documents of an environment, and what each is for: a statement that is right in one is a
//! hole in another.

use std::collections::HashSet;

use crate::{
    estate::{Estate, Place, Resource},
    value::Value,
};

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// What somebody may do.
    Identity,
    /// The upper limit of what somebody may do; grants nothing.
    Boundary,
    /// Who may become a role.
    Trust,
    /// Who may use a resource.
    Resource,
}

/// A policy document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'a> {
    /// Whose property it is.
    pub(super) place: Place,
    /// That.
    pub(super) resource: &'a Resource,
    /// What it is for.
    pub(super) of: Use,
    /// The document itself.
    pub(super) value: &'a Value,
}

/// Types and the properties that hold policies of resources.
const ON_RESOURCES: &[(&str, &str)] = &[
    ("AWS::Backup::BackupVault", "AccessPolicy"),
    ("AWS::EC2::VPCEndpoint", "PolicyDocument"),
    ("AWS::ECR::Repository", "RepositoryPolicyText"),
    ("AWS::KMS::Key", "KeyPolicy"),
    ("AWS::Logs::ResourcePolicy", "PolicyDocument"),
    ("AWS::S3::AccessPoint", "Policy"),
    ("AWS::S3::BucketPolicy", "PolicyDocument"),
    ("AWS::SNS::TopicInlinePolicy", "PolicyDocument"),
    ("AWS::SNS::TopicPolicy", "PolicyDocument"),
    ("AWS::SQS::QueueInlinePolicy", "PolicyDocument"),
    ("AWS::SQS::QueuePolicy", "PolicyDocument"),
    ("AWS::SecretsManager::ResourcePolicy", "ResourcePolicy"),
];

/// All of them, in the order of the estate.
pub(super) fn documents(estate: &Estate) -> Vec<Document<'_>> {
    let boundaries = boundaries(estate);
    estate
        .all()
        .flat_map(|(place, resource)| {
            let of = move |(of, value)| Document { place, resource, of, value };
            of_one(resource, boundaries.contains(&place)).into_iter().map(of)
        })
        .collect()
}

fn of_one(resource: &Resource, is_boundary: bool) -> Vec<(Use, &Value)> {
    let whole = |of: Use| resource.get("PolicyDocument").map(|v| (of, v)).into_iter().collect();
    match resource.kind.as_str() {
        "AWS::IAM::ManagedPolicy" if is_boundary => whole(Use::Boundary),
        "AWS::IAM::ManagedPolicy"
        | "AWS::IAM::Policy"
        | "AWS::IAM::RolePolicy"
        | "AWS::IAM::GroupPolicy"
        | "AWS::IAM::UserPolicy" => whole(Use::Identity),
        "AWS::IAM::Role" | "AWS::IAM::Group" | "AWS::IAM::User" => {
            let inline = resource.get("Policies").map(Value::items).unwrap_or_default();
            let trust = resource.get("AssumeRolePolicyDocument").map(|v| (Use::Trust, v));
            let inline = inline.iter().filter_map(|p| p.get("PolicyDocument"));
            trust.into_iter().chain(inline.map(|v| (Use::Identity, v))).collect()
        }
        kind => {
            let property = ON_RESOURCES.iter().find(|(k, _)| *k == kind).map(|(_, p)| *p);
            let value = property.and_then(|p| resource.get(p));
            value.map(|v| (Use::Resource, v)).into_iter().collect()
        }
    }
}

/// Managed policies that are the boundary of a role and attached to nobody. One that is both grants.
fn boundaries(estate: &Estate) -> HashSet<Place> {
    let identities = ["AWS::IAM::Role", "AWS::IAM::User"];
    let mut named: HashSet<Place> = HashSet::new();
    let mut attached = HashSet::new();
    for (place, resource) in estate.all() {
        if identities.contains(&resource.kind.as_str()) {
            named.extend(resource.str("PermissionsBoundary").and_then(|arn| estate.owner(arn)));
        }
        let arns = resource.get("ManagedPolicyArns").map(Value::items).unwrap_or_default();
        attached.extend(arns.iter().filter_map(Value::as_str).filter_map(|arn| estate.owner(arn)));
        let attaches = ["Roles", "Groups", "Users"].iter().any(|to| resource.get(to).is_some());
        if resource.kind == "AWS::IAM::ManagedPolicy" && attaches {
            attached.insert(place);
        }
    }
    &named - &attached
}
