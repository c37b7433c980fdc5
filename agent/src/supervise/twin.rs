//! Two instances of one process for a while: what each is called inside, and which part it plays.
//!
//! A process `web` is kept in the table, in its cgroup, its pipes and its mark as `web` or as `web~2`;
//! only while it is replaced there are both, and exactly one of them is the current one. People,
//! events and logs know `web` alone.

use palisade_types::ProcessName;
use serde::{Deserialize, Serialize};

/// How the inner name of every second instance ends. No process of the settings may be called so.
pub const TWIN: &str = "~2";

/// Whether a name is one that only the agent gives.
#[must_use]
pub fn is_twin(name: &ProcessName) -> bool {
    name.as_str().ends_with(TWIN)
}

/// The part that an instance plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// It is the process.
    #[default]
    Current,
    /// It is to be the process once it is ready.
    Incoming,
    /// It was the process, or failed to become it, and goes.
    Outgoing,
}

/// The inner name of the instance beside `key`; none if it would be too long for a name.
pub(super) fn beside(key: &ProcessName) -> Option<ProcessName> {
    match key.as_str().strip_suffix(TWIN) {
        Some(base) => base.parse().ok(),
        None => format!("{key}{TWIN}").parse().ok(),
    }
}

/// What an instance is called outside.
pub(super) fn outer(key: &ProcessName) -> ProcessName {
    let base = key.as_str().strip_suffix(TWIN).and_then(|base| base.parse().ok());
    base.unwrap_or_else(|| key.clone())
}

/// What is known of an instance that an earlier agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What it was to that agent.
    pub(super) part: Part,
    /// When its child started, in ticks since boot, if that lives.
    pub(super) alive_since: Option<u64>,
}

/// Which instance plays which part from now on: exactly one is current, whatever was left.
///
/// A living one is rather current than a dead one, but for one that was going already. Of two that
/// both were current, as far as anybody knows, the older one is.
pub(super) fn parts(seen: &[Seen]) -> Vec<Part> {
    let worth = |s: &Seen| {
        let going = s.part == Part::Outgoing;
        let older = s.alive_since.map(|t| u64::MAX - t);
        (!going, s.alive_since.is_some(), s.part == Part::Current, older)
    };
    let best = (0..seen.len()).max_by_key(|i| seen.get(*i).map(worth));
    let part = |(i, s): (usize, &Seen)| match s.part {
        _ if Some(i) == best => Part::Current,
        // A dead one that is not current is nothing any more.
        Part::Current | Part::Incoming if s.alive_since.is_some() => Part::Incoming,
        Part::Current | Part::Incoming | Part::Outgoing => Part::Outgoing,
    };
    seen.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(s: &str) -> ProcessName {
        s.parse().unwrap()
    }

    #[test]
    fn two_instances_are_beside_each_other_and_have_one_name_outside() {
        let (a, b) = (name("web"), name("web~2"));
        assert_eq!((beside(&a), beside(&b)), (Some(b.clone()), Some(a.clone())));
        assert_eq!((outer(&a), outer(&b)), (a.clone(), a.clone()));
        assert!(is_twin(&b) && !is_twin(&a));
        assert_eq!(beside(&name(&"x".repeat(127))), None);
    }

    #[test]
    fn of_two_that_an_agent_left_exactly_one_is_current() {
        use Part::{Current, Incoming, Outgoing};
        let alive = |part, since| Seen { part, alive_since: Some(since) };
        let dead = |part| Seen { part, alive_since: None };
        for (left, expected) in [
            ([alive(Current, 5), alive(Incoming, 9)], [Current, Incoming]),
            ([alive(Incoming, 9), alive(Current, 5)], [Incoming, Current]),
            ([alive(Outgoing, 5), alive(Current, 9)], [Outgoing, Current]),
            // The current one ended unseen: its successor takes its place.
            ([dead(Current), alive(Incoming, 9)], [Outgoing, Current]),
            // What was going is not the process, even if it is all that lives.
            ([alive(Outgoing, 5), dead(Current)], [Outgoing, Current]),
            ([alive(Current, 5), dead(Incoming)], [Current, Outgoing]),
            ([dead(Outgoing), dead(Current)], [Outgoing, Current]),
            // Found by their marks: the older one is what served.
            ([alive(Current, 9), alive(Current, 5)], [Incoming, Current]),
            ([alive(Current, 5), dead(Current)], [Current, Outgoing]),
            ([alive(Outgoing, 9), alive(Outgoing, 5)], [Outgoing, Current]),
        ] {
            assert_eq!(parts(&left), expected, "{left:?}");
        }
        assert_eq!(parts(&[alive(Incoming, 9)]), [Current]);
        assert_eq!(parts(&[alive(Outgoing, 9)]), [Current]);
    }
}
