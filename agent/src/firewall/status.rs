//! What others may see of the firewall: documents that the control socket serves as JSON.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    guard::Hold,
    model::{AddrSet, Ranges, Word},
    safety::{SafetyStatus, Verdict},
};
use crate::clock::Timestamp;

/// The state of the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What is in force.
    pub state: State,
    /// The sets that the rules use, by source.
    pub sets: Vec<SetStatus>,
    /// The lists that are read.
    pub feeds: Vec<FeedStatus>,
    /// Changes by others.
    pub drift: Drift,
    /// Packets counted by the kernel, by counter, as last read: `dropped`, `invalid` and one for
    /// each source, `from_NAME`.
    pub packets: BTreeMap<String, u64>,
    /// Why the last good lists cannot be kept on disk, where that is so.
    pub cache_error: Option<String>,
    /// What waits to be confirmed and what is kept back.
    #[serde(default)]
    pub safety: Option<SafetyStatus>,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Nothing was tried yet.
    Starting,
    /// The kernel has what we want, seen by reading it back.
    InForce {
        /// Since when the present rules are.
        since: Timestamp,
        /// When that was last seen.
        checked: Timestamp,
    },
    /// Only planned, as the configuration says; the kernel is as it was.
    PlanOnly {
        /// Whether applying would change anything; unknown where the kernel cannot be read.
        differs: Option<bool>,
    },
    /// The kernel does not have what we want.
    Failed {
        /// All causes.
        why: String,
        /// What can be done about it.
        hint: Option<String>,
        /// Tries since it last was in force.
        failures: u32,
    },
}

/// One set of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetStatus {
    /// The source it is named after.
    pub source: String,
    /// TCP ports that are open to it.
    pub tcp: Vec<u16>,
    /// Ranges.
    pub ranges: usize,
    /// IPv4 addresses.
    pub v4_addresses: u64,
    /// IPv6 networks of 64 bits.
    pub v6_networks: u64,
}

/// One list that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// The source it belongs to.
    pub source: String,
    /// What the sets and the counter of its part of the source are named after.
    #[serde(default)]
    pub part: String,
    /// The service whose ranges are taken.
    pub service: String,
    /// Where it is read.
    pub location: String,
    /// The list in force, if there is one.
    pub list: Option<ListStatus>,
    /// A newer list that waits for an operator.
    pub held: Option<HeldStatus>,
    /// When a good answer last came.
    pub checked: Option<Timestamp>,
    /// Why the last try gave nothing new, where it failed.
    pub error: Option<String>,
    /// Failures since the last good answer.
    pub failures: u32,
    /// Whether the list in force is over thirty days old: of a published list since its publication, of
    /// others since the last good answer.
    #[serde(default)]
    pub stale: bool,
    /// Of a prefix list beside a published one: how far the two are apart.
    #[serde(default)]
    pub apart: Option<Apart>,
}

/// How far a prefix list is from the published list, in the families that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// Published addresses that it lacks, in thousandths of the published ones, rounded up.
    pub missing_permille: u32,
    /// Addresses of it that are not published, in thousandths of its own, rounded up.
    pub extra_permille: u32,
}

impl Apart {
    /// Beyond this share in either direction somebody should look.
    const ALARM_PERMILLE: u32 = 50;

    pub(super) fn of(listed: &AddrSet, published: &AddrSet) -> Self {
        let (mut missing, mut extra) = (0, 0);
        if !listed.v4.is_empty() {
            missing = missing.max(share(&published.v4, &listed.v4));
            extra = extra.max(share(&listed.v4, &published.v4));
        }
        if !listed.v6.is_empty() {
            missing = missing.max(share(&published.v6, &listed.v6));
            extra = extra.max(share(&listed.v6, &published.v6));
        }
        Self { missing_permille: missing, extra_permille: extra }
    }

    /// Whether somebody should look.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        self.missing_permille.max(self.extra_permille) > Self::ALARM_PERMILLE
    }
}

/// What of `of` is not in `other`, in thousandths.
fn share<W: Word>(of: &Ranges<W>, other: &Ranges<W>) -> u32 {
    let (all, gone) = (of.addresses(), of.difference(other).addresses());
    // All of IPv6 counts as one less, and a part of it may be so many that thousands of it are too many.
    let permille = gone.checked_mul(1000).map_or(1000, |n| n.div_ceil(all.max(1)));
    u32::try_from(permille).unwrap_or(u32::MAX)
}

/// Where the list in force came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Built into the program.
    Baked,
    /// Read from here.
    Fetched(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Baked => f.write_str("built in"),
            Self::Fetched(from) => f.write_str(from),
        }
    }
}

