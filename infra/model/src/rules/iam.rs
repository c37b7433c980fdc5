//! I01: nobody may do everything, nobody unknown may do anything, and no role is made that is not held
//! back by a boundary. Principals of KMS keys are judged by the rules of data.

use super::{
    Facts, How, Report, Rule, admit,
    grants::{Document, Use, documents},
};
use crate::{
    estate::{Place, Resource},
    policy::{Statement, matches, statements},
    value::Value,
};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "I01",
        title: "No principal and no action is a wildcard, every role has a boundary, roles are handed \
                only to services, and services act for this account only",
        pci: &["7.2.1", "7.2.2", "7.2.5", "7.3.1", "7.3.2", "7.3.3"],
        how: How::Check(iam),
    }]
}

/// Actions that on every resource are worth a whole account, unless a condition narrows them.
const NEVER_ON_ALL: &[&str] = &[
    "cloudwatch:PutMetricData",
    "iam:AttachRolePolicy",
    "iam:CreateAccessKey",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "kms:Decrypt",
    "lambda:InvokeFunction",
    "lambda:UpdateFunctionCode",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:PutBucketPolicy",
    "s3:PutObject",
    "secretsmanager:GetSecretValue",
    "ssm:GetParameter",
    "ssm:PutParameter",
    "sts:AssumeRole",
];

/// What a host says of itself, and what ends one: not of every host of the account.
const ON_HOSTS: &[&str] = &[
    "ec2:TerminateInstances",
    "ssm:PutComplianceItems",
    "ssm:PutInventory",
    "ssm:UpdateInstanceInformation",
];

fn iam(facts: &Facts<'_>, report: &mut Report) {
    let all = documents(facts.estate);
    for document in &all {
        for statement in statements(document.value).iter().filter(|s| s.allows) {
            match document.of {
                Use::Identity => grant(facts, report, document, statement),
                Use::Boundary => limit(facts, report, document, statement),
                Use::Trust | Use::Resource => admit::judge(facts, report, document, statement),
            }
        }
    }
    for (place, role) in facts.estate.of("AWS::IAM::Role") {
        role_itself(facts, report, place, role, &all);
    }
    for (place, permission) in facts.estate.of("AWS::Lambda::Permission") {
        let who = permission.str("Principal").unwrap_or_default();
        let for_whom = ["SourceAccount", "SourceArn"].iter().any(|p| permission.get(p).is_some());
        if who == "*" || who.ends_with(".amazonaws.com") && !for_whom {
            let what = format!("lets {who} call the function for any account");
            report.add(facts, place, "Principal", what);
        }
    }
}

pub(super) fn say(
    facts: &Facts<'_>,
    report: &mut Report,
    document: &Document<'_>,
    one: &Statement<'_>,
    what: String,
) {
    let finding = report.at(one.at, facts.estate.name(document.place), what);
    finding.witness.push(statement_text(one));
}

