//! Sets of addresses as disjoint ranges.
//!
//! Invariant: the ranges of a [`Ranges`] are sorted, do not overlap and do not touch, so two sets of
//! the same addresses are equal as values however they were written down.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::prefix::{self, BadPrefix};

/// An address as a number: `u32` for IPv4, `u128` for IPv6.
pub trait Word: Copy + Ord + fmt::Debug + Send + Sync + 'static {
    /// Bits of an address.
    const BITS: u8;
    /// The number, widened.
    fn wide(self) -> u128;
    /// The number of this family; what does not fit becomes the last address.
    fn narrow(wide: u128) -> Self;
    /// The address that has this number.
    fn address(self) -> IpAddr;
}

impl Word for u32 {
    const BITS: u8 = 32;
    fn wide(self) -> u128 {
        self.into()
    }
    fn narrow(wide: u128) -> Self {
        Self::try_from(wide).unwrap_or(Self::MAX)
    }
    fn address(self) -> IpAddr {
        Ipv4Addr::from(self).into()
    }
}

impl Word for u128 {
    const BITS: u8 = 128;
    fn wide(self) -> u128 {
        self
    }
    fn narrow(wide: u128) -> Self {
        wide
    }
    fn address(self) -> IpAddr {
        Ipv6Addr::from(self).into()
    }
}

/// A set of addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranges<W>(Vec<(W, W)>);

impl<W> Default for Ranges<W> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<W: Word> FromIterator<(W, W)> for Ranges<W> {
    /// From first and last addresses, in any order, overlapping or not. A pair the wrong way round
    /// holds no address.
    fn from_iter<I: IntoIterator<Item = (W, W)>>(pairs: I) -> Self {
        let mut all: Vec<(W, W)> = pairs.into_iter().filter(|(a, b)| a <= b).collect();
        all.sort_unstable();
        let mut out: Vec<(W, W)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match out.last_mut() {
                Some((_, end)) if first.wide() <= end.wide().saturating_add(1) => {
                    *end = (*end).max(last);
                }
                _ => out.push((first, last)),
            }
        }
        Self(out)
    }
}

impl<W: Word> Ranges<W> {
    /// The ranges as first and last address, in order.
    pub fn iter(&self) -> impl Iterator<Item = (W, W)> + '_ {
        self.0.iter().copied()
    }

    /// Number of ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of addresses; all of IPv6 counts as one less.
    #[must_use]
    pub fn addresses(&self) -> u128 {
        self.iter()
            .map(|(a, b)| (b.wide() - a.wide()).saturating_add(1))
            .fold(0, u128::saturating_add)
    }

    /// The range that holds `at`.
    #[must_use]
    pub fn find(&self, at: W) -> Option<(W, W)> {
        let after = self.0.partition_point(|(first, _)| *first <= at);
        let range = *self.0.get(after.checked_sub(1)?)?;
        (at <= range.1).then_some(range)
    }

    /// Addresses of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// Addresses of this set that `other` does not have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let mut cuts = other.0.iter().peekable();
        for (first, last) in self.iter() {
            let mut from = first.wide();
            // Cuts that end before this range end before all later ones too.
            while cuts.next_if(|(_, end)| end.wide() < from).is_some() {}
            let mut whole = false;
            for &(cut, end) in cuts.clone() {
                if cut > last {
                    break;
                }
                if cut.wide() > from {
                    out.push((W::narrow(from), W::narrow(cut.wide() - 1)));
                }
                match end.wide().checked_add(1) {
                    Some(next) if end < last => from = next,
                    _ => {
                        whole = true;
                        break;
                    }
                }
            }
            if !whole {
                out.push((W::narrow(from), last));
            }
        }
        Self(out)
    }

    /// Ranges of this set that `other` does not have just so.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let there = |range: &&(W, W)| other.0.binary_search(range).is_err();
        Self(self.0.iter().filter(there).copied().collect())
    }

    /// The fewest prefixes that make up the set, in order.
    pub fn cidrs(&self) -> impl Iterator<Item = Cidr<W>> + '_ {
        self.iter().flat_map(|(first, last)| {
            let mut next = Some(first.wide());
            let last = last.wide();
            std::iter::from_fn(move || {
                let from = next?;
                let block = block_bits::<W>(from, last);
                let size_less_one = 1_u128.checked_shl(block.into()).map_or(u128::MAX, |s| s - 1);
                let end = from | size_less_one;
                next = if end >= last { None } else { end.checked_add(1) };
                Some(Cidr { first: W::narrow(from), len: W::BITS - block })
            })
        })
    }
}

/// Host bits of the largest prefix that starts at `from` and does not go beyond `last`.
fn block_bits<W: Word>(from: u128, last: u128) -> u8 {
    let aligned = from.trailing_zeros().min(W::BITS.into());
    let room = match (last - from).checked_add(1) {
        Some(n) => n.ilog2(),
        None => 128,
    };
    u8::try_from(aligned.min(room)).unwrap_or(W::BITS)
}

/// A prefix without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr<W> {
    /// The first address.
    pub first: W,
    /// Length in bits.
    pub len: u8,
}

impl<W: Word> fmt::Display for Cidr<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first.address(), self.len)
    }
}

