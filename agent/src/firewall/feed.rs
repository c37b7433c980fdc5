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
    space::{self, Shortest},
};

/// Largest list that is read; today's has 2.6 MB. A larger one is refused before it is parsed.
pub const MAX_BYTES: usize = 8 << 20;
/// Most IPv4 addresses of the origin-facing list, and of a prefix list of AWS's; today's has 343,616.
pub(super) const MAX_V4_ADDRESSES: u128 = 1 << 21;
/// Most IPv4 addresses of any other service, of which `CLOUDFRONT` has 4,224,645. One that has more is
/// half of the cloud, and to let that in is no firewall.
const MAX_V4_OF_OTHERS: u128 = 1 << 23;
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
    /// It would let in more than any such list has.
    #[error(
        "the list has {addresses} IPv4 addresses of service {service:?}, more than the {max} allowed"
    )]
    TooWide {
        /// The service.
        service: String,
        /// How many.
        addresses: u128,
        /// How many there may be.
        max: u128,
    },
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
    let (addresses, origin_facing) = (set.v4.addresses(), service == ORIGIN_FACING);
    let max = if origin_facing { MAX_V4_ADDRESSES } else { MAX_V4_OF_OTHERS };
    if addresses > max {
        return Err(BadFeed::TooWide { service: service.to_owned(), addresses, max });
    }
    let stray = match origin_facing {
        true => {
            AddrSet { v4: outside(&set.v4, kept.v4.parents), v6: outside(&set.v6, kept.v6.parents) }
        }
        false => AddrSet::default(),
    };
    Ok(FeedList { sync_token: kept.sync_token, set, stray })
}

/// What of `set` is not in each of `parents`. One that is not in the file holds nothing.
fn outside<W: super::model::Word>(set: &Ranges<W>, parents: [Vec<(W, W)>; 2]) -> Ranges<W> {
    parents
        .into_iter()
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
    fn range(text: &str, shortest: Shortest) -> Result<(Self::Word, Self::Word), String>;
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
    fn range(text: &str, shortest: Shortest) -> Result<(u32, u32), String> {
        space::public_v4(text, shortest)
    }
}

impl Kind for V6 {
    type Word = u128;
    type Entry<'a> = Entry6<'a>;
    fn range(text: &str, shortest: Shortest) -> Result<(u128, u128), String> {
        space::public_v6(text, shortest)
    }
}

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
                kept.wanted.push(K::range(&text, Shortest::LetIn).map_err(A::Error::custom)?);
            } else if self.wanted.service == ORIGIN_FACING
                && let Some(at) = PARENTS.iter().position(|p| *p == service)
                && let Ok(range) = K::range(&text, Shortest::Parent)
            {
                // A parent's prefix that we would not let in proves nothing, so it is left out.
                kept.parents[at].push(range);
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
