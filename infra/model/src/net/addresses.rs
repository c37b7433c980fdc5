//! Sets of addresses of both families, and the address plans that everybody knows.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ranges::Ranges;

/// Which internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// Both.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    v4: Ranges,
    v6: Ranges,
}

/// What the internet does not route; documentation's blocks stand for real ones in examples.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/3",
];

impl Addresses {
    /// A block, `10.0.0.0/16`, or a single address. Bits beyond the mask do not count, as in AWS.
    #[must_use]
    pub fn block(text: &str) -> Option<Self> {
        let net =
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        let net = net.trunc();
        Some(match net {
            IpNet::V4(net) => Self {
                v4: Ranges::of(u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
                v6: Ranges::none(),
            },
            IpNet::V6(net) => Self {
                v4: Ranges::none(),
                v6: Ranges::of(net.network().into(), net.broadcast().into()),
            },
        })
    }

    /// Everything of both families.
    #[must_use]
    pub fn everything() -> Self {
        Self { v4: Ranges::of(0, u32::MAX.into()), v6: Ranges::of(0, u128::MAX) }
    }

    /// What the internet routes.
    #[must_use]
    pub fn public() -> Self {
        let not = NOT_PUBLIC.iter().filter_map(|b| Self::block(b));
        let not = not.fold(Self::default(), |sum, block| sum.union(&block));
        let v6 = Self::block("2000::/3").unwrap_or_default().v6;
        Self { v4: Self::everything().v4.without(&not.v4), v6 }
    }

    /// What a VPC may have of version 4 that is nobody else's.
    #[must_use]
    pub fn private() -> Self {
        let blocks = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];
        let blocks = blocks.iter().filter_map(|b| Self::block(b));
        blocks.fold(Self::default(), |sum, block| sum.union(&block))
    }

    /// Those of one family.
    #[must_use]
    pub fn of(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// What is in one or the other.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { v4: self.v4.and(&other.v4), v6: self.v6.and(&other.v6) }
    }

    /// What is in this but not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self { v4: self.v4.without(&other.v4), v6: self.v6.without(&other.v6) }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether all of the other is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.v4.covers(&other.v4) && self.v6.covers(&other.v6)
    }

    /// Whether anything is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        !self.and(other).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_exact_and_families_do_not_mix() {
        let vpc = Addresses::block("10.0.0.0/16").unwrap();
        let half = Addresses::block("10.0.128.0/17").unwrap();
        assert!(vpc.covers(&half) && !half.covers(&vpc));
        assert_eq!(vpc.without(&half), Addresses::block("10.0.0.0/17").unwrap());
        assert_eq!(Addresses::block("10.0.5.7/16").unwrap(), vpc);
        assert_eq!(Addresses::block("10.0.0.1").unwrap().of(Family::V4).size(), 1);
        let v6 = Addresses::block("::/0").unwrap();
        assert!(!v6.meets(&vpc) && Addresses::everything().covers(&v6.union(&vpc)));
        assert!(Addresses::block("10.0.0.0/33").is_none() && Addresses::block("pl-1").is_none());
    }

    #[test]
    fn the_internet_does_not_route_private_blocks() {
        let public = Addresses::public();
        for (block, meets) in [
            ("10.1.0.0/16", false),
            ("127.0.0.1/32", false),
            ("8.8.8.8/32", true),
            ("fd00::/8", false),
        ] {
            assert_eq!(public.meets(&Addresses::block(block).unwrap()), meets, "{block}");
        }
    }
}
