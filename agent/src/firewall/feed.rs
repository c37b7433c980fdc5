//! Reading AWS's `ip-ranges.json`: bytes in, the ranges of one service out.
//!
//! Entries are chosen by `service` and never by `region`: some origin-facing ranges are regional.
//! One entry at a time is looked at and only what is wanted is kept, so that a huge list costs no
//! more memory than its text. Anything doubtful fails the whole list.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    model::{AddrSet, Ranges},
    prefix,
};

/// Largest list that is read; today's has 2.6 MB. A larger one is refused before it is parsed.
pub const MAX_BYTES: usize = 8 << 20;
/// Shortest IPv4 prefix taken; the shortest ever published for these services is 13.
const MIN_V4: u32 = 12;
/// Shortest IPv6 prefix taken.
const MIN_V6: u32 = 32;
/// Services of the same file whose ranges hold every CloudFront edge range.
const PARENTS: [&str; 2] = ["CLOUDFRONT", "AMAZON"];
/// The service whose ranges must lie inside those of `CLOUDFRONT` and of `AMAZON`.
pub const ORIGIN_FACING: &str = "CLOUDFRONT_ORIGIN_FACING";

/// The ranges of one service at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedList {
    /// Unix time of publication; grows with each version.
    pub sync_token: u64,
    /// The ranges.
    pub set: AddrSet,
    /// Addresses that lie outside another service of the same file that should hold them all.
    pub stray: AddrSet,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFeed {
    /// Larger than [`MAX_BYTES`].
    #[error("the list has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLarge(usize),
    /// Not the JSON that AWS publishes, or with a prefix that must not be let in.
    #[error("read the list as ip-ranges.json")]
    Json(#[source] serde_json::Error),
    /// There is nothing to let in.
    #[error("the list has no IPv4 prefix of service {0:?}")]
    Nothing(String),
}

/// Reads a list.
///
/// # Errors
/// When any part of it is not as it should be.
pub fn parse(bytes: &[u8], service: &str, max_ranges: usize) -> Result<FeedList, BadFeed> {
    if bytes.len() > MAX_BYTES {
        return Err(BadFeed::TooLarge(bytes.len()));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wanted = Wanted { service, max_ranges };
    let kept = wanted.deserialize(&mut json).map_err(BadFeed::Json)?;
    json.end().map_err(BadFeed::Json)?;

    let set = AddrSet {
        v4: kept.v4.wanted.into_iter().collect(),
        v6: kept.v6.wanted.into_iter().collect(),
    };
    if set.v4.is_empty() {
        return Err(BadFeed::Nothing(service.to_owned()));
    }
    let stray =
        AddrSet { v4: outside(&set.v4, kept.v4.parents), v6: outside(&set.v6, kept.v6.parents) };
    Ok(FeedList { sync_token: kept.sync_token, set, stray })
}

fn outside<W: super::model::Word>(set: &Ranges<W>, parents: [Vec<(W, W)>; 2]) -> Ranges<W> {
    parents
        .into_iter()
        .filter(|p| !p.is_empty())
        .map(|p| set.difference(&p.into_iter().collect()))
        .fold(Ranges::default(), |all, stray| all.union(&stray))
}

/// What is kept of a list while it is read.
#[derive(Debug, Default)]
struct Kept {
    sync_token: u64,
    v4: Family<u32>,
    v6: Family<u128>,
}

#[derive(Debug)]
struct Family<W> {
    wanted: Vec<(W, W)>,
    parents: [Vec<(W, W)>; 2],
}

impl<W> Default for Family<W> {
    fn default() -> Self {
        Self { wanted: Vec::new(), parents: [Vec::new(), Vec::new()] }
    }
}

#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    service: &'a str,
    max_ranges: usize,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Kept;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Kept, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with syncToken, prefixes and ipv6_prefixes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kept, A::Error> {
        let (mut token, mut v4, mut v6) = (None, None, None);
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let again = match &*key {
                "syncToken" => {
                    let text = map.next_value::<Text<'_>>()?.0;
                    token.replace(sync_token(&text).map_err(A::Error::custom)?).is_some()
                }
                "prefixes" => v4.replace(map.next_value_seed(List::<V4>::of(self))?).is_some(),
                "ipv6_prefixes" => v6.replace(map.next_value_seed(List::<V6>::of(self))?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if again {
                return Err(A::Error::custom(format_args!("{key} stands there twice")));
            }
        }
        let missing = |what| A::Error::custom(format_args!("{what} is missing"));
        Ok(Kept {
            sync_token: token.ok_or_else(|| missing("syncToken"))?,
            v4: v4.ok_or_else(|| missing("prefixes"))?,
            v6: v6.ok_or_else(|| missing("ipv6_prefixes"))?,
        })
    }
}

/// A string, borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn sync_token(text: &str) -> Result<u64, String> {
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let token = if plain && text.len() <= 12 { text.parse().ok() } else { None };
    token.ok_or_else(|| {
        format!("syncToken {:?} is not a Unix time", text.chars().take(40).collect::<String>())
    })
}

/// What differs between the two lists of the file.
trait Kind {
    type Word: super::model::Word;
    type Entry<'a>: Entry<'a>;
    fn range(text: &str) -> Result<(Self::Word, Self::Word), String>;
}

/// One entry of a list.
trait Entry<'a>: Deserialize<'a> {
    /// Its prefix and its service.
    fn split(self) -> (Cow<'a, str>, Cow<'a, str>);
}

#[derive(Deserialize)]
struct Entry4<'a> {
    #[serde(borrow)]
    ip_prefix: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Entry6<'a> {
    #[serde(borrow)]
    ipv6_prefix: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
}

