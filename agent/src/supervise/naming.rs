//! Which process is which from one reading of the settings to the next, and what it is called.
//!
//! A process is known by its group and its label. Its name is the agent's own and the name of one process
//! at a time; the settings propose one, and a process that is there keeps the one that it has: whatever
//! else comes into the settings renames nothing that runs.

use std::collections::{BTreeMap, BTreeSet};

use palisade_types::{GroupName, ProcessName};

use super::{ProcessSpec, TWIN};

/// The longest name that is made up, less the room for a number.
const MAX_LEN: usize = 120;

/// The nearest good name.
#[must_use]
pub fn good_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_graphic() && !":/*\"'".contains(c);
    let mut out: String =
        name.chars().take(MAX_LEN).map(|c| if fits(c) { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(['.', '-']) {
        out.insert(0, '_');
    }
    if out.ends_with(TWIN) {
        // The agent's own, for the second of two at once.
        out.push('_');
    }
    out
}

/// A process that is there, and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) group: GroupName,
    pub(super) label: String,
    pub(super) name: ProcessName,
}

/// Gives each process that is known the name that it has, and each newcomer the one that is proposed for
/// it, or `GROUP.LABEL`, numbered if need be, where that is somebody else's.
pub(super) fn settle(specs: &mut [ProcessSpec], known: impl IntoIterator<Item = Known>) {
    let known: BTreeMap<_, _> = known.into_iter().map(|k| ((k.group, k.label), k.name)).collect();
    let mut taken = BTreeSet::new();
    let mut newcomers = Vec::new();
    for spec in specs {
        match known.get(&(spec.group.clone(), spec.label.clone())) {
            Some(name) if taken.insert(name.clone()) => spec.name = name.clone(),
            _ => newcomers.push(spec),
        }
    }
    for spec in newcomers {
        if !taken.insert(spec.name.clone()) {
            let base = good_name(&format!("{}.{}", spec.group, spec.label));
            let numbered = (2_u64..).map(|number| format!("{base}-{number}"));
            let names = std::iter::once(base.clone()).chain(numbered);
            // One of the first that are one more than all names is free.
            let free = names.filter_map(|n| n.parse().ok()).find(|n| !taken.contains(n));
            if let Some(name) = free {
                taken.insert(ProcessName::clone(&name));
                spec.name = name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::supervise::{
        task::tests::{Agent, pass, pids},
        testutil::{FakeHost, spec},
    };

    fn of(group: &str, label: &str, name: &str) -> ProcessSpec {
        ProcessSpec { group: group.parse().unwrap(), label: label.to_owned(), ..spec(name) }
    }

    fn known(specs: &[ProcessSpec]) -> Vec<Known> {
        let one = |s: &ProcessSpec| Known {
            group: s.group.clone(),
            label: s.label.clone(),
            name: s.name.clone(),
        };
        specs.iter().map(one).collect()
    }

    fn settled(have: &[ProcessSpec], mut specs: Vec<ProcessSpec>) -> Vec<String> {
        settle(&mut specs, known(have));
        specs.into_iter().map(|s| s.name.to_string()).collect()
    }

    #[test]
    fn a_newcomer_renames_nobody() {
        let have = [of("a", "00", "00")];
        let read = vec![of("a", "00", "a.00"), of("b", "00", "b.00")];
        assert_eq!(settled(&have, read.clone()), ["00", "b.00"]);
        assert_eq!(settled(&[], read), ["a.00", "b.00"]);
        // And none that leaves.
        let have = [of("a", "00", "a.00"), of("b", "00", "b.00")];
        assert_eq!(settled(&have, vec![of("b", "00", "00")]), ["b.00"]);
    }

    #[test]
    fn one_that_moves_has_its_name_again_once_that_is_free() {
        let have = [of("g", "a", "a")];
        assert_eq!(settled(&have, vec![of("z", "a", "a")]), ["a"]);
        assert_eq!(settled(&have, vec![of("g", "a", "a"), of("z", "a", "a")]), ["a", "z.a"]);
        assert_eq!(settled(&have, vec![of("z", "a", "a"), of("g", "a", "a")]), ["z.a", "a"]);
        let have = [of("g", "a", "a"), of("x", "x", "z.a")];
        let read = vec![of("g", "a", "a"), of("x", "x", "x"), of("z", "a", "a")];
        assert_eq!(settled(&have, read), ["a", "z.a", "z.a-2"]);
    }

    /// Whoever has the name of a process runs as it, and nobody beside it.
    #[tokio::test(start_paused = true)]
    async fn a_newcomer_of_the_same_label_restarts_nobody_also_over_the_death_of_the_agent() {
        let host = FakeHost::default();
        let agent = Agent::on(&host, &[of("a", "00", "00")]);
        pass(2).await;
        let pid = pids(&host);
        let read = [of("a", "00", "a.00"), of("b", "00", "b.00")];
        agent.crash().await;
        let agent = Agent::on(&host, &read);
        pass(2).await;
        let names = |a: &Agent| {
            a.handle.status().borrow().iter().map(|r| r.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&agent), ["00", "b.00"]);
        assert_eq!(pids(&host)[..1], pid);
        agent.update(&[of("a", "00", "a.00"), of("b", "00", "b.00"), of("c", "00", "00")]).await;
        pass(2).await;
        assert_eq!(names(&agent), ["00", "b.00", "c.00"]);
        assert_eq!((pids(&host)[..1].to_vec(), host.starts().len()), (pid.clone(), 3));
        // In another group it is another process, which has the name once it is free.
        agent.update(&[of("b", "00", "b.00"), of("z", "00", "00")]).await;
        pass(2).await;
        assert_eq!(names(&agent), ["00", "b.00"]);
        agent.stop().await;
    }

    proptest! {
        #[test]
        fn a_name_is_never_two_processes(
            have in proptest::collection::vec(("[ab]", "[01]", "[ab01]"), 0..4),
            read in proptest::collection::btree_set(("[abc]", "[01.é]"), 0..8),
        ) {
            let have: Vec<_> = have.iter().map(|(g, l, n)| of(g, l, n)).collect();
            let read = read.iter().map(|(g, l)| of(g, l, &good_name(l))).collect::<Vec<_>>();
            let count = read.len();
            let names: BTreeSet<_> = settled(&have, read).into_iter().collect();
            prop_assert_eq!(names.len(), count);
        }
    }
}
