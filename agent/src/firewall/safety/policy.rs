//! What must be let in or kept out: which packets to send, and what the rules say of them. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        model::{AddrSet, Ranges, Word},
        ruleset::Ruleset,
        settings::{Caller, Expect, PolicyTest, SourceName},
    },
    lockout::admits,
    status::TestResult,
};

/// Ranges of a source that are tried of each family, beginning and end, spread over all it has.
const MAX_RANGES: usize = 4;

/// One packet: the first of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Where it comes from.
    pub from: IpAddr,
    /// Where it goes.
    pub port: u16,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Let in: whoever listens answered.
    Accepted,
    /// Answered by a reset.
    Rejected,
    /// Not answered.
    Dropped,
}

impl Verdict {
    /// Whether it is what a test expects.
    #[must_use]
    pub fn is(self, expect: Expect) -> bool {
        match (self, expect) {
            (Self::Accepted, Expect::Accept) | (Self::Rejected | Self::Dropped, Expect::Drop) => {
                true
            }
            (Self::Accepted, Expect::Drop) | (Self::Rejected | Self::Dropped, Expect::Accept) => {
                false
            }
        }
    }
}

/// The packets of one test. A source without an address gives none.
#[must_use]
pub fn probes_of(test: &PolicyTest, sets: &BTreeMap<SourceName, AddrSet>) -> Vec<Probe> {
    let port = test.to.get();
    let from: Vec<IpAddr> = match &test.from {
        Caller::Address(ip) => vec![*ip],
        Caller::Source(name) => sets.get(name).map(edges).unwrap_or_default(),
    };
    from.into_iter().map(|from| Probe { from, port }).collect()
}

/// First and last addresses of some ranges.
fn edges(set: &AddrSet) -> Vec<IpAddr> {
    let mut all = some(&set.v4);
    all.extend(some(&set.v6));
    all
}

fn some<W: Word>(ranges: &Ranges<W>) -> Vec<IpAddr> {
    let step = ranges.len().div_ceil(MAX_RANGES).max(1);
    let ends = ranges.iter().step_by(step).flat_map(|(first, last)| [first, last]);
    let mut all: Vec<IpAddr> = ends.map(Word::address).collect();
    all.dedup();
    all
}

/// What the rules say of a packet, by reading them.
#[must_use]
pub fn expected(rules: Option<&Ruleset>, probe: &Probe) -> Verdict {
    if admits(rules, probe.from, probe.port) { Verdict::Accepted } else { Verdict::Dropped }
}

/// What came of a test whose packets had these verdicts.
pub(super) fn result_of(test: &PolicyTest, tried: &[(Probe, Verdict)]) -> TestResult {
    let wrong = tried.iter().filter(|(_, v)| !v.is(test.expect));
    let mut wrong: Vec<String> = wrong
        .map(|(p, v)| {
            let said = match v {
                Verdict::Accepted => "let in",
                Verdict::Rejected => "refused with a reset",
                Verdict::Dropped => "dropped",
            };
            format!("{} is {said}", p.from)
        })
        .collect();
    if tried.is_empty() && test.expect == Expect::Accept {
        wrong.push("the source has no address".to_owned());
    }
    TestResult { test: test.to_string(), passed: wrong.is_empty(), packets: tried.len(), wrong }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    #[test]
    fn a_source_stands_for_the_ends_of_its_ranges_of_both_families() {
        let name = SourceName::try_from("edge".to_owned()).unwrap();
        let set = AddrSet::parse(["203.0.113.0/24", "198.51.100.7/32", "2001:db8::/64"]).unwrap();
        let sets = [(name.clone(), set)].into();
        let test = PolicyTest {
            from: Caller::Source(name),
            to: NonZeroU16::new(443).unwrap(),
            expect: Expect::Accept,
        };
        let from: Vec<String> =
            probes_of(&test, &sets).iter().map(|p| p.from.to_string()).collect();
        assert_eq!(
            from,
            [
                "198.51.100.7",
                "203.0.113.0",
                "203.0.113.255",
                "2001:db8::",
                "2001:db8::ffff:ffff:ffff:ffff"
            ]
        );
        let big: Vec<String> = (0..=255).map(|n| format!("10.0.{n}.0/25")).collect();
        let big = AddrSet::parse(big.iter().map(String::as_str)).unwrap();
        let sets = [(SourceName::try_from("edge".to_owned()).unwrap(), big)].into();
        assert_eq!(probes_of(&test, &sets).len(), 2 * MAX_RANGES);
        // Nobody to try it with is no proof that anybody gets in.
        assert!(!result_of(&test, &[]).passed);
    }

    #[test]
    fn a_reset_is_as_good_as_silence_for_who_is_to_be_kept_out() {
        for (verdict, accept, drop) in [
            (Verdict::Accepted, true, false),
            (Verdict::Rejected, false, true),
            (Verdict::Dropped, false, true),
        ] {
            assert_eq!((verdict.is(Expect::Accept), verdict.is(Expect::Drop)), (accept, drop));
        }
    }
}
