//! I02, I04: who may become a role from outside: workflows by their exact repository and environment,
//! people by a second factor and for an hour.

use std::collections::BTreeSet;

use super::{
    Facts, How, Report, Rule,
    grants::{Document, Use, documents},
};
use crate::policy::{Statement, statements};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            id: "I02",
            title: "A workflow of GitHub becomes a role only for its audience and from the exact \
                    repository and environment",
            pci: &["7.2.2", "7.2.5", "8.2.7", "8.6.1"],
            how: How::Check(workflows),
        },
        Rule {
            id: "I04",
            title: "People become a role only with a second factor and for an hour at most, and there are \
                    no users with keys",
            pci: &["8.2.8", "8.3.1", "8.4.1", "8.4.2", "8.6.2"],
            how: How::Check(people),
        },
    ]
}

const GITHUB: &str = "token.actions.githubusercontent.com";
/// The most that IAM gives without being asked, and the most allowed here.
const HOUR: i64 = 3600;

fn trusts<'a>(facts: &Facts<'a>) -> Vec<Document<'a>> {
    documents(facts.estate).into_iter().filter(|d| d.of == Use::Trust).collect()
}

fn workflows(facts: &Facts<'_>, report: &mut Report) {
    let mut any = false;
    for document in trusts(facts) {
        for one in statements(document.value).iter().filter(|s| s.allows) {
            let web = one.covers_action("sts:AssumeRoleWithWebIdentity");
            let github = one.principals.iter().any(|(_, who)| who.ends_with(GITHUB));
            if !web || !github {
                continue;
            }
            any = true;
            for what in lacking(one) {
                let finding = report.at(one.at, facts.estate.name(document.place), what);
                for (operator, key, values) in &one.conditions {
                    finding.witness.push(format!("{operator} {key}: {}", values.join(", ")));
                }
            }
        }
    }
    // The product is deployed from GitHub.
    if let Some((place, _)) = facts.estate.of("AWS::CodeDeploy::Application").next()
        && !any
    {
        report.add(facts, place, "", "is deployed by nobody: no role trusts workflows of GitHub");
    }
}

/// What the statement does not ask of a workflow.
fn lacking(one: &Statement<'_>) -> Vec<String> {
    let exact = |claim: &str| -> Vec<&String> {
        let key = format!("{GITHUB}:{claim}");
        one.conditions
            .iter()
            .filter(|(operator, k, _)| *operator == "StringEquals" && k.eq_ignore_ascii_case(&key))
            .flat_map(|(_, _, values)| values)
            .collect()
    };
    let mut lacks = Vec::new();
    let audience = exact("aud");
    if audience.is_empty() || audience.iter().any(|a| *a != "sts.amazonaws.com") {
        lacks.push("takes tokens that are not made for AWS".to_owned());
    }
    let subjects = exact("sub");
    if subjects.is_empty() {
        lacks.push("takes tokens of any repository: no exact `sub` is asked for".to_owned());
    }
    for subject in subjects.iter().filter(|s| !is_environment(s)) {
        lacks.push(format!("{subject} is not one repository and one environment of it"));
    }
    lacks
}

/// Whether it is `repo:OWNER/NAME:environment:NAME`.
fn is_environment(subject: &str) -> bool {
    let parts: Vec<_> = subject.split(':').collect();
    let [repo, name, environment, which] = parts.as_slice() else { return false };
    let plain = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && text.chars().all(fits)
    };
    let whole = name.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
    *repo == "repo" && *environment == "environment" && whole && plain(which)
}

fn people(facts: &Facts<'_>, report: &mut Report) {
    let account = &facts.estate.account;
    let (mut any, mut humans) = (false, BTreeSet::new());
    for document in trusts(facts) {
        for one in statements(document.value).iter().filter(|s| s.allows) {
            // Roles that become other roles are machines; another account's are strangers.
            let outside = one.principals.iter().filter(|(kind, who)| {
                // Everybody at once is a matter of wildcards.
                *kind == "AWS"
                    && *who != "*"
                    && facts.estate.find(who).is_none_or(|r| r.kind != "AWS::IAM::Role")
            });
            for (_, who) in outside {
                if account_of(who) != Some(account.as_str()) {
                    if one.condition("sts:ExternalId").is_none() {
                        let what = format!("lets {who} in without an external id");
                        report.at(one.at, facts.estate.name(document.place), what);
                    }
                    continue;
                }
                any = true;
                humans.insert(document.place);
                let finding = |what: String, report: &mut Report| {
                    report.at(one.at, facts.estate.name(document.place), what);
                };
                if !second_factor(one) {
                    finding(format!("lets {who} in without a second factor"), report);
                }
            }
        }
    }
    for (place, role) in humans.iter().filter_map(|p| Some((*p, facts.estate.resource(*p)?))) {
        let length = role.get("MaxSessionDuration").map(|v| (v, v.as_int()));
        if let Some((_, seconds)) = length.filter(|(_, s)| s.is_none_or(|s| s > HOUR)) {
            let hours = seconds.map_or_else(|| "?".to_owned(), |s| s.to_string());
            let what = format!("gives sessions of {hours} seconds; {HOUR} is the most");
            report.add(facts, place, "MaxSessionDuration", what);
        }
    }
    for kind in ["AWS::IAM::User", "AWS::IAM::AccessKey"] {
        for (place, _) in facts.estate.of(kind) {
            report.add(facts, place, "", "makes a user or a key that does not expire");
        }
    }
    let (hosts, stack) =
        (facts.estate.of("AWS::SSM::Document").next(), facts.project.stacks.first());
    if let Some(first) = stack.filter(|_| !any && hosts.is_some()) {
        report.at(&first.at, "roles of people", "no role that people may become is there");
    }
}

