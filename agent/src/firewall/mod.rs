//! Keeps one table of the kernel's packet filter equal to what the configuration and AWS's published
//! address ranges say.
//!
//! ```text
//! settings --------------------------------------------+
//! Feed --bytes--> feed::parse --> guard::judge --> Dwell --> desired -------> Ruleset
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

mod answers;
mod baked;
mod cache;
pub mod drops;
mod dwell;
mod enforce;
mod explain;
mod export;
mod feed;
mod feed_state;
mod guard;
mod handle;
pub mod history;
mod instructions;
mod keep;
mod model;
mod observe;
mod pace;
mod parts;
mod plan;
mod ports;
mod prefix;
mod reads;
mod rules;
mod ruleset;
pub mod safety;
mod settings;
mod sources;
mod space;
mod status;
mod task;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;

pub use cache::{BadCache, Good, decode as decode_cache, encode as encode_cache};
pub use dwell::{Dwell, Leaving};
pub use explain::explain;
pub use export::export;
pub use feed::{
    BadFeed, FeedList, MAX_BYTES as MAX_FEED_BYTES, ORIGIN_FACING, parse as parse_feed,
};
pub use feed_state::{FeedState, Offered};
pub use guard::{Family, Hold, Known, Refusal, Verdict, judge};
pub use handle::{ApproveError, FirewallInForce, Gone, Handle};
pub use instructions::{Comparison, Instruction};
pub use model::{AddrSet, Cidr, Ranges, Word};
pub use observe::{Base, Claim, Elements, Observed, Owner, SeenChain, SeenRule, Table};
pub use parts::Part;
pub use plan::{Change, Extent, PRIORITY, Refill, TABLE, compare, expected, hook_number};
pub use ports::{Changed, Changes, Feed, FetchError, Fetched, Files, Kernel, KernelError, Place};
pub use prefix::BadPrefix;
pub use rules::{Chain, Clause, Hook, Policy, Rule, chains};
pub use ruleset::{Allow, Protocol, Ruleset, desired};
pub use settings::*;
pub use sources::{FeedKey, Sources};
pub use status::*;
use task::preview;
pub use task::{Firewall, Ports, new, preview::Preview};
