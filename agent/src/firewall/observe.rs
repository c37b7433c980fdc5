//! Our table as the kernel has it, in a form that can be compared with what is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{instructions::Instruction, model::Ranges};

/// Our table as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// There is none.
    Absent,
    /// There is one.
    Table(Box<Table>),
    /// There is one, and what the kernel says of it makes no sense.
    Unclear(String),
}

/// The content of our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Chains by name.
    pub chains: BTreeMap<String, SeenChain>,
    /// Sets by name.
    pub sets: BTreeMap<String, Elements>,
    /// Packets of each named counter.
    pub counters: BTreeMap<String, u64>,
    /// Things that we never put there: kind and name.
    pub strange: Vec<String>,
    /// Whose it is.
    pub claim: Claim,
    /// Number of transactions that the kernel had made of all tables when this was read.
    pub generation: u32,
    /// When it was read, in milliseconds since boot.
    pub read_at: u64,
}

/// Whose the table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Whether this kernel knows tables that have an owner and stay when it ends.
    pub can_own: bool,
    /// Who alone may change it.
    pub owner: Owner,
    /// Whether it stays when its owner ends.
    pub persists: bool,
}

/// Who alone may change a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Everybody may.
    #[default]
    Nobody,
    /// The socket that was used to read it.
    Us,
    /// Another socket, by its number: often the process id of who made it.
    Other(u32),
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenChain {
    /// Where it is hooked in, if it is.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<SeenRule>,
}

/// Where a chain is hooked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// `filter`.
    pub kind: String,
    /// Number of the hook in the kernel.
    pub hook: u32,
    /// Order among chains of the hook.
    pub priority: i32,
    /// Whether packets that no rule decides are dropped.
    pub drops: bool,
}

/// A rule without handle and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRule {
    /// Its comment.
    pub comment: String,
    /// Its steps.
    pub steps: Vec<Instruction>,
}

/// The elements of a set. Times are milliseconds since boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements {
    /// A plain interval set of IPv4 addresses.
    V4(Ranges<u32>),
    /// A plain interval set of IPv6 addresses.
    V6(Ranges<u128>),
    /// IPv4 addresses, each with its end.
    Timed4(BTreeMap<u32, u64>),
    /// IPv6 addresses, each with its end.
    Timed6(BTreeMap<u128, u64>),
    /// Ports.
    Ports(BTreeSet<u16>),
    /// Something else: why.
    Strange(String),
}

/// Difference between two ends of one element that makes no difference: the kernel counts in ticks,
/// and reading takes a moment.
const SAME_END_MS: u64 = 2_000;

impl Elements {
    /// Whether one can be turned into the other by changing elements.
    #[must_use]
    pub fn same_type(&self, other: &Self) -> bool {
        !matches!(self, Self::Strange(_))
            && std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether `seen`, read at `now`, is what this is to be: an element that is about to end anyway
    /// may be there or not.
    #[must_use]
    pub fn matches(&self, seen: &Self, now: u64) -> bool {
        match (self, seen) {
            (Self::Timed4(want), Self::Timed4(have)) => same_ends(want, have, now),
            (Self::Timed6(want), Self::Timed6(have)) => same_ends(want, have, now),
            _ => self == seen,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::V4(r) => r.len(),
            Self::V6(r) => r.len(),
            Self::Timed4(t) => t.len(),
            Self::Timed6(t) => t.len(),
            Self::Ports(p) => p.len(),
            Self::Strange(_) => 0,
        }
    }
}

fn same_ends<W: Ord>(want: &BTreeMap<W, u64>, have: &BTreeMap<W, u64>, now: u64) -> bool {
    let near = |end: u64| end <= now.saturating_add(SAME_END_MS);
    let right = |(at, end): (&W, &u64), other: &BTreeMap<W, u64>| match other.get(at) {
        Some(there) => there.abs_diff(*end) <= SAME_END_MS,
        None => near(*end),
    };
    want.iter().all(|e| right(e, have)) && have.iter().all(|e| right(e, want))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_compared_with_some_slack_and_what_ends_now_may_be_gone() {
        let set = |all: &[(u32, u64)]| Elements::Timed4(all.iter().copied().collect());
        let want = set(&[(1, 60_000), (2, 10_500)]);
        assert!(want.matches(&set(&[(1, 61_900)]), 10_000));
        assert!(!want.matches(&set(&[(1, 62_100)]), 10_000), "another end");
        assert!(!want.matches(&set(&[(2, 10_500)]), 10_000), "one is missing");
        assert!(!set(&[]).matches(&set(&[(1, 60_000)]), 10_000), "one is too many");
        assert!(!want.matches(&Elements::V4(Ranges::default()), 10_000));
    }
}
