//! What CloudFormation says, as values. Pure.

use std::collections::BTreeMap;

/// A stack that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) name: String,
    pub(crate) id: String,
    /// `UPDATE_COMPLETE` and so on.
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) protected: bool,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// What can be done with a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none.
    Absent,
    /// A name that a change set reserved; nothing was made yet.
    Reserved,
    /// It works, and can be changed.
    Usable,
    /// Something is being done to it.
    Busy,
    /// Its first creation failed; it can only be deleted.
    NeverMade,
    /// Something failed in a way that somebody has to look at.
    Stuck,
}

impl Standing {
    /// Of a stack, if there is one.
    pub(crate) fn of(live: Option<&Live>) -> Self {
        live.map_or(Self::Absent, |l| Self::of_status(&l.status))
    }

    /// Of a status.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "DELETE_COMPLETE" => Self::Absent,
            "REVIEW_IN_PROGRESS" => Self::Reserved,
            "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE" => Self::Usable,
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => Self::NeverMade,
            other if other.ends_with("_IN_PROGRESS") => Self::Busy,
            _ => Self::Stuck,
        }
    }
}

/// Whether the last thing that was done to a stack went well.
pub(crate) fn went_well(status: &str) -> bool {
    matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "DELETE_COMPLETE")
}

/// A change set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeSet {
    pub(crate) status: String,
    pub(crate) execution: String,
    pub(crate) reason: String,
    pub(crate) changes: Vec<Change>,
}

impl ChangeSet {
    /// CloudFormation has no status of its own for a change set without changes.
    pub(crate) fn is_empty(&self) -> bool {
        let said = ["didn't contain changes", "No updates are to be performed"];
        self.status == "FAILED" && said.iter().any(|s| self.reason.contains(s))
    }

    /// It is still being made.
    pub(crate) fn is_pending(&self) -> bool {
        self.status.ends_with("_PENDING") || self.status.ends_with("_IN_PROGRESS")
    }
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Add,
    Modify,
    Remove,
    Import,
    /// CloudFormation cannot tell before it does it.
    Dynamic,
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "change",
            Self::Remove => "remove",
            Self::Import => "import",
            Self::Dynamic => "unknown",
        }
    }
}

/// Whether a resource is replaced by a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacement {
    No,
    Perhaps,
    Yes,
}

impl Replacement {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Perhaps => "perhaps replaced",
            Self::Yes => "replaced",
        }
    }
}

/// A change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) action: Action,
    pub(crate) logical: String,
    pub(crate) kind: String,
    pub(crate) replacement: Replacement,
    pub(crate) causes: Vec<Cause>,
}

/// Why it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The property, or `Tags`, `Metadata` and so on.
    pub(crate) what: String,
    /// The parameter or the resource behind it, if there is one.
    pub(crate) by: String,
    /// Its change replaces the resource: `Always`, `Conditionally` or `Never`.
    pub(crate) recreation: String,
}

/// Something that happened to a stack or one of its resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) logical: String,
    pub(crate) physical: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    /// Seconds since the epoch, as far as it can be read.
    pub(crate) at: Option<i64>,
}

/// A resource of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceState {
    pub(crate) logical: String,
    pub(crate) physical: String,
    pub(crate) kind: String,
    pub(crate) status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_a_stack_says_what_can_be_done_with_it() {
        for (status, standing) in [
            ("CREATE_COMPLETE", Standing::Usable),
            ("UPDATE_ROLLBACK_COMPLETE", Standing::Usable),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Standing::Busy),
            ("ROLLBACK_IN_PROGRESS", Standing::Busy),
            ("DELETE_IN_PROGRESS", Standing::Busy),
            ("REVIEW_IN_PROGRESS", Standing::Reserved),
            ("ROLLBACK_COMPLETE", Standing::NeverMade),
            ("ROLLBACK_FAILED", Standing::NeverMade),
            ("CREATE_FAILED", Standing::Stuck),
            ("DELETE_FAILED", Standing::Stuck),
            ("UPDATE_ROLLBACK_FAILED", Standing::Stuck),
            ("DELETE_COMPLETE", Standing::Absent),
        ] {
            assert_eq!(Standing::of_status(status), standing, "{status}");
        }
        assert_eq!(Standing::of(None), Standing::Absent);
        assert!(!went_well("UPDATE_ROLLBACK_COMPLETE") && went_well("UPDATE_COMPLETE"));
    }
}
