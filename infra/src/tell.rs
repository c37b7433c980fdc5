//! What a stack's events say to a person: one line for each resource that is finished, and the first
//! causes when it failed. Pure.

use std::collections::BTreeMap;

use crate::cfn::Event;

/// Causes shown at most; those that come later are mostly results of the first.
const MAX_CAUSES: usize = 3;

/// Tells of one stack.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    stack: &'a str,
    full_name: &'a str,
    places: &'a BTreeMap<String, String>,
    started: BTreeMap<String, i64>,
    causes: Vec<String>,
    /// What is said of the stack as a whole when it turns back.
    turned_back: Option<String>,
    last: Option<String>,
    /// The stack's own state, by its newest event.
    own: Option<String>,
}

impl<'a> Teller<'a> {
    /// Of events after the one with this id.
    pub(crate) fn new(
        stack: &'a str,
        full_name: &'a str,
        places: &'a BTreeMap<String, String>,
        last: Option<String>,
    ) -> Self {
        let (started, causes) = (BTreeMap::new(), Vec::new());
        Self { stack, full_name, places, started, causes, turned_back: None, last, own: None }
    }

    /// The newest event that was heard.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether the stack itself said, since this teller listens, that it has come to this state.
    pub(crate) fn has_come_to(&self, status: &str) -> bool {
        self.own.as_deref() == Some(status)
    }

    /// Hears an event; returns what there is to say.
    pub(crate) fn hear(&mut self, event: &Event) -> Option<String> {
        self.last = Some(event.id.clone());
        if event.logical == self.full_name {
            self.own = Some(event.status.clone());
            let turns = event.status.contains("ROLLBACK") || event.status.ends_with("_FAILED");
            if turns && !event.reason.is_empty() {
                self.turned_back.get_or_insert_with(|| event.reason.clone());
            }
            return None;
        }
        if event.status.ends_with("_IN_PROGRESS") {
            if let Some(at) = event.at {
                self.started.entry(event.logical.clone()).or_insert(at);
            }
            return None;
        }
        let since = self.started.remove(&event.logical);
        let took = since.zip(event.at).map(|(from, to)| format!(" in {} s", to - from));
        let (took, kind) = (took.unwrap_or_default(), &event.kind);
        let head = format!("{}: {} ({kind})", self.stack, event.logical);
        if !event.status.ends_with("_FAILED") {
            return Some(format!("{head} {}{took}", done(&event.status)));
        }
        // One that was stopped because another failed has no cause of its own.
        if event.reason.contains("cancelled") {
            return None;
        }
        let place = self.places.get(&event.logical).map(|p| format!("{p}: "));
        let cause = format!(
            "{}{} ({kind}): {}",
            place.unwrap_or_default(),
            event.logical,
            if event.reason.is_empty() { &event.status } else { &event.reason }
        );
        if self.causes.len() < MAX_CAUSES {
            self.causes.push(cause);
        }
        Some(format!("{head} failed{took}"))
    }

    /// Why it failed: what resources say, else what is said of the stack, as of a wrong output.
    pub(crate) fn causes(&self) -> Vec<String> {
        if self.causes.is_empty() {
            self.turned_back.clone().into_iter().collect()
        } else {
            self.causes.clone()
        }
    }
}

fn done(status: &str) -> String {
    match status {
        "CREATE_COMPLETE" => "created".to_owned(),
        "UPDATE_COMPLETE" => "changed".to_owned(),
        "DELETE_COMPLETE" => "deleted".to_owned(),
        "DELETE_SKIPPED" => "kept".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(logical: &str, status: &str, reason: &str, at: i64) -> Event {
        Event {
            id: format!("{logical}-{status}"),
            logical: logical.into(),
            physical: String::new(),
            kind: "AWS::X::Y".into(),
            status: status.into(),
            reason: reason.into(),
            at: Some(at),
        }
    }

    #[test]
    fn a_finished_resource_is_one_line_with_its_time() {
        let places = BTreeMap::new();
        let mut teller = Teller::new("network", "p-d-network", &places, None);
        assert_eq!(teller.hear(&event("p-d-network", "CREATE_IN_PROGRESS", "", 0)), None);
        assert_eq!(teller.hear(&event("Vpc", "CREATE_IN_PROGRESS", "", 1)), None);
        assert_eq!(teller.hear(&event("Vpc", "CREATE_IN_PROGRESS", "Initiated", 3)), None);
        let said = teller.hear(&event("Vpc", "CREATE_COMPLETE", "", 5));
        assert_eq!(said.as_deref(), Some("network: Vpc (AWS::X::Y) created in 4 s"));
        assert_eq!(teller.last(), Some("Vpc-CREATE_COMPLETE"));
    }

    #[test]
    fn a_stack_that_turns_back_by_itself_says_why() {
        let places = BTreeMap::new();
        let mut teller = Teller::new("db", "p-d-db", &places, None);
        teller.hear(&event("p-d-db", "CREATE_IN_PROGRESS", "User Initiated", 0));
        teller.hear(&event("p-d-db", "ROLLBACK_IN_PROGRESS", "an output is wrong", 1));
        teller.hear(&event("p-d-db", "ROLLBACK_COMPLETE", "done", 2));
        assert_eq!(teller.causes(), ["an output is wrong"]);
        assert!(teller.has_come_to("ROLLBACK_COMPLETE") && !teller.has_come_to("CREATE_COMPLETE"));
        teller.hear(&event("Db", "CREATE_FAILED", "no room", 1));
        assert_eq!(teller.causes(), ["Db (AWS::X::Y): no room"]);
    }

    #[test]
    fn the_first_causes_come_with_their_place_and_those_that_were_only_stopped_do_not() {
        let places = BTreeMap::from([("Db".to_owned(), "infra/templates/db.yaml:7".to_owned())]);
        let mut teller = Teller::new("db", "p-d-db", &places, None);
        for i in 0..5 {
            teller.hear(&event("Db", "CREATE_FAILED", &format!("bad {i}"), 1));
            teller.hear(&event("Other", "CREATE_FAILED", "Resource creation cancelled", 1));
        }
        assert_eq!(teller.causes().len(), MAX_CAUSES);
        assert_eq!(teller.causes()[0], "infra/templates/db.yaml:7: Db (AWS::X::Y): bad 0");
    }
}