/// A set of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddrSet {
    /// IPv4.
    pub v4: Ranges<u32>,
    /// IPv6.
    pub v6: Ranges<u128>,
}

impl AddrSet {
    /// Whether there is no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Number of ranges of both families.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Addresses of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// Addresses of this set that `other` does not have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    /// Addresses of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// The range that holds `ip`, as `first-last` or as a prefix.
    #[must_use]
    pub fn find(&self, ip: IpAddr) -> Option<String> {
        match ip {
            IpAddr::V4(a) => self.v4.find(a.into()).map(show),
            IpAddr::V6(a) => self.v6.find(a.into()).map(show),
        }
    }

    /// The fewest prefixes that make up the set, IPv4 first.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        let v4 = self.v4.cidrs().map(|c| c.to_string());
        v4.chain(self.v6.cidrs().map(|c| c.to_string())).collect()
    }

    /// From prefixes as text, checked strictly.
    ///
    /// # Errors
    /// The first prefix that is not canonical.
    pub fn parse<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPrefix> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in prefixes {
            if text.contains(':') {
                v6.push(prefix::v6(text)?);
            } else {
                v4.push(prefix::v4(text)?);
            }
        }
        Ok(Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() })
    }
}

impl<'a> FromIterator<&'a IpNet> for AddrSet {
    fn from_iter<I: IntoIterator<Item = &'a IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(n) => v4.push((n.network().into(), n.broadcast().into())),
                IpNet::V6(n) => v6.push((n.network().into(), n.broadcast().into())),
            }
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl Serialize for AddrSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.prefixes())
    }
}

impl<'de> Deserialize<'de> for AddrSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let prefixes = Vec::<String>::deserialize(d)?;
        Self::parse(prefixes.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

/// A range as a prefix where it is one, else as its first and last address.
pub(super) fn show<W: Word>((first, last): (W, W)) -> String {
    let one: Ranges<W> = std::iter::once((first, last)).collect();
    let mut cidrs = one.cidrs();
    match (cidrs.next(), cidrs.next()) {
        (Some(only), None) => only.to_string(),
        _ => format!("{}-{}", first.address(), last.address()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    // The naive model: addresses one by one, in a window small enough to list.
    type Model = BTreeSet<u32>;

    fn pairs() -> impl Strategy<Value = Vec<(u32, u32)>> {
        proptest::collection::vec((0..300_u32, 0..40_u32).prop_map(|(a, n)| (a, a + n)), 0..12)
    }

    fn model(pairs: &[(u32, u32)]) -> Model {
        pairs.iter().flat_map(|(a, b)| *a..=*b).collect()
    }

    fn listed(r: &Ranges<u32>) -> Model {
        r.iter().flat_map(|(a, b)| a..=b).collect()
    }

    proptest! {
        #[test]
        fn sets_behave_like_a_list_of_single_addresses(a in pairs(), b in pairs()) {
            let (ra, rb): (Ranges<u32>, Ranges<u32>) =
                (a.iter().copied().collect(), b.iter().copied().collect());
            let (ma, mb) = (model(&a), model(&b));
            prop_assert_eq!(listed(&ra), ma.clone());
            prop_assert_eq!(listed(&ra.union(&rb)), &ma | &mb);
            prop_assert_eq!(listed(&ra.difference(&rb)), &ma - &mb);
            prop_assert_eq!(ra.addresses(), ma.len() as u128);
            for at in 0..350 {
                prop_assert_eq!(ra.find(at).is_some(), ma.contains(&at));
            }
        }

        #[test]
        fn ranges_never_touch_so_equal_sets_are_equal_values(mut a in pairs()) {
            let one: Ranges<u32> = a.iter().copied().collect();
            prop_assert!(one.0.windows(2).all(|w| w[0].1 + 1 < w[1].0));
            a.reverse();
            prop_assert_eq!(&one, &a.into_iter().collect());
            let last = |c: Cidr<u32>| c.first | u32::MAX.checked_shr(c.len.into()).unwrap_or(0);
            let again: Ranges<u32> = one.cidrs().map(|c| (c.first, last(c))).collect();
            prop_assert_eq!(again, one);
        }

        #[test]
        fn text_of_a_set_reads_back(v4 in any::<Vec<(u32, u32)>>(), v6 in any::<Vec<(u128, u128)>>()) {
            let set = AddrSet { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() };
            let text = set.prefixes();
            prop_assert_eq!(AddrSet::parse(text.iter().map(String::as_str)), Ok(set));
        }
    }

    #[test]
    fn the_whole_of_each_family_is_one_prefix() {
        let set = AddrSet {
            v4: [(0, u32::MAX)].into_iter().collect(),
            v6: [(0, u128::MAX)].into_iter().collect(),
        };
        assert_eq!(set.prefixes(), ["0.0.0.0/0", "::/0"]);
        assert!(set.difference(&set).is_empty());
        assert_eq!(set.v4.addresses(), 1 << 32);
    }

    #[test]
    fn nested_duplicate_adjacent_and_unsorted_input_is_one_canonical_set() {
        let a = AddrSet::parse(["10.0.1.0/24", "10.0.0.0/24", "10.0.0.0/24", "10.0.0.128/25"]);
        assert_eq!(a.unwrap().prefixes(), ["10.0.0.0/23"]);
    }
}
