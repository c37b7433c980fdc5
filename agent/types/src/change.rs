//! What changed in the list of processes between two looks: one line of `GET /v1/programs/watch`.

use serde::{Deserialize, Serialize};

use crate::{ProcessName, ProcessStatus};

/// The difference between two lists of processes, each in order of name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Processes that are new or not as they were, as they are now.
    pub changed: Vec<ProcessStatus>,
    /// Processes that are gone.
    pub gone: Vec<ProcessName>,
}

impl Change {
    /// What leads from one list to another.
    #[must_use]
    pub fn between(before: &[ProcessStatus], now: &[ProcessStatus]) -> Self {
        let of = |list: &[ProcessStatus], name: &ProcessName| {
            list.binary_search_by(|p| p.name.cmp(name)).ok()
        };
        let is_as_it_was =
            |p: &&ProcessStatus| of(before, &p.name).and_then(|n| before.get(n)) == Some(p);
        Self {
            changed: now.iter().filter(|p| !is_as_it_was(p)).cloned().collect(),
            gone: before
                .iter()
                .filter(|p| of(now, &p.name).is_none())
                .map(|p| p.name.clone())
                .collect(),
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }

    /// Makes of the list before the list after.
    pub fn apply(&self, to: &mut Vec<ProcessStatus>) {
        to.retain(|p| !self.gone.contains(&p.name));
        for p in &self.changed {
            match to.binary_search_by(|have| have.name.cmp(&p.name)) {
                Ok(n) => {
                    if let Some(have) = to.get_mut(n) {
                        have.clone_from(p);
                    }
                }
                Err(n) => to.insert(n, p.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessState;

    fn process(name: &str, pid: i32) -> ProcessStatus {
        ProcessStatus {
            name: name.parse().unwrap(),
            program: "web".parse().unwrap(),
            group: "web".parse().unwrap(),
            state: ProcessState::Running,
            pid,
            ready: true,
            restarts: 0,
            since: 0,
            exit: None,
            error: None,
            schedule: None,
        }
    }

    fn names(list: &[ProcessStatus]) -> Vec<&str> {
        list.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn only_what_differs_is_told_and_it_leads_from_one_list_to_the_other() {
        let before = vec![process("a", 1), process("b", 2), process("d", 4)];
        let now = vec![process("b", 2), process("c", 3), process("d", 5)];
        let change = Change::between(&before, &now);
        assert_eq!(names(&change.changed), ["c", "d"]);
        assert_eq!(change.gone, ["a".parse().unwrap()]);
        let mut list = before.clone();
        change.apply(&mut list);
        assert_eq!(list, now);
        assert!(Change::between(&now, &now).is_empty());
        let mut from_nothing = Vec::new();
        Change::between(&[], &now).apply(&mut from_nothing);
        assert_eq!(from_nothing, now);
    }
}
