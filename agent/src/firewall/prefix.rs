//! Reading one prefix as text, in its only allowed form.
//!
//! Other readers take more: nft looks names up in DNS and reads `010.0.0.1` as octal, others drop
//! host bits in silence. What passes here means the same to all of them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// Not an address, a slash and a length.
    #[error("{0:?} is not an address prefix such as 192.0.2.0/24")]
    Form(String),
    /// Bits beyond the length are set.
    #[error("{0:?} has bits set beyond its length")]
    HostBits(String),
}

/// Longest text that can be a prefix.
const MAX_TEXT: usize = 43 + 4;

/// First and last address of an IPv4 prefix.
///
/// # Errors
/// When the text is not exactly one.
pub(super) fn v4(text: &str) -> Result<(u32, u32), BadPrefix> {
    let (address, len) = parts::<Ipv4Addr>(text, 32)?;
    let first = u32::from(address);
    let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
    if first & host == 0 { Ok((first, first | host)) } else { Err(BadPrefix::HostBits(cut(text))) }
}

/// First and last address of an IPv6 prefix.
///
/// # Errors
/// When the text is not exactly one.
pub(super) fn v6(text: &str) -> Result<(u128, u128), BadPrefix> {
    let (address, len) = parts::<Ipv6Addr>(text, 128)?;
    let first = u128::from(address);
    let host = u128::MAX.checked_shr(len.into()).unwrap_or(0);
    if first & host == 0 { Ok((first, first | host)) } else { Err(BadPrefix::HostBits(cut(text))) }
}

fn parts<A: std::str::FromStr>(text: &str, bits: u8) -> Result<(A, u8), BadPrefix> {
    let bad = || BadPrefix::Form(cut(text));
    let (address, len) = text.split_once('/').ok_or_else(bad)?;
    let plain = len.bytes().all(|b| b.is_ascii_digit()) && (len == "0" || !len.starts_with('0'));
    let len: u8 = if plain { len.parse().map_err(|_| bad())? } else { return Err(bad()) };
    if len > bits || text.len() > MAX_TEXT {
        return Err(bad());
    }
    Ok((address.parse().map_err(|_| bad())?, len))
}

/// As much of a bad text as is worth showing.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_read() {
        assert_eq!(v4("13.124.199.0/24"), Ok((0x0d7c_c700, 0x0d7c_c7ff)));
        assert_eq!(v4("0.0.0.0/0"), Ok((0, u32::MAX)));
        assert_eq!(v6("::1/128"), Ok((1, 1)));
        for bad in [
            "10.0.0.0",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "0x0a000000/8",
            "167772160/8",
            "localhost",
            "localhost/8",
            "example.com/24",
            "$(id)",
            "10.0.0.0/8};flush ruleset",
            "-f",
            "@other",
            "10.0.0.0/255.0.0.0",
            "",
        ] {
            assert_eq!(v4(bad), Err(BadPrefix::Form(bad.to_owned())), "{bad}");
            assert!(v6(bad).is_err(), "{bad}");
        }
        assert_eq!(v4("10.0.0.1/8"), Err(BadPrefix::HostBits("10.0.0.1/8".to_owned())));
        assert!(v6("2600:9000::1/36").is_err());
        assert!(v6("fe80::1%eth0/128").is_err());
    }
}
