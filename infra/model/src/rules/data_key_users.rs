//! D04, of those who use keys: people and programs get at data, backups and secrets through the service that
//! holds them, which has its own say and its own log; a key that opens things by itself opens all of
//! them. Logs' keys are left out: Session Manager's agent asks KMS itself.

use std::collections::BTreeSet;

use super::{
    Facts, Report,
    grants::{Use, documents},
};
use crate::{
    estate::Place,
    policy::{Statement, statements},
};

/// What makes a plain text, or a key that does.
const USES: &[&str] = &["kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom"];

/// Judges the policies of identities; `keys` are those of data, backups and secrets.
pub(super) fn judge(facts: &Facts<'_>, keys: &BTreeSet<Place>, report: &mut Report) {
    for document in documents(facts.estate).iter().filter(|d| d.of == Use::Identity) {
        for one in statements(document.value).iter().filter(|s| s.allows) {
            let key = one
                .resources
                .iter()
                .find(|arn| facts.estate.owner(arn).is_some_and(|place| keys.contains(&place)));
            let Some(key) = key else { continue };
            let name = facts.estate.owner(key).map(|place| facts.estate.name(place));
            let name = name.unwrap_or_default();
            let mut tell = |what: String| {
                report.at(one.at, facts.estate.name(document.place), what);
            };
            if let Some(action) = USES.iter().find(|a| one.covers_action(a) && !through(one)) {
                tell(format!("allows {action} with {name} without a service between"));
            } else if one.covers_action("kms:CreateGrant") && !for_service(one) {
                tell(format!("may let anybody use {name}: its grants are not for services only"));
            }
        }
    }
}

fn through(one: &Statement<'_>) -> bool {
    ["kms:ViaService", "aws:CalledViaFirst"].iter().any(|key| one.condition(key).is_some())
}

fn for_service(one: &Statement<'_>) -> bool {
    one.condition("kms:GrantIsForAWSResource").is_some_and(|v| v.iter().all(|v| v == "true"))
        || through(one)
}