/// Whose account a principal is of: the fifth part of an ARN, or the whole of a bare number.
fn account_of(who: &str) -> Option<&str> {
    if who.starts_with("arn:") { who.split(':').nth(4) } else { Some(who) }
}

/// Whether it asks for a second factor, of callers too that have no such key: `IfExists` would let in
/// whoever comes with an access key alone.
fn second_factor(one: &Statement<'_>) -> bool {
    one.conditions.iter().any(|(operator, key, values)| {
        *operator == "Bool"
            && key.eq_ignore_ascii_case("aws:MultiFactorAuthPresent")
            && !values.is_empty()
            && values.iter().all(|v| v == "true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    const DEPLOY: &str = "
Resources:
  A: { Type: AWS::CodeDeploy::Application }
  R:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { Federated: 'arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com' }
            Action: sts:AssumeRoleWithWebIdentity
            Condition:
              StringEquals:
                token.actions.githubusercontent.com:aud: sts.amazonaws.com
                token.actions.githubusercontent.com:sub: repo:acme/shop:environment:prod
";

    #[test]
    fn workflows_are_held_to_their_rule() {
        only_these(
            rules,
            "I02",
            DEPLOY,
            &[
                (":aud: sts.amazonaws.com", ":aud: '*'", "9 t.R: takes tokens that are not made"),
                (":sub: repo", ":ref: repo", "of any repository"),
                ("acme/shop:", "acme/*:", "is not one repository"),
                ("environment:prod", "ref:refs/heads/main", "is not one repository"),
                ("oidc-provider/token", "oidc-provider/other", "t.A: is deployed by nobody"),
            ],
        );
        let wide = found(rules(), "I02", &DEPLOY.replace("StringEquals", "StringLike"));
        assert_eq!(wide.len(), 2, "{wide:?}");
    }

    const PEOPLE: &str = "
Resources:
  D: { Type: AWS::SSM::Document }
  R:
    Type: AWS::IAM::Role
    Properties:
      MaxSessionDuration: 3600
      AssumeRolePolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { AWS: 'arn:aws:iam::111122223333:root' }
            Action: sts:AssumeRole
            Condition: { Bool: { aws:MultiFactorAuthPresent: 'true' } }
  Workflow:
    Type: AWS::IAM::Role
    Properties:
      MaxSessionDuration: 7200
      AssumeRolePolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { Federated: 'arn:aws:iam::111122223333:oidc-provider/x' }
            Action: sts:AssumeRoleWithWebIdentity
  Machine:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: { Effect: Allow, Principal: { AWS: !GetAtt R.Arn }, Action: 'sts:AssumeRole' }
  Stranger:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { AWS: '999999999999' }
            Action: sts:AssumeRole
            Condition: { StringEquals: { sts:ExternalId: x } }
";

    #[test]
    fn an_account_is_a_part_of_an_arn_and_not_of_a_name() {
        for (who, account) in [
            ("arn:aws:iam::111122223333:root", "111122223333"),
            ("arn:aws:iam::999999999999:role/of-111122223333", "999999999999"),
            ("111122223333", "111122223333"),
        ] {
            assert_eq!(account_of(who), Some(account), "{who}");
        }
    }

    #[test]
    fn people_are_held_to_their_rule() {
        only_these(
            rules,
            "I04",
            PEOPLE,
            &[
                (
                    "Bool:",
                    "BoolIfExists:",
                    "10 t.R: lets arn:aws:iam::111122223333:root in without",
                ),
                ("Present: 'true'", "Present: 'false'", "without a second factor"),
                ("Present: 'true'", "Present: []", "without a second factor"),
                ("Duration: 3600", "Duration: 43200", "sessions of 43200 seconds"),
                ("sts:ExternalId", "aws:RequestedRegion", "without an external id"),
                ("AWS::SSM::Document", "AWS::IAM::AccessKey", "does not expire"),
            ],
        );
        let nobody = "Resources:\n  D: { Type: AWS::SSM::Document }\n";
        assert!(found(rules(), "I04", nobody)[0].contains("no role that people may become"));
    }
}