impl<'a> Entry<'a> for Entry4<'a> {
    fn split(self) -> (Cow<'a, str>, Cow<'a, str>) {
        (self.ip_prefix, self.service)
    }
}

impl<'a> Entry<'a> for Entry6<'a> {
    fn split(self) -> (Cow<'a, str>, Cow<'a, str>) {
        (self.ipv6_prefix, self.service)
    }
}

struct V4;
struct V6;

impl Kind for V4 {
    type Word = u32;
    type Entry<'a> = Entry4<'a>;
    fn range(text: &str) -> Result<(u32, u32), String> {
        let (first, last) = prefix::v4(text).map_err(|e| e.to_string())?;
        let never = NEVER_V4.iter().any(|(a, b)| first <= *b && *a <= last);
        check(text, never, u128::from(last - first).saturating_add(1).ilog2() > 32 - MIN_V4)?;
        Ok((first, last))
    }
}

impl Kind for V6 {
    type Word = u128;
    type Entry<'a> = Entry6<'a>;
    fn range(text: &str) -> Result<(u128, u128), String> {
        let (first, last) = prefix::v6(text).map_err(|e| e.to_string())?;
        let public = first >> 125 == 1 && last >> 125 == 1;
        let never = !public || NEVER_V6.iter().any(|(a, b)| first <= *b && *a <= last);
        check(text, never, (last - first).saturating_add(1).ilog2() > 128 - MIN_V6)?;
        Ok((first, last))
    }
}

