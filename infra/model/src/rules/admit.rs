//! I01, of whom roles and resources admit: nobody unknown, no service on a stranger's behalf, and nobody to
//! do everything. Conditions that name a caller's account, role or network tie callers; those that name
//! a source tie services, of which one must be named.

use super::{
    Facts, Report,
    grants::{Document, Use},
    iam::{is_all, say},
};
use crate::policy::Statement;

/// Conditions that tie callers to an account, a role, an organisation or a network.
const CALLER: &[&str] = &[
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "kms:calleraccount",
];

/// Conditions that tie what a service does to whom it does it for.
const SOURCE: &[&str] = &["aws:sourceaccount", "aws:sourcearn", "aws:sourceowner"];

/// Beginnings of keys that KMS gets from services: what is encrypted holds the account's number.
const CONTEXT: &str = "kms:encryptioncontext:";

/// Services that act for whoever asks them; AWS documents that they say for whom.
const DEPUTIES: &[&str] = &[
    "backup.amazonaws.com",
    "cloudtrail.amazonaws.com",
    "codedeploy.amazonaws.com",
    "config.amazonaws.com",
    "ecs-tasks.amazonaws.com",
    "firehose.amazonaws.com",
    "monitoring.rds.amazonaws.com",
    "scheduler.amazonaws.com",
    "ssm.amazonaws.com",
    "streams.metrics.cloudwatch.amazonaws.com",
    "vpc-flow-logs.amazonaws.com",
];

pub(super) fn judge(
    facts: &Facts<'_>,
    report: &mut Report,
    document: &Document<'_>,
    one: &Statement<'_>,
) {
    let key = document.resource.kind == "AWS::KMS::Key";
    let caller = tied(one, |key| CALLER.contains(&key));
    let source = tied(one, |k| SOURCE.contains(&k) || key && k.starts_with(CONTEXT));
    let anybody = one.not_principal || one.principals.iter().any(|(_, who)| is_all(who));
    if anybody && document.of == Use::Trust {
        say(facts, report, document, one, "lets anybody become the role".into());
    } else if anybody && !key && !caller && !open_on_purpose(document, one) {
        say(facts, report, document, one, "lets anybody in".into());
    }
    if document.of == Use::Resource {
        everything(facts, report, document, one);
    }
    // A resource's or a role's service acts for any account that asks it, unless it is told for whom.
    let service = one.principals.iter().find(|(kind, who)| {
        let deputy = match document.of {
            Use::Trust => DEPUTIES.contains(who),
            // For whom alerts are published is the rule of alarms'.
            _ => document.resource.kind != "AWS::SNS::TopicPolicy",
        };
        *kind == "Service" && deputy
    });
    let external = one.condition("sts:ExternalId").is_some();
    if let Some((_, service)) = service.filter(|_| !caller && !source && !external) {
        let what = format!("trusts {service} whichever account it acts for");
        say(facts, report, document, one, what);
    }
}

/// Whether a condition with such a key holds for every call that the statement allows.
fn tied(one: &Statement<'_>, keys: impl Fn(&str) -> bool) -> bool {
    one.conditions.iter().any(|(operator, key, values)| {
        keys(&key.to_ascii_lowercase())
            && !operator.contains("Not")
            && !operator.ends_with("IfExists")
            && !values.iter().any(|v| is_all(v))
    })
}

/// Who may do everything with a resource: the account itself with a key, lest nobody can mend its policy,
/// and known callers with the one service that an endpoint is for.
fn everything(
    facts: &Facts<'_>,
    report: &mut Report,
    document: &Document<'_>,
    one: &Statement<'_>,
) {
    let account = format!(":{}:root", facts.estate.account);
    let owner = one.principals.iter().all(|(kind, who)| *kind == "AWS" && who.ends_with(&account))
        || document.resource.kind == "AWS::EC2::VPCEndpoint" && tied(one, |k| CALLER.contains(&k));
    let anybody = document.resource.kind == "AWS::KMS::Key"
        && one.principals.iter().any(|(_, who)| is_all(who));
    let whole = |action: &&&str| match action.split_once(':') {
        None => is_all(action),
        // That a key is everybody's is told by the rule of keys.
        Some((_, what)) => is_all(what) && !owner && !anybody,
    };
    if let Some(action) = one.actions.iter().find(whole) {
        say(facts, report, document, one, format!("lets in for {action}"));
    }
}

/// An endpoint's policy limits which resources of AWS are reached through it; who may use them, the
/// callers' own policies say.
fn open_on_purpose(document: &Document<'_>, one: &Statement<'_>) -> bool {
    document.resource.kind == "AWS::EC2::VPCEndpoint"
        && !one.not_resource
        && !one.resources.iter().any(|r| is_all(r))
}
