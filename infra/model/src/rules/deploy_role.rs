//! I03: the role that changes an environment may do what CloudFormation's own schemas say that the types
//! of the templates need, nothing that none of them needs, and nothing that would free it of its limits.
//!
//! `infra/permissions.json` is the digest of the schemas; `infra/tools/permissions.py` makes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Facts, How, Report, Rule,
    grants::{Document, Use, documents},
};
use crate::{
    estate::{Place, Resource},
    policy::{Statement, matches, statements},
    value::{At, Value},
};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "I03",
        title: "Whoever changes the environment may do what its types need and nothing else, makes roles \
                only with the boundary, and can make neither people nor keys",
        pci: &["6.5.4", "7.2.1", "7.2.2", "7.2.5"],
        how: How::Check(deploy_roles),
    }]
}

const DIGEST: &str = include_str!("../../../permissions.json");

/// What palisade-infra itself asks CloudFormation for.
const CLIENT: &[&str] = &[
    "cloudformation:CreateChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeStackEvents",
    "cloudformation:DescribeStacks",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:GetTemplate",
    "cloudformation:ListChangeSets",
    "cloudformation:ListStackResources",
    "cloudformation:TagResource",
    "cloudformation:UntagResource",
    "cloudformation:UpdateTerminationProtection",
];

/// What schemas ask for and the role is not given, and why nothing fails without it.
const NOT_GIVEN: &[(&str, &str)] = &[
    ("acm-pca:*", "certificates are not of a private authority"),
    ("billing:*", "budgets are of the whole account"),
    ("codewhisperer:*", "its logs are not delivered here"),
    ("cognito-idp:*", "listeners do not log people in"),
    ("elasticfilesystem:*", "functions mount no file system"),
    ("firehose:PutRecord*", "services write, not whoever deploys"),
    ("iam:*User*Policy", "no policy is given to users"),
    ("iam:DeleteRolePermissionsBoundary", "no role loses its boundary"),
    ("kms:DisableKey", "keys stay on"),
    ("kms:ScheduleKeyDeletion", "keys are retained when their stack is deleted"),
    ("logs:PutLogEvents", "services write, not whoever deploys"),
    ("organizations:*", "trail and analyzer are of one account"),
    ("resource-groups:*", "associations find hosts by tag"),
    ("route53-recovery-control-config:*", "health checks have no routing control"),
    ("s3:*Object", "code and documents come inline"),
    ("s3:GetObjectVersion", "code and documents come inline"),
    ("s3:PutObjectAcl", "buckets have no access lists"),
    ("s3files:*", "functions mount no file system"),
    ("s3tables:*", "buckets have no metadata tables"),
    ("sts:AssumeRole", "VPC origins are of the same account"),
    ("vpc-lattice:*", "nothing is reached through Lattice"),
    ("vpce:*", "endpoints are of their own region"),
    ("workmail:*", "its logs are not delivered here"),
];

/// What a type needs and its schema does not say: delivering a distribution's log asks CloudFront as well.
const UNSAID: &[(&str, &str)] =
    &[("AWS::Logs::DeliverySource", "cloudfront:AllowVendedLogDeliveryForResource")];

/// What would free it of its limits, and what nobody gets back.
const NEVER: &[&str] = &[
    "iam:AddUserToGroup",
    "iam:AttachUserPolicy",
    "iam:CreateAccessKey",
    "iam:CreateLoginProfile",
    "iam:CreateUser",
    "iam:DeleteRolePermissionsBoundary",
    "iam:PutUserPolicy",
    "iam:UpdateLoginProfile",
    "kms:ScheduleKeyDeletion",
    "organizations:LeaveOrganization",
    "s3:BypassGovernanceRetention",
];

/// What makes a role more than it was; only for roles with a boundary.
const RAISES: &[&str] = &[
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
];

/// Types and what their handlers call.
fn digest() -> BTreeMap<String, Vec<String>> {
    let whole: serde_json::Value = serde_json::from_str(DIGEST).unwrap_or_default();
    let types = whole.get("types").cloned().unwrap_or_default();
    let mut types: BTreeMap<String, Vec<String>> =
        serde_json::from_value(types).unwrap_or_default();
    for (kind, action) in UNSAID {
        types.entry((*kind).to_owned()).or_default().push((*action).to_owned());
    }
    types
}

