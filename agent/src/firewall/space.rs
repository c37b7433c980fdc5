//! Address space: what may stand in a list at all, by the kind of list.
//!
//! Pure: a prefix is read as [`prefix`] reads it, and nothing here or there looks a name up.

use super::{
    model::{AddrSet, Word},
    prefix,
};

/// Shortest IPv4 prefix taken; the shortest ever published for these services is 13.
const MIN_V4: u32 = 12;
/// Shortest IPv6 prefix taken.
const MIN_V6: u32 = 32;

/// How short a prefix may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortest {
    /// It is to be let in.
    LetIn,
    /// It only has to hold others, and may be somewhat larger than what is let in.
    Parent,
}

impl Shortest {
    fn bits(self) -> (u32, u32) {
        match self {
            Self::LetIn => (MIN_V4, MIN_V6),
            Self::Parent => (8, 20),
        }
    }
}

/// A prefix of public IPv4 space.
pub(super) fn public_v4(text: &str, shortest: Shortest) -> Result<(u32, u32), String> {
    let range = prefix::v4(text).map_err(|e| e.to_string())?;
    if touches(range, NEVER_V4) {
        return Err(format!("prefix {text} is not public address space"));
    }
    long_enough(text, range, shortest.bits().0).map(|()| range)
}

/// A prefix of public IPv6 space.
pub(super) fn public_v6(text: &str, shortest: Shortest) -> Result<(u128, u128), String> {
    let range = prefix::v6(text).map_err(|e| e.to_string())?;
    let public = range.0 >> 125 == 1 && range.1 >> 125 == 1;
    if !public || touches(range, NEVER_V6) {
        return Err(format!("prefix {text} is not public address space"));
    }
    long_enough(text, range, shortest.bits().1).map(|()| range)
}

/// A prefix that may be of a network of one's own, private or public.
pub(super) fn own_v4(text: &str) -> Result<(u32, u32), String> {
    let range = prefix::v4(text).map_err(|e| e.to_string())?;
    if touches(range, NEVER_OWN_V4) {
        return Err(format!("prefix {text} is no network that a neighbour can have"));
    }
    long_enough(text, range, MIN_V4).map(|()| range)
}

/// A prefix that may be of a network of one's own, private or public.
pub(super) fn own_v6(text: &str) -> Result<(u128, u128), String> {
    let range = prefix::v6(text).map_err(|e| e.to_string())?;
    let (public, private) = (range.0 >> 125 == 1, range.0 >> 121 == 0x7e);
    if !public && !private {
        return Err(format!("prefix {text} is no network that a neighbour can have"));
    }
    long_enough(text, range, MIN_V6).map(|()| range)
}

/// The networks of this host's own, of those that can be read.
pub(super) fn own_networks(texts: &[String]) -> AddrSet {
    let v4 = texts.iter().filter_map(|t| prefix::v4(t).ok());
    let v6 = texts.iter().filter_map(|t| prefix::v6(t).ok());
    AddrSet { v4: v4.collect(), v6: v6.collect() }
}

fn touches<W: Word>((first, last): (W, W), never: &[(W, W)]) -> bool {
    never.iter().any(|(a, b)| first <= *b && *a <= last)
}

fn long_enough<W: Word>(text: &str, (first, last): (W, W), min: u32) -> Result<(), String> {
    let host_bits = (last.wide() - first.wide()).checked_add(1).map_or(128, u128::ilog2);
    if host_bits > u32::from(W::BITS) - min {
        return Err(format!("prefix {text} is too short (from /{min})"));
    }
    Ok(())
}

/// IPv4 space that no edge server can have: first and last address.
const NEVER_V4: &[(u32, u32)] = &[
    (0x0000_0000, 0x00ff_ffff), // this network
    (0x0a00_0000, 0x0aff_ffff), // private
    (0x6440_0000, 0x647f_ffff), // shared by carriers
    (0x7f00_0000, 0x7fff_ffff), // loopback
    (0xa9fe_0000, 0xa9fe_ffff), // link-local
    (0xac10_0000, 0xac1f_ffff), // private
    (0xc000_0000, 0xc000_00ff), // protocol assignments
    (0xc000_0200, 0xc000_02ff), // documentation
    (0xc0a8_0000, 0xc0a8_ffff), // private
    (0xc612_0000, 0xc613_ffff), // benchmarks
    (0xc633_6400, 0xc633_64ff), // documentation
    (0xcb00_7100, 0xcb00_71ff), // documentation
    (0xe000_0000, 0xffff_ffff), // multicast, reserved, broadcast
];

/// IPv4 space that no neighbour can have.
const NEVER_OWN_V4: &[(u32, u32)] = &[
    (0x0000_0000, 0x00ff_ffff), // this network
    (0x7f00_0000, 0x7fff_ffff), // loopback
    (0xa9fe_0000, 0xa9fe_ffff), // link-local
    (0xe000_0000, 0xffff_ffff), // multicast, reserved, broadcast
];

/// IPv6 space inside `2000::/3` that no edge server can have.
const NEVER_V6: &[(u128, u128)] = &[
    (0x2001 << 112, (0x2001 << 112) | ((1 << 105) - 1)), // 2001::/23, protocol assignments
    (0x2001_0db8 << 96, (0x2001_0db8 << 96) | ((1 << 96) - 1)), // documentation
    (0x2002 << 112, (0x2002 << 112) | ((1 << 112) - 1)), // 6to4
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_may_be_private_but_not_this_host_or_everybody() {
        for good in ["10.0.7.5/32", "172.31.0.0/16", "100.64.0.0/24", "13.0.0.0/28"] {
            own_v4(good).unwrap();
        }
        for bad in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "127.0.0.1/32",
            "169.254.169.254/32",
            "224.0.0.1/32",
            "255.255.255.255/32",
            "10.0.0.1/24",
            "010.0.0.1/32",
            "10.0.0.1",
            "localhost/32",
            "$(id)",
        ] {
            assert!(own_v4(bad).unwrap_err().contains(bad), "{bad}");
        }
        for good in ["2600:1f18::5/128", "fd00:1:2::/64", "2a05:d014:1::/56"] {
            own_v6(good).unwrap();
        }
        for bad in ["::/0", "::1/128", "fe80::1/128", "ff02::1/128", "2000::/3", "fd00::/8"] {
            assert!(own_v6(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