/// The statement in one line.
fn statement_text(one: &Statement<'_>) -> String {
    let some = |all: &[&str]| match all {
        [] => "-".to_owned(),
        [first] => (*first).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let conditions: Vec<_> = one.conditions.iter().map(|(_, key, _)| *key).collect();
    format!(
        "Allow {}{} on {}{}, if {}",
        if one.not_action { "all but " } else { "" },
        some(&one.actions),
        if one.not_resource { "all but " } else { "" },
        some(&one.resources),
        some(&conditions)
    )
}

/// Whether a resource pattern means everything of every service.
pub(super) fn is_all(resource: &str) -> bool {
    !resource.is_empty() && resource.chars().all(|c| c == '*')
}

fn grant(facts: &Facts<'_>, report: &mut Report, document: &Document<'_>, one: &Statement<'_>) {
    if one.not_action {
        say(facts, report, document, one, "allows all actions but those it names".into());
        return;
    }
    let whole = |a: &&&str| is_all(a) || a.split_once(':').is_some_and(|(_, what)| is_all(what));
    if let Some(action) = one.actions.iter().find(whole) {
        say(facts, report, document, one, format!("allows {action}"));
        return;
    }
    if one.covers_action("iam:PassRole") {
        let to = one.condition("iam:PassedToService").unwrap_or_default();
        let wide = one.not_resource
            || one.resources.iter().any(|r| matches(r, "arn:aws:iam::000000000000:role/any"));
        if wide || one.resources.iter().any(|r| r.ends_with(":role/*")) {
            say(facts, report, document, one, "hands any role of the account to a service".into());
        } else if to.is_empty() || to.iter().any(|service| service.contains('*')) {
            let what = "hands a role to any service: no iam:PassedToService says to which";
            say(facts, report, document, one, what.into());
        }
    }
    if let Some(action) = ON_HOSTS.iter().find(|a| one.covers_action(a)) {
        let any_host = one.covers_resource(&format!(
            "arn:aws:ec2:{}:{}:instance/i-0",
            facts.estate.region, facts.estate.account
        ));
        if any_host && one.conditions.is_empty() {
            say(facts, report, document, one, format!("allows {action} on every host"));
            return;
        }
    }
    let on_all = one.not_resource || one.resources.iter().any(|r| is_all(r));
    let risky = NEVER_ON_ALL.iter().find(|a| one.covers_action(a));
    if let Some(action) = risky.filter(|_| on_all && one.conditions.is_empty()) {
        say(facts, report, document, one, format!("allows {action} on every resource"));
    }
}

/// A boundary names services, but what makes people and lifts boundaries is beyond it.
fn limit(facts: &Facts<'_>, report: &mut Report, document: &Document<'_>, one: &Statement<'_>) {
    if one.not_action || one.actions.iter().any(|a| is_all(a)) {
        say(facts, report, document, one, "is a boundary that lets everything through".into());
    } else if one.actions.iter().any(|a| matches(a, "iam:CreateUser") && !a.contains("CreateUser"))
    {
        say(facts, report, document, one, "is a boundary that leaves IAM open".into());
    }
}

fn role_itself(
    facts: &Facts<'_>,
    report: &mut Report,
    place: Place,
    role: &Resource,
    all: &[Document<'_>],
) {
    let boundary = role.str("PermissionsBoundary");
    let owner = boundary.and_then(|arn| facts.estate.owner(arn));
    let is_ours = owner.is_some_and(|o| all.iter().any(|d| d.place == o));
    match boundary {
        None => {
            report.add(facts, place, "", "is a role without a permissions boundary");
        }
        Some(arn) if !is_ours => {
            let what = format!("has the boundary {arn}, which is no policy of the environment");
            report.add(facts, place, "PermissionsBoundary", what);
        }
        Some(_) => {}
    }
    let policies = role.get("ManagedPolicyArns").map(Value::items).unwrap_or_default();
    for (i, policy) in policies.iter().enumerate() {
        let name = policy.as_str().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
        let whole = name.ends_with("FullAccess")
            || ["AdministratorAccess", "PowerUserAccess"].iter().any(|p| name.starts_with(p));
        if whole {
            let what =
                format!("has AWS's own policy {name}, which is not limited to anything here");
            report.add(facts, place, &format!("ManagedPolicyArns.{i}"), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::only_these;

    const ROLES: &str = "
Resources:
  B:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Statement:
          - { Effect: Allow, Action: ['ec2:*', 'iam:PassRole'], Resource: '*' }
  R:
    Type: AWS::IAM::Role
    Properties:
      PermissionsBoundary: !Ref B
      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore']
      AssumeRolePolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { Service: ecs-tasks.amazonaws.com }
            Action: sts:AssumeRole
            Condition: { StringEquals: { aws:SourceAccount: '111122223333' } }
      Policies:
        - PolicyName: p
          PolicyDocument:
            Statement:
              - { Effect: Allow, Action: 's3:Get*', Resource: 'arn:aws:s3:::a/*' }
              - Effect: Allow
                Action: iam:PassRole
                Resource: arn:aws:iam::111122223333:role/palisade/*
                Condition: { StringEquals: { iam:PassedToService: ecs-tasks.amazonaws.com } }
              - { Effect: Deny, NotAction: 'iam:*', Resource: '*' }
  P:
    Type: AWS::S3::BucketPolicy
    Properties:
      PolicyDocument:
        Statement:
          - { Effect: Deny, Principal: '*', Action: 's3:*', Resource: '*' }
          - Effect: Allow
            Principal: { Service: cloudtrail.amazonaws.com }
            Action: s3:PutObject
            Resource: arn:aws:s3:::a/*
            Condition: { ArnLike: { aws:SourceArn: 'arn:aws:cloudtrail:*:111122223333:trail/*' } }
  L:
    Type: AWS::Lambda::Permission
    Properties: { Principal: secretsmanager.amazonaws.com, SourceAccount: '111122223333' }
";

    #[test]
    fn roles_and_policies_are_held_to_their_rule() {
        only_these(
            rules,
            "I01",
            ROLES,
            &[
                ("'ec2:*'", "'*'", "8 t.B: is a boundary that lets everything"),
                ("'ec2:*'", "'iam:*'", "leaves IAM open"),
                ("AmazonSSMManagedInstanceCore", "AmazonS3FullAccess", "AmazonS3FullAccess"),
                ("Service: ecs-tasks.amazonaws.com", "AWS: '*'", "anybody become the role"),
                (
                    "StringEquals: { aws:SourceAccount",
                    "StringNotEquals: { aws:SourceAccount",
                    "whichever",
                ),
                ("'s3:Get*'", "'s3:*'", "t.R: allows s3:*"),
                ("Action: 's3:Get*'", "NotAction: 's3:Get*'", "all actions but"),
                ("'arn:aws:s3:::a/*'", "'*'", "allows s3:GetObject on every resource"),
                ("role/palisade/*", "role/*", "hands any role"),
                ("iam:PassedToService", "aws:RequestedRegion", "to any service"),
                (
                    "ArnLike: { aws:SourceArn: 'arn:aws",
                    "Null: { aws:x: 'arn:aws",
                    "whichever account",
                ),
                ("'arn:aws:cloudtrail:*:111122223333:trail/*'", "'*'", "whichever account"),
                ("SourceAccount: '111122223333' }\n", "FunctionName: f }\n", "for any account"),
            ],
        );
        only_these(
            rules,
            "I01",
            ROLES,
            &[(
                "Principal: { Service: cloudtrail.amazonaws.com }\n            Action: s3:PutObject\n            Resource: arn:aws:s3:::a/*\n            Condition:",
                "Principal: '*'\n            Action: s3:PutObject\n            Resource: arn:aws:s3:::a/*\n            Ignored:",
                "lets anybody in",
            )],
        );
    }

    #[test]
    fn a_role_without_a_boundary_is_found_and_its_policy_is_then_one_that_grants() {
        let without = ROLES.replace("      PermissionsBoundary: !Ref B\n", "");
        let said = crate::rules::small::found(rules(), "I01", &without);
        assert!(said.iter().any(|s| s.contains("t.R: is a role without")), "{said:?}");
        assert!(said.iter().any(|s| s.contains("t.B: allows ec2:*")), "{said:?}");
        let other = ROLES.replace("Boundary: !Ref B", "Boundary: arn:aws:iam::1:policy/x");
        let said = crate::rules::small::found(rules(), "I01", &other);
        assert!(said.iter().any(|s| s.contains("no policy of the environment")), "{said:?}");
    }
}
