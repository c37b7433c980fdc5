//! Keeps one table of the kernel's packet filter equal to what the configuration and AWS's published
//! address ranges say.
//!
//! ```text
//! settings --------------------------------------------+
//! Feed --bytes--> feed::parse --> guard::judge --> Dwell --> plan::desired --> Ruleset
//!   (failure, refusal: the last good list stays)                                  |
//! Kernel.read --> Observed ------------------------------------> plan::compare ---+--> Change
//!                     ^                                                               |
//!                     +------------------ read back, compare <----- Kernel.apply <----+
//! ```
//! Promises:
//! * Only `table inet palisade` is touched, each change is one transaction, and what is in force is
//!   what was read back, not what was sent.
//! * No list, missing, late, broken or forged, empties a set or opens a port; a list is measured by
//!   the addresses it takes away and adds.
//! * Additions are immediate. A withdrawn range stays until it was gone long enough and a second
//!   version of the list agrees.
//! * A change by somebody else is undone as soon as the kernel tells of it, and within a minute if it
//!   does not.
//! * The rules stay when the agent stops.

mod baked;
mod cache;
mod dwell;
mod enforce;
mod explain;
mod feed;
mod guard;
mod handle;
mod keep;
mod model;
mod observe;
mod pace;
mod plan;
mod ports;
mod prefix;
mod render;
mod settings;
mod sources;
mod status;
mod task;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;

pub use cache::{BadCache, Good, decode as decode_cache, encode as encode_cache};
pub use dwell::{Dwell, Leaving};
pub use explain::explain;
pub use feed::{
    BadFeed, FeedList, MAX_BYTES as MAX_FEED_BYTES, ORIGIN_FACING, parse as parse_feed,
};
pub use guard::{Family, Hold, Known, Refusal, Verdict, judge};
pub use handle::{ApproveError, FirewallInForce, Gone, Handle};
pub use model::{AddrSet, Cidr, Ranges, Word};
pub use observe::{Base, Chain, Elements, Observed, ObservedRule, Table, parse as parse_listing};
pub use plan::{Allow, Change, Extent, Protocol, Ruleset, TABLE, compare, desired};
pub use ports::{Changed, Changes, Feed, FetchError, Fetched, Files, Kernel, KernelError};
pub use prefix::BadPrefix;
pub use render::transaction;
pub use settings::*;
pub use sources::{FeedKey, FeedState, Offered, Sources};
pub use status::*;
pub use task::{Firewall, Ports, new};