fn check(text: &str, never: bool, too_short: bool) -> Result<(), String> {
    if never {
        return Err(format!("prefix {text} is not public address space"));
    }
    if too_short {
        return Err(format!(
            "prefix {text} is too short (IPv4 from /{MIN_V4}, IPv6 from /{MIN_V6})"
        ));
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

/// IPv6 space inside `2000::/3` that no edge server can have.
const NEVER_V6: &[(u128, u128)] = &[
    (0x2001 << 112, (0x2001 << 112) | ((1 << 105) - 1)), // 2001::/23, protocol assignments
    (0x2001_0db8 << 96, (0x2001_0db8 << 96) | ((1 << 96) - 1)), // documentation
    (0x2002 << 112, (0x2002 << 112) | ((1 << 112) - 1)), // 6to4
];

/// One of the two lists.
struct List<'a, K> {
    wanted: Wanted<'a>,
    kind: std::marker::PhantomData<K>,
}

impl<'a, K> List<'a, K> {
    fn of(wanted: Wanted<'a>) -> Self {
        Self { wanted, kind: std::marker::PhantomData }
    }
}

impl<'de, K: Kind> DeserializeSeed<'de> for List<'_, K> {
    type Value = Family<K::Word>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, K: Kind> Visitor<'de> for List<'_, K> {
    type Value = Family<K::Word>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of prefixes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut kept = Family::default();
        while let Some(entry) = seq.next_element::<K::Entry<'de>>()? {
            let (text, service) = entry.split();
            if service == self.wanted.service {
                if kept.wanted.len() >= self.wanted.max_ranges {
                    let most = self.wanted.max_ranges;
                    return Err(A::Error::custom(format_args!("more than {most} prefixes")));
                }
                kept.wanted.push(K::range(&text).map_err(A::Error::custom)?);
            } else if self.wanted.service == ORIGIN_FACING
                && let Some(at) = PARENTS.iter().position(|p| *p == service)
                && let Ok(range) = K::range(&text)
            {
                // A parent's prefix that we would not let in proves nothing, so it is left out.
                kept.parents[at].push(range);
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(v4: &[(&str, &str)], v6: &[(&str, &str)]) -> String {
        let v4: Vec<_> = v4
            .iter()
            .map(|(p, s)| format!(r#"{{"ip_prefix":"{p}","region":"x","service":"{s}"}}"#))
            .collect();
        let v6: Vec<_> = v6
            .iter()
            .map(|(p, s)| format!(r#"{{"ipv6_prefix":"{p}","region":"x","service":"{s}"}}"#))
            .collect();
        format!(
            r#"{{"syncToken":"1700000000","createDate":"x","prefixes":[{}],"ipv6_prefixes":[{}]}}"#,
            v4.join(","),
            v6.join(",")
        )
    }

    fn read(text: &str) -> Result<FeedList, String> {
        parse(text.as_bytes(), ORIGIN_FACING, 100).map_err(|e| crate::errors::Chain(&e).to_string())
    }

    const O: &str = ORIGIN_FACING;

    #[test]
    fn prefixes_are_taken_by_service_and_the_rest_is_left() {
        let list = read(&doc(
            &[("13.124.199.0/24", O), ("52.0.0.0/13", "EC2")],
            &[("2600:9000:1000::/36", O), ("::/0", "EC2")],
        ));
        let list = list.unwrap();
        assert_eq!(list.set.prefixes(), ["13.124.199.0/24", "2600:9000:1000::/36"]);
        assert_eq!((list.sync_token, list.stray.is_empty()), (1_700_000_000, true));
    }

    #[test]
    fn what_must_never_be_let_in_fails_the_list_and_is_named() {
        for bad in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.2.0/24",
            "127.0.0.0/8",
            "169.254.169.254/32",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "192.0.2.0/24",
            "8.0.0.0/11",
            "13.0.0.1/24",
            "013.0.0.0/24",
            "13.0.0.0/33",
            "localhost",
            "$(id)",
            "};flush ruleset",
        ] {
            let why = read(&doc(&[("13.124.199.0/24", O), (bad, O)], &[])).unwrap_err();
            assert!(why.contains(bad), "{why}");
        }
        for bad in ["::/0", "fe80::/10", "fc00::/7", "2001:db8::/32", "2000::/3", "::1/128"] {
            let why = read(&doc(&[("13.124.199.0/24", O)], &[(bad, O)])).unwrap_err();
            assert!(why.contains(bad), "{why}");
        }
    }

    #[test]
    fn a_list_without_the_service_is_refused() {
        for text in [doc(&[], &[]), doc(&[("13.124.199.0/24", "CLOUDFRONT_ORIGIN_FACING2")], &[])] {
            assert!(read(&text).unwrap_err().contains("no IPv4 prefix of service"), "{text}");
        }
    }

    #[test]
    fn doubled_keys_missing_keys_and_trailing_text_are_refused() {
        let good = doc(&[("13.124.199.0/24", O)], &[]);
        read(&good).unwrap();
        for (bad, says) in [
            (good.replace("createDate", "syncToken"), "not a Unix time"),
            (good.replace("\"ipv6_prefixes\"", "\"prefixes\""), "twice"),
            (good.replace("\"ipv6_prefixes\"", "\"other\""), "ipv6_prefixes is missing"),
            (good.replace("\"service\"", "\"service\":\"EC2\",\"service\""), "duplicate field"),
            (good.clone() + "{}", "trailing"),
            (good.replace("1700000000", "-5"), "not a Unix time"),
            (good.replace("\"1700000000\"", "1700000000"), "invalid type"),
            ("[]".to_owned(), "an object with syncToken"),
            (String::new(), "EOF"),
        ] {
            let why = read(&bad).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn a_range_outside_the_parents_is_reported() {
        let text = doc(
            &[
                ("13.124.198.0/23", "AMAZON"),
                ("13.124.199.0/24", "CLOUDFRONT"),
                ("13.124.198.0/23", O),
            ],
            &[],
        );
        assert_eq!(read(&text).unwrap().stray.prefixes(), ["13.124.198.0/24"]);
    }

    #[test]
    fn a_flood_of_prefixes_is_refused_at_the_limit() {
        let many: Vec<_> = (0..=255_u32).map(|i| (format!("13.1.{i}.0/32"), O)).collect();
        let many: Vec<_> = many.iter().map(|(p, s)| (p.as_str(), *s)).collect();
        assert!(read(&doc(&many, &[])).unwrap_err().contains("more than 100 prefixes"));
    }

    #[test]
    fn an_oversized_list_is_refused_unread() {
        let big = vec![b' '; MAX_BYTES + 1];
        assert!(matches!(parse(&big, O, 10), Err(BadFeed::TooLarge(_))));
    }
}
