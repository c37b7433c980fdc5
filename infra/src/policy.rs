//! What a change set must not do, whoever asks for it: replace or remove what holds data, or touch a
//! VPC origin that the distribution uses. Pure. Invariant: plan and apply ask the same question, apply
//! of the very change set that it carries out.

use std::{collections::BTreeSet, fmt};

use palisade_infra_model::stateful::{holds_data, is_member_in};
use serde_json::Value;

use crate::cfn::{Action, Change, Live, Replacement};

const VPC_ORIGIN: &str = "AWS::CloudFront::VpcOrigin";
/// The output of the stack with the distribution that says which of its VPC origins is in use.
const ACTIVE: &str = "ActiveOrigin";

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What it holds would be lost.
    Loss { resource: String, kind: String, how: &'static str },
    /// CloudFront refuses every update of a VPC origin in use, and the stack would roll back.
    OriginInUse { resource: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { resource, kind, how } => {
                write!(f, "{resource} ({kind}) holds data and would be {how}")
            }
            Self::OriginInUse { resource } => write!(
                f,
                "{resource} is the VPC origin in use, which CloudFront lets nobody change, tags included"
            ),
        }
    }
}

impl Refusal {
    /// What to do instead.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Loss { resource, .. } => format!(
                "take a backup and keep the property as it is, or say --allow-data-loss {resource}"
            ),
            Self::OriginInUse { .. } => {
                "change the other VPC origin, then switch ActiveOrigin to it \
                                         in an update of its own"
                    .to_owned()
            }
        }
    }
}

/// What somebody said may be lost: `stack` or `stack.Resource`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(BTreeSet<String>);

impl Allowed {
    pub(crate) fn new(words: &[String]) -> Self {
        Self(words.iter().cloned().collect())
    }

    /// This very resource was named.
    pub(crate) fn resource(&self, stack: &str, logical: &str) -> bool {
        self.0.contains(&format!("{stack}.{logical}"))
    }

    /// The resource was named, or its whole stack.
    pub(crate) fn resource_or_stack(&self, stack: &str, logical: &str) -> bool {
        self.0.contains(stack) || self.resource(stack, logical)
    }

    /// The first word that means none of these stacks or their resources.
    pub(crate) fn unknown(&self, known: impl Fn(&str) -> bool) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|word| !known(word))
    }
}

/// Whether the template that is deployed has to be known to judge a change.
pub(crate) fn wants_template(changes: &[Change]) -> bool {
    changes.iter().any(|c| holds_data(&c.kind) && c.action != Action::Add)
}

/// Why these changes of a stack must not be made. `live` is the stack as it is, `deployed` the template
/// that it was made of: what would be lost is what is there, whatever the new template makes of it.
pub(crate) fn refusals(
    stack: &str,
    deployed: Option<&Value>,
    changes: &[Change],
    live: Option<&Live>,
    allowed: &Allowed,
) -> Vec<Refusal> {
    let is_member = |c: &Change| deployed.is_some_and(|t| is_member_in(t, &c.logical));
    let holds = |c: &Change| holds_data(&c.kind) && !is_member(c);
    let active = live.and_then(|l| l.outputs.get(ACTIVE)).map(String::as_str);
    changes.iter().filter_map(|c| refusal(stack, c, holds(c), active, allowed)).collect()
}

fn refusal(
    stack: &str,
    change: &Change,
    holds: bool,
    active: Option<&str>,
    allowed: &Allowed,
) -> Option<Refusal> {
    let resource = format!("{stack}.{}", change.logical);
    let touched = match change.action {
        Action::Add | Action::Import => false,
        Action::Modify | Action::Remove | Action::Dynamic => true,
    };
    // Without the output nobody knows which one is in use, so each may be.
    let in_use = active.is_none_or(|letter| change.logical.ends_with(letter));
    if change.kind == VPC_ORIGIN && touched && in_use {
        return Some(Refusal::OriginInUse { resource });
    }
    let how = match (change.action, change.replacement) {
        (Action::Remove, _) => "removed",
        (Action::Dynamic, _) => "changed in a way that is not known before",
        (Action::Modify, Replacement::Yes) => "replaced by an empty one",
        (Action::Modify, Replacement::Perhaps) => "replaced by an empty one, perhaps",
        (Action::Modify, Replacement::No) | (Action::Add | Action::Import, _) => return None,
    };
    let lost = holds && !allowed.resource(stack, &change.logical);
    lost.then(|| Refusal::Loss { resource, kind: change.kind.clone(), how })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(action: Action, logical: &str, kind: &str, replacement: Replacement) -> Change {
        Change {
            action,
            logical: logical.into(),
            kind: kind.into(),
            replacement,
            causes: Vec::new(),
        }
    }

    fn live(active: Option<&str>) -> Live {
        let outputs = active.map(|a| (ACTIVE.to_owned(), a.to_owned())).into_iter().collect();
        Live { outputs, ..Live::default() }
    }

    #[test]
    fn data_is_neither_replaced_nor_removed_unless_the_resource_is_named() {
        let db = "AWS::RDS::DBCluster";
        for (action, replacement, refused) in [
            (Action::Add, Replacement::No, false),
            (Action::Modify, Replacement::No, false),
            (Action::Modify, Replacement::Perhaps, true),
            (Action::Modify, Replacement::Yes, true),
            (Action::Remove, Replacement::No, true),
            (Action::Dynamic, Replacement::No, true),
        ] {
            let changes = [change(action, "Cluster", db, replacement)];
            let of = |words: &[&str]| {
                let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
                refusals("database", None, &changes, Some(&live(None)), &Allowed::new(&words)).len()
            };
            assert_eq!(of(&[]), usize::from(refused), "{action:?} {replacement:?}");
            assert_eq!(of(&["database.Cluster"]), 0);
            // The stack's name is not enough for a change.
            assert_eq!(of(&["database"]), usize::from(refused));
        }
        let member = change(Action::Modify, "Writer", "AWS::RDS::DBInstance", Replacement::Perhaps);
        let of = |properties: Value| {
            let writer = json!({"Type": "AWS::RDS::DBInstance", "Properties": properties});
            let deployed = json!({"Resources": {"Writer": writer}});
            let changes = std::slice::from_ref(&member);
            refusals("database", Some(&deployed), changes, None, &Allowed::default()).len()
        };
        assert_eq!(of(json!({"DBClusterIdentifier": {"Ref": "Cluster"}})), 0);
        assert_eq!(of(json!({})), 1, "one that stands alone today holds data, whatever it becomes");
        let group = change(Action::Remove, "Group", "AWS::EC2::SecurityGroup", Replacement::No);
        assert!(refusals("network", None, &[group], None, &Allowed::default()).is_empty());
    }

    #[test]
    fn the_vpc_origin_in_use_is_not_touched_and_the_other_one_may_be() {
        let touch = |logical| change(Action::Modify, logical, VPC_ORIGIN, Replacement::No);
        let refused = |logical, active| {
            let allowed = Allowed::new(&[format!("edge.{logical}")]);
            !refusals("edge", None, &[touch(logical)], Some(&live(active)), &allowed).is_empty()
        };
        assert!(refused("VpcOriginA", Some("A")));
        assert!(!refused("VpcOriginB", Some("A")));
        assert!(refused("VpcOriginB", Some("B")));
        assert!(refused("VpcOriginA", None), "whatever is not known is in use");
        let new = change(Action::Add, "VpcOriginA", VPC_ORIGIN, Replacement::No);
        assert!(refusals("edge", None, &[new], None, &Allowed::default()).is_empty());
    }
}