/// The list in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// Where it came from.
    pub origin: Origin,
    /// Its version: Unix time of publication.
    pub sync_token: u64,
    /// The same as a moment.
    pub published: Timestamp,
    /// When it was read; the moment of publication for the list built in.
    pub fetched: Timestamp,
    /// Ranges it has.
    pub ranges: usize,
    /// Prefixes it no longer has and that stay in force for a while.
    pub leaving: Vec<LeavingStatus>,
}

/// A prefix on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingStatus {
    /// The prefix.
    pub prefix: String,
    /// When it goes, if `confirmed`.
    pub due: Timestamp,
    /// Whether a second version of the list agrees that it is gone.
    pub confirmed: bool,
}

/// A list that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// Its version.
    pub sync_token: u64,
    /// Since when it waits.
    pub since: Timestamp,
    /// Why.
    pub hold: Hold,
    /// The same in words.
    pub why: String,
}

/// Changes by others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Whether the kernel tells us of changes at once; if not, they are found within a minute.
    pub watching: bool,
    /// Repairs since the start.
    pub repairs: u64,
    /// The last one.
    pub last: Option<Repair>,
    /// Whether repairs are down to one a minute because there were too many.
    pub storm: bool,
}

/// One repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When.
    pub at: Timestamp,
    /// Who changed our rules, where the kernel said: `nft (pid 123)`.
    pub culprit: Option<String>,
    /// What was changed.
    pub changes: Vec<String>,
    /// Milliseconds from the kernel's word, or from our check, to the rules being back.
    pub took_ms: u64,
}

/// What applying would change now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whether there is anything to change.
    pub differs: bool,
    /// Changes of sets.
    pub sets: Vec<SetChange>,
    /// Changes of anything else, in words.
    pub other: Vec<String>,
    /// The rules as they are to be, in order, in words.
    pub rules: Vec<String>,
    /// Lists that wait for an operator.
    pub held: Vec<FeedStatus>,
}

/// What would change in one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChange {
    /// Its name in the kernel.
    pub set: String,
    /// Prefixes that come.
    pub added: Vec<String>,
    /// Prefixes that go.
    pub removed: Vec<String>,
    /// Change of the address space in thousandths of what is there now; none if nothing is.
    pub address_permille: Option<i64>,
}

/// Whether and why an address may connect to a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The address asked about.
    pub ip: IpAddr,
    /// The TCP port asked about, or all ports.
    pub port: Option<u16>,
    /// Whether a new connection is let in (to any port, if none was named) by the rules that are wanted.
    pub accepted: bool,
    /// Whether those rules are in force.
    pub in_force: bool,
    /// What lets it in.
    pub by: Vec<Reason>,
    /// The same in words.
    pub text: String,
    /// Tables of others that may drop all the same, in words.
    #[serde(default)]
    pub foreign: Vec<String>,
    /// What became of a real packet, if one was asked for.
    #[serde(default)]
    pub probe: Option<Probed>,
}

/// What became of a real packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probed {
    /// This, by the rules that are wanted, in a network of their own.
    Sent(Verdict),
    /// None could be sent, and why.
    NotSent(String),
}

/// One reason to let an address in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The set.
    pub source: String,
    /// TCP ports that are open to the set, of those asked about.
    pub tcp: Vec<u16>,
    /// The range of the set that holds the address.
    pub range: String,
    /// Where the range comes from.
    pub from: RangeOrigin,
}

/// Where a range comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum RangeOrigin {
    /// Written in the configuration.
    Configured,
    /// Named by a live SSH grant.
    Granted,
    /// In a list.
    Listed {
        /// The service.
        service: String,
        /// Where the list came from.
        origin: Origin,
        /// Its version.
        sync_token: u64,
        /// The same as a moment.
        published: Timestamp,
        /// Since when this host has it in force, as far as that is known: the list that is in force
        /// was read then, and the range may be older.
        #[serde(default)]
        read: Option<Timestamp>,
    },
    /// No longer in a list, but not closed yet.
    Leaving {
        /// The service.
        service: String,
        /// The version that dropped it.
        sync_token: u64,
        /// When it closes, if `confirmed`.
        due: Timestamp,
        /// Whether a second version agrees.
        confirmed: bool,
    },
}

/// What a refresh brought, for one list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// The source.
    pub source: String,
    /// The service.
    pub service: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a look at a list brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Outcome {
    /// Nothing new.
    Unchanged,
    /// A newer list is in force.
    Accepted {
        /// Its version.
        sync_token: u64,
    },
    /// A newer list waits for an operator.
    Held {
        /// Why.
        why: String,
    },
    /// It could not be read or is wrong; the last good one stays in force.
    Failed {
        /// All causes.
        why: String,
    },
}