/// A role that changes stacks, with all that is attached to it.
struct Deployer<'a> {
    place: Place,
    statements: Vec<(Place, Statement<'a>)>,
}

impl Deployer<'_> {
    fn allowed(&self) -> impl Iterator<Item = &(Place, Statement<'_>)> {
        self.statements.iter().filter(|(_, s)| s.allows)
    }

    /// Whether it may do this on something.
    fn may(&self, action: &str) -> bool {
        let denied = self.statements.iter().any(|(_, s)| {
            let always = s.resources.contains(&"*") && s.conditions.is_empty();
            !s.allows && always && s.covers_action(action)
        });
        !denied && self.allowed().any(|(_, s)| s.covers_action(action))
    }
}

fn deploy_roles(facts: &Facts<'_>, report: &mut Report) {
    let digest = digest();
    let needed: BTreeSet<&str> =
        digest.values().flatten().map(String::as_str).chain(CLIENT.iter().copied()).collect();
    let kinds = kinds(facts);
    for (kind, at) in &kinds {
        if !is_custom(kind) && !digest.contains_key(*kind) {
            let what = format!("nobody knows what {kind} needs: it is not in permissions.json");
            report.at(at, &*at.file, what);
        }
    }
    let deployers = deployers(facts);
    if deployers.is_empty() {
        // Whoever deploys is then a person with rights that are nowhere written.
        if let Some(first) = facts.project.stacks.first() {
            report.at(&first.at, "deployment", "no role of the environment may change its stacks");
        }
    }
    for deployer in &deployers {
        lacks(facts, report, deployer, &digest, &kinds);
        exceeds(facts, report, deployer, &needed);
    }
}

/// Types of all templates, those too that this environment makes no use of: the role is there before
/// somebody changes a parameter.
fn kinds<'a>(facts: &Facts<'a>) -> BTreeMap<&'a str, &'a At> {
    let templates = facts.project.templates.iter();
    let resources = templates.filter_map(|t| t.root.get("Resources")).flat_map(Value::entries);
    resources.filter_map(|e| Some((e.value.get("Type")?.as_str()?, &e.at))).collect()
}

fn is_custom(kind: &str) -> bool {
    kind.starts_with("Custom::") || kind == "AWS::CloudFormation::CustomResource"
}

fn deployers<'a>(facts: &Facts<'a>) -> Vec<Deployer<'a>> {
    let all = documents(facts.estate);
    let mut of: BTreeMap<Place, Vec<&Document<'a>>> = BTreeMap::new();
    for document in all.iter().filter(|d| d.of == Use::Identity) {
        of.entry(document.place).or_default().push(document);
    }
    let statements_of = |places: Vec<Place>| -> Vec<(Place, Statement<'a>)> {
        let documents = places.iter().flat_map(|p| of.get(p).into_iter().flatten());
        documents.flat_map(|d| statements(d.value).into_iter().map(|s| (d.place, s))).collect()
    };
    let attached_to = |role: &Resource, place: Place| -> Vec<Place> {
        let arns = role.get("ManagedPolicyArns").map(Value::items).unwrap_or_default();
        let by_role = arns.iter().filter_map(|v| facts.estate.owner(v.as_str()?));
        std::iter::once(place).chain(by_role).collect()
    };
    facts
        .estate
        .of("AWS::IAM::Role")
        .map(|(place, role)| Deployer {
            place,
            statements: statements_of(attached_to(role, place)),
        })
        .filter(|d| d.may("cloudformation:ExecuteChangeSet") || d.may("cloudformation:CreateStack"))
        .collect()
}

