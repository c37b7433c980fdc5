//! Sets of whole numbers, for ports and addresses alike. Invariant: ranges are sorted and neither overlap
//! nor touch, so equal sets are equal values and every operation is exact.

use std::fmt;

/// The last port.
pub const LAST_PORT: u128 = 65_535;

/// A set of whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// From one number to another, both included; nothing if the first is greater.
    #[must_use]
    pub fn of(from: u128, to: u128) -> Self {
        if from > to { Self::none() } else { Self(vec![(from, to)]) }
    }

    /// One number.
    #[must_use]
    pub fn one(number: u128) -> Self {
        Self::of(number, number)
    }

    /// Every port.
    #[must_use]
    pub fn all_ports() -> Self {
        Self::of(0, LAST_PORT)
    }

    /// Ranges in any order, overlapping or not.
    pub fn from_many(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut all: Vec<_> = ranges.into_iter().filter(|(from, to)| from <= to).collect();
        all.sort_unstable();
        let mut made: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match made.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => made.push((from, to)),
            }
        }
        Self(made)
    }

    /// Its ranges, ascending.
    #[must_use]
    pub fn parts(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn has(&self, number: u128) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }

    /// What is in one or the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_many(self.0.iter().chain(&other.0).copied())
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut made = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            let (from, to) = (a.0.max(b.0), a.1.min(b.1));
            if from <= to {
                made.push((from, to));
            }
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        Self(made)
    }

    /// What is in this but not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut made = Vec::new();
        for &(from, to) in &self.0 {
            // What of the range is still to be looked at; nothing once it is used up.
            let mut rest = Some(from);
            for &(out_from, out_to) in &other.0 {
                let Some(begin) = rest else { break };
                if out_to < begin || out_from > to {
                    continue;
                }
                if out_from > begin {
                    made.push((begin, out_from - 1));
                }
                rest = out_to.checked_add(1).filter(|next| *next <= to);
            }
            made.extend(rest.map(|begin| (begin, to)));
        }
        Self(made)
    }

    /// Whether all of the other is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }

    /// Whether anything is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        !self.and(other).is_empty()
    }

    /// How many numbers are in it; the most that fits if there are more.
    #[must_use]
    pub fn size(&self) -> u128 {
        self.0
            .iter()
            .fold(0_u128, |sum, (from, to)| sum.saturating_add((to - from).saturating_add(1)))
    }
}

/// As ports are written: `443`, `80, 8000-8100`, `any port`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all_ports() {
            return f.write_str("any port");
        }
        if self.is_empty() {
            return f.write_str("no port");
        }
        for (i, (from, to)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from}-{to}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All subsets of 0..=7, so that every relation of two sets is met.
    fn subsets() -> impl Iterator<Item = Ranges> {
        (0_u32..256)
            .map(|bits| Ranges::from_many((0..8).filter(|n| bits >> n & 1 == 1).map(|n| (n, n))))
    }

    #[test]
    fn operations_agree_with_membership_for_all_pairs_of_small_sets() {
        for a in subsets() {
            for b in subsets().step_by(3) {
                let all = |f: &dyn Fn(u128) -> bool| (0..9).all(f);
                let (union, and, without) = (a.union(&b), a.and(&b), a.without(&b));
                assert!(all(&|n| union.has(n) == (a.has(n) || b.has(n))), "{a:?} {b:?}");
                assert!(all(&|n| and.has(n) == (a.has(n) && b.has(n))), "{a:?} {b:?}");
                assert!(all(&|n| without.has(n) == (a.has(n) && !b.has(n))), "{a:?} {b:?}");
                assert_eq!(a.covers(&b), all(&|n| !b.has(n) || a.has(n)));
                for made in [union, and, without] {
                    assert_eq!(made, Ranges::from_many(made.parts().to_vec()), "not in shape");
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_do_not_wrap() {
        let all = Ranges::of(0, u128::MAX);
        assert_eq!(all.without(&Ranges::of(5, u128::MAX)), Ranges::of(0, 4));
        assert!(all.without(&all).is_empty() && all.union(&all) == all);
        assert_eq!(all.size(), u128::MAX);
    }
}
