//! Reading what EC2 has now: prefixes as text in, a set out.
//!
//! The text was in an answer over the network, so it is read as strictly as a published list: every
//! prefix in its only form, no name looked up, and one that must not be let in fails the whole answer.

use super::{
    feed::MAX_V4_ADDRESSES,
    model::AddrSet,
    settings::Nature,
    space::{self, Shortest},
};

/// Why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAnswer {
    /// More than may be built.
    #[error("the answer has {count} prefixes, more than the {max} allowed (guard.max_ranges)")]
    TooMany {
        /// So many.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// A prefix that is none, or must not be let in.
    #[error("{0}")]
    Prefix(String),
    /// A list of AWS's that is not the size of one.
    #[error("the list has {0} IPv4 addresses, more than the {MAX_V4_ADDRESSES} allowed")]
    TooWide(u128),
    /// AWS's own lists are never empty.
    #[error("the list is empty")]
    Empty,
}

/// The set of an answer.
pub(super) fn read(
    prefixes: &[String],
    nature: Nature,
    max_ranges: usize,
) -> Result<AddrSet, BadAnswer> {
    if prefixes.len() > max_ranges {
        return Err(BadAnswer::TooMany { count: prefixes.len(), max: max_ranges });
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for text in prefixes {
        let own = nature == Nature::Own;
        match (text.contains(':'), own) {
            (false, true) => v4.push(space::own_v4(text).map_err(BadAnswer::Prefix)?),
            (true, true) => v6.push(space::own_v6(text).map_err(BadAnswer::Prefix)?),
            (false, false) => {
                v4.push(space::public_v4(text, Shortest::LetIn).map_err(BadAnswer::Prefix)?);
            }
            (true, false) => {
                v6.push(space::public_v6(text, Shortest::LetIn).map_err(BadAnswer::Prefix)?);
            }
        }
    }
    let set = AddrSet { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() };
    if nature != Nature::Own && set.is_empty() {
        return Err(BadAnswer::Empty);
    }
    if nature != Nature::Own && set.v4.addresses() > MAX_V4_ADDRESSES {
        return Err(BadAnswer::TooWide(set.v4.addresses()));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(prefixes: &[&str]) -> Result<AddrSet, BadAnswer> {
        let prefixes: Vec<String> = prefixes.iter().map(|p| (*p).to_owned()).collect();
        read(&prefixes, Nature::Public, 100)
    }

    #[test]
    fn an_answer_is_read_as_strictly_as_a_list_and_no_name_is_looked_up() {
        let set = public(&["13.124.199.0/24", "2600:9000:1000::/36"]).unwrap();
        assert_eq!(set.prefixes(), ["13.124.199.0/24", "2600:9000:1000::/36"]);
        for bad in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/24",
            "127.0.0.0/12",
            "13.0.0.1/24",
            "013.0.0.0/24",
            "13.0.0.0/33",
            "localhost",
            "$(id)",
            "};flush ruleset",
            "fe80::%eth0/64",
            "",
        ] {
            let why = public(&["13.124.199.0/24", bad]).unwrap_err();
            assert!(matches!(&why, BadAnswer::Prefix(text) if text.contains(bad)), "{why}");
        }
    }

    #[test]
    fn a_list_of_aws_is_neither_empty_nor_huge() {
        assert_eq!(public(&[]), Err(BadAnswer::Empty));
        let all: Vec<String> = (0..3).map(|i| format!("13.{}.0.0/12", i * 16)).collect();
        let wide = BadAnswer::TooWide(3 << 20);
        assert_eq!(read(&all, Nature::Public, 100), Err(wide));
        assert!(read(&all[..2], Nature::Public, 100).is_ok());
        let many: Vec<String> = (0..=100).map(|i| format!("13.0.0.{i}/32")).collect();
        assert!(matches!(read(&many, Nature::Public, 100), Err(BadAnswer::TooMany { .. })));
    }

    #[test]
    fn no_interface_yet_is_an_answer() {
        assert_eq!(read(&[], Nature::Own, 100), Ok(AddrSet::default()));
    }
}
