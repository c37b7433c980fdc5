//! Names that are good over the whole host, for processes whose names need only be good within their group.
//!
//! A proposal for each reading by itself: a process that is there keeps the name that it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::supervise::good_name as good;

/// One good and unique name for each pair of group and name: the name itself if it is good and nobody
/// else's, else `GROUP.NAME` with every bad character replaced, numbered if that is taken too.
pub(super) fn unique(wanted: &[(&str, &str)], is_good: impl Fn(&str) -> bool) -> Vec<String> {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, name) in wanted {
        *times.entry(name).or_default() += 1;
    }
    let as_is = |name: &str| is_good(name) && times.get(name) == Some(&1);
    let mut taken: BTreeSet<String> =
        wanted.iter().filter(|(_, n)| as_is(n)).map(|(_, n)| (*n).to_owned()).collect();
    let one = |(group, name): &(&str, &str)| {
        if as_is(name) {
            return (*name).to_owned();
        }
        let alone = (group == name && !taken.contains(&good(name))).then(|| good(name));
        let base = alone.unwrap_or_else(|| good(&format!("{group}.{name}")));
        let mut free = base.clone();
        let mut number = 2_u32;
        while taken.contains(&free) {
            free = format!("{base}-{number}");
            number += 1;
        }
        taken.insert(free.clone());
        free
    };
    wanted.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use palisade_types::ProcessName;
    use proptest::prelude::*;

    use super::*;

    fn is_good(name: &str) -> bool {
        name.parse().is_ok_and(|n: ProcessName| !crate::supervise::is_twin(&n))
    }

    #[test]
    fn a_name_is_kept_where_it_can_be() {
        let wanted =
            [("app", "web"), ("a", "0"), ("b", "0"), ("x", "\"q\""), ("a.0", ""), ("é", "é")];
        let got = unique(&wanted, is_good);
        assert_eq!(got, ["web", "a.0", "b.0", "x._q_", "a.0.", "_"]);
    }

    proptest! {
        #[test]
        fn names_are_always_good_and_never_twice(
            all in proptest::collection::vec(("[a.\\-é ]{0,3}", "[02~a.\\-\"]{0,3}"), 0..12),
        ) {
            let pairs: Vec<_> = all.iter().map(|(g, n)| (g.as_str(), n.as_str())).collect();
            let got = unique(&pairs, is_good);
            prop_assert!(got.iter().all(|n| is_good(n)), "{got:?}");
            let set: BTreeSet<_> = got.iter().collect();
            prop_assert_eq!(set.len(), pairs.len());
        }
    }
}