fn lacks<'a>(
    facts: &Facts<'_>,
    report: &mut Report,
    deployer: &Deployer<'_>,
    digest: &'a BTreeMap<String, Vec<String>>,
    kinds: &BTreeMap<&'a str, &At>,
) {
    let not_given = |a: &str| NOT_GIVEN.iter().any(|(pattern, _)| matches(pattern, a));
    let mut lacking: BTreeMap<&'a str, Vec<&'a str>> = BTreeMap::new();
    for kind in kinds.keys() {
        let custom = is_custom(kind).then_some("lambda:InvokeFunction");
        let schema = digest.get(*kind).into_iter().flatten().map(String::as_str);
        for action in schema.chain(custom) {
            // `ec2:Get*` of a schema is met by what the other types ask for by name.
            if !action.ends_with('*') && !not_given(action) && !deployer.may(action) {
                lacking.entry(action).or_default().push(kind);
            }
        }
    }
    for action in CLIENT.iter().filter(|a| !deployer.may(a)) {
        lacking.entry(action).or_default().push("palisade-infra");
    }
    if !lacking.is_empty() {
        let what = format!("lacks {} permissions to change this environment", lacking.len());
        let finding = report.add(facts, deployer.place, "", what);
        for (action, kinds) in lacking {
            finding.witness.push(format!("{action} for {}", kinds.join(", ")));
        }
    }
}

fn exceeds(
    facts: &Facts<'_>,
    report: &mut Report,
    deployer: &Deployer<'_>,
    needed: &BTreeSet<&str>,
) {
    for (place, statement) in deployer.allowed() {
        let mut say = |what: String| {
            report.at(statement.at, facts.estate.name(*place), what);
        };
        for pattern in &statement.actions {
            if !needed.iter().any(|action| matches(pattern, action)) {
                say(format!("allows {pattern}, which no type of the templates needs"));
            }
        }
        for action in NEVER.iter().filter(|a| statement.covers_action(a) && deployer.may(a)) {
            say(format!("allows {action}: it could free itself of its limits"));
        }
        let held = statement.condition("iam:PermissionsBoundary").is_some()
            && !statement.resources.iter().any(|r| *r == "*" || r.ends_with(":role/*"));
        if let Some(action) = RAISES.iter().find(|a| statement.covers_action(a) && !held) {
            say(format!("allows {action} without asking for the boundary"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    const DEPLOYER: &str = "
Resources:
  T: { Type: AWS::SNS::Topic }
  P:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Statement:
          - { Effect: Allow, Action: ['cloudformation:*', 'sns:*', 'iam:Get*', 'iam:List*'], Resource: '*' }
          - { Effect: Allow, Action: [iam:*Role, iam:Untag*, iam:*RoleDescription, iam:UpdateAssumeRolePolicy, iam:DeleteRolePolicy, iam:*Group*, iam:*Policy, iam:*PolicyVersion, iam:PutRole*], Resource: 'arn:aws:iam::1:role/palisade/*', Condition: { StringEquals: { iam:PermissionsBoundary: b } } }
          - { Effect: Deny, Action: ['iam:*User*', iam:DeleteRolePermissionsBoundary], Resource: '*' }
  R:
    Type: AWS::IAM::Role
    Properties: { ManagedPolicyArns: [!Ref P] }
";

    #[test]
    fn a_deployer_may_do_what_is_needed_and_no_more() {
        only_these(
            rules,
            "I03",
            DEPLOYER,
            &[
                ("'sns:*'", "'sns:Create*'", "12 t.R: lacks"),
                ("'sns:*'", "'sns:*', 'dynamodb:*'", "9 t.P: allows dynamodb:*, which no type"),
                ("iam:PermissionsBoundary: b", "aws:RequestedRegion: b", "without asking for the"),
                ("role/palisade/*", "role/*", "without asking for the boundary"),
                ("AWS::SNS::Topic", "AWS::X::Y", "nobody knows what AWS::X::Y needs"),
                ("[!Ref P]", "[]", "no role of the environment may change"),
            ],
        );
        let free = DEPLOYER.replace("'iam:*User*', ", "").replace("iam:*Policy,", "iam:*,");
        let said = found(rules(), "I03", &free);
        assert!(said.iter().any(|s| s.contains("allows iam:CreateUser")), "{said:?}");
    }

    #[test]
    fn every_exception_is_one_that_a_schema_asks_for() {
        let digest = digest();
        assert!(digest.len() > 100);
        for (pattern, why) in NOT_GIVEN {
            let asked = digest.values().flatten().any(|action| matches(pattern, action));
            assert!(asked && !why.is_empty(), "{pattern}");
        }
    }
}
