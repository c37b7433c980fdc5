//! One list that is read: what is in force of it, what is leaving, what waits. Pure.
//!
//! Invariant: what a list brings changes the ranges in force only by way of [`guard::judge`] and
//! [`Dwell`]; a failure of any kind changes nothing but what `status` says.

use std::time::Duration;

use super::{
    baked,
    cache::Good,
    dwell::Dwell,
    feed::{FeedList, ORIGIN_FACING},
    guard::{self, Filling, Hold, Known, Refusal, Verdict},
    model::AddrSet,
    settings::{Ec2List, FeedLocation, FeedSource, Guard, Nature, ORIGIN_FACING_LISTS},
    status::{Apart, FeedStatus, HeldStatus, LeavingStatus, ListStatus, Origin},
};
use crate::clock::Timestamp;

/// A list that is older than this is told as stale. AWS publishes several versions a day, and a list
/// that EC2 has is asked for every few minutes.
const STALE: Duration = Duration::from_secs(30 * 86_400);

/// One list and what we know of it.
#[derive(Clone, Debug)]
pub struct FeedState {
    /// What is configured.
    pub source: FeedSource,
    good: Option<Good>,
    held: Option<Held>,
    checked: Option<Timestamp>,
    error: Option<String>,
    failures: u32,
}

#[derive(Clone, Debug)]
struct Held {
    /// The newest version of it.
    list: FeedList,
    /// The first version that had the same ranges: who approves that one means these.
    first: u64,
    tag: Option<String>,
    hold: Hold,
    since: Timestamp,
}

/// What an offered list led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Nothing is new.
    Same,
    /// It is in force now, and worth keeping on disk.
    Accepted,
    /// It waits.
    Held(Hold),
    /// It is wrong.
    Refused(Refusal),
}

/// Text for people of where a list is read.
#[must_use]
pub(super) fn location_text(location: &FeedLocation) -> String {
    match location {
        FeedLocation::Url(url) => url.clone(),
        FeedLocation::File(path) => path.display().to_string(),
        FeedLocation::Ec2(_) => "EC2".to_owned(),
    }
}

impl FeedState {
    /// A list as it stands before anything was read: the one kept on disk if it is of the same
    /// service, else the one built in, else none.
    #[must_use]
    pub fn new(source: FeedSource, kept: Option<Good>) -> Self {
        // A published list lets somebody in by IPv4; others may have one family, or nobody yet.
        let nobody = |g: &Good| source.nature() == Nature::Published && g.set.v4.is_empty();
        let kept = kept.filter(|g| g.service == source.service && !nobody(g));
        let good = match kept {
            // A new version of the program may have a newer list than the disk.
            Some(g) if source.service != ORIGIN_FACING || g.sync_token >= baked::SYNC_TOKEN => {
                Some(g)
            }
            Some(g) => Some(newer_baked(&g)),
            None => baked_for(&source),
        };
        Self { source, good, held: None, checked: None, error: None, failures: 0 }
    }

    /// The same state, of a list that is read from another place or at other times.
    pub(super) fn moved_to(self, source: FeedSource) -> Self {
        Self { source, ..self }
    }

    /// The list in force.
    #[must_use]
    pub fn good(&self) -> Option<&Good> {
        self.good.as_ref()
    }

    /// The ranges in force: those listed and those leaving.
    #[must_use]
    pub fn in_force(&self) -> AddrSet {
        self.good.as_ref().map(|g| g.set.union(&g.dwell.set())).unwrap_or_default()
    }

    /// The tag to ask with: none while the list in force did not come from where we ask.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        let good = self.good.as_ref()?;
        let same = good.origin == Origin::Fetched(location_text(&self.source.location));
        good.tag.as_deref().filter(|_| same)
    }

    /// Failures since the last good answer.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The source says that nothing changed since the list in force.
    pub fn unchanged(&mut self, now: Timestamp) {
        self.answered(now);
        self.held = None;
    }

    /// It could not be read.
    pub fn failed(&mut self, why: String) {
        self.error = Some(why);
        self.failures = self.failures.saturating_add(1);
    }

    fn answered(&mut self, now: Timestamp) {
        self.checked = Some(now);
        self.error = None;
        self.failures = 0;
    }

    /// A list that was read.
    pub fn offer(
        &mut self,
        list: FeedList,
        tag: Option<String>,
        guard: &Guard,
        now: Timestamp,
    ) -> Offered {
        let known = self.good.as_ref().map(|g| Known {
            sync_token: g.sync_token,
            first_token: g.first_token,
            set: &g.set,
        });
        match guard::judge(known, &list, guard, now) {
            Verdict::Same => {
                self.answered(now);
                self.held = None;
                self.adopt_tag(tag, now)
            }
            Verdict::Accept => self.take(list, tag, guard, now),
            Verdict::Hold(hold) => {
                self.answered(now);
                self.hold(list, tag, hold, now)
            }
            Verdict::Refuse(why) => self.refuse(why),
        }
    }

    /// What EC2 has now. It has no versions, so the time of the answer is one, and a range is gone for
    /// sure when two answers lack it.
    pub(super) fn offer_answer(
        &mut self,
        set: AddrSet,
        nature: Nature,
        guard: &Guard,
        now: Timestamp,
    ) -> Offered {
        let at = u64::try_from(now.as_secs()).unwrap_or(0);
        let good = self.good.as_ref();
        // A clock that went back must not make an answer an old one.
        let sync_token = good.map_or(at, |g| at.max(g.sync_token.saturating_add(1)));
        let known = good.map(|g| (&g.set, Filling::since(g.first_token, sync_token)));
        let verdict = guard::judge_answer(known, &set, nature, guard);
        let open = good.is_some_and(|g| g.dwell.groups().iter().any(|l| !l.confirmed));
        let list = FeedList { sync_token, set, stray: AddrSet::default() };
        match verdict {
            Verdict::Same if !open => {
                self.answered(now);
                self.held = None;
                Offered::Same
            }
            // It confirms what an earlier answer lacked.
            Verdict::Same | Verdict::Accept => self.take(list, None, guard, now),
            Verdict::Hold(hold) => {
                self.answered(now);
                self.hold(list, None, hold, now)
            }
            Verdict::Refuse(why) => self.refuse(why),
        }
    }

    /// A list that is wrong in itself, whatever is in force.
    pub(super) fn refuse(&mut self, why: Refusal) -> Offered {
        self.failed(why.to_string());
        Offered::Refused(why)
    }

    fn hold(&mut self, list: FeedList, tag: Option<String>, hold: Hold, now: Timestamp) -> Offered {
        let (since, first) = match &self.held {
            Some(h) if h.list.set == list.set => (h.since, h.first),
            _ => (now, list.sync_token),
        };
        self.held = Some(Held { list, first, tag, hold: hold.clone(), since });
        Offered::Held(hold)
    }

    /// The version that waits, if one does.
    pub(super) fn held_version(&self) -> Option<u64> {
        self.held.as_ref().map(|h| h.list.sync_token)
    }

    /// Whether what waits has the ranges that this version had when it was held.
    pub(super) fn is_held_as(&self, version: u64) -> bool {
        self.held.as_ref().is_some_and(|h| (h.first..=h.list.sync_token).contains(&version))
    }

    /// The same list from another place, or with another tag: remembered, so that the next question
    /// is a short one.
    fn adopt_tag(&mut self, tag: Option<String>, now: Timestamp) -> Offered {
        let origin = Origin::Fetched(location_text(&self.source.location));
        match &mut self.good {
            Some(g) if g.origin != origin || g.tag != tag => {
                (g.origin, g.tag, g.fetched_at) = (origin, tag, now);
                Offered::Accepted
            }
            _ => Offered::Same,
        }
    }

    fn take(
        &mut self,
        list: FeedList,
        tag: Option<String>,
        guard: &Guard,
        now: Timestamp,
    ) -> Offered {
        let (first_token, dwell) = match &self.good {
            Some(g) => (
                g.first_token,
                g.dwell
                    .after_change(&g.set, &list.set, list.sync_token, now)
                    .at(now, guard.withdraw_after),
            ),
            None => (list.sync_token, Dwell::default()),
        };
        let ranges = list.set.union(&dwell.set()).len();
        if ranges > guard.max_ranges {
            let why = Refusal::TooMany { ranges, max: guard.max_ranges };
            self.failed(why.to_string());
            return Offered::Refused(why);
        }
        self.answered(now);
        self.held = None;
        self.good = Some(Good {
            service: self.source.service.clone(),
            sync_token: list.sync_token,
            first_token,
            set: list.set,
            dwell,
            origin: Origin::Fetched(location_text(&self.source.location)),
            tag,
            fetched_at: now,
        });
        Offered::Accepted
    }

    /// Accepts the list that waits. Its version is checked again, its changes are not; what it drops
    /// still leaves slowly.
    pub fn approve(&mut self, guard: &Guard, now: Timestamp) -> Option<Offered> {
        let held = self.held.take()?;
        Some(self.take(held.list, held.tag, guard, now))
    }

    /// Lets go what may go by now; whether anything did.
    pub fn expire(&mut self, guard: &Guard, now: Timestamp) -> bool {
        let Some(good) = &mut self.good else { return false };
        let left = good.dwell.at(now, guard.withdraw_after);
        let changed = left != good.dwell;
        good.dwell = left;
        changed
    }

    /// The next moment at which a range may go.
    pub(super) fn next_due(&self, guard: &Guard) -> Option<Timestamp> {
        self.good.as_ref()?.dwell.next_due(guard.withdraw_after)
    }

    /// Whether the list in force is older than it should ever get.
    fn is_stale(&self, now: Timestamp) -> bool {
        let Some(good) = &self.good else { return false };
        let of = match self.source.nature() {
            Nature::Published => guard::when(good.sync_token),
            Nature::Public | Nature::Own => {
                self.checked.map_or(good.fetched_at, |c| c.max(good.fetched_at))
            }
        };
        now > of.plus(STALE)
    }

    /// What others may see, of the list of this source and part.
    pub(super) fn status(
        &self,
        source: &str,
        part: String,
        apart: Option<Apart>,
        guard: &Guard,
        now: Timestamp,
    ) -> FeedStatus {
        FeedStatus {
            source: source.to_owned(),
            part,
            service: self.source.service.clone(),
            location: location_text(&self.source.location),
            list: self.good.as_ref().map(|g| self.list_status(g, guard)),
            held: self.held.as_ref().map(|h| HeldStatus {
                sync_token: h.list.sync_token,
                since: h.since,
                why: h.hold.to_string(),
                hold: h.hold.clone(),
            }),
            checked: self.checked,
            error: self.error.clone(),
            failures: self.failures,
            stale: self.is_stale(now),
            apart,
        }
    }

    fn list_status(&self, good: &Good, guard: &Guard) -> ListStatus {
        let leaving = good.dwell.groups().iter().flat_map(|group| {
            group.set.prefixes().into_iter().map(|prefix| LeavingStatus {
                prefix,
                due: group.due(guard.withdraw_after),
                confirmed: group.confirmed,
            })
        });
        ListStatus {
            origin: good.origin.clone(),
            sync_token: good.sync_token,
            published: match self.source.nature() {
                Nature::Published => guard::when(good.sync_token),
                Nature::Public | Nature::Own => good.fetched_at,
            },
            fetched: good.fetched_at,
            ranges: good.set.len(),
            leaving: leaving.collect(),
        }
    }
}

/// What is built in of a list.
fn baked_for(source: &FeedSource) -> Option<Good> {
    let good = baked_good();
    if source.service == ORIGIN_FACING {
        return Some(good);
    }
    // AWS's two prefix lists have the same addresses, each those of one family.
    let FeedLocation::Ec2(Ec2List::PrefixList(name)) = &source.location else { return None };
    let AddrSet { v4, v6 } = good.set;
    let set = match ORIGIN_FACING_LISTS.iter().position(|known| known == name)? {
        0 => AddrSet { v4, ..AddrSet::default() },
        _ => AddrSet { v6, ..AddrSet::default() },
    };
    Some(Good { service: source.service.clone(), set, ..baked_good() })
}

fn baked_good() -> Good {
    Good {
        service: ORIGIN_FACING.to_owned(),
        sync_token: baked::SYNC_TOKEN,
        first_token: baked::SYNC_TOKEN.saturating_sub(7 * 86_400),
        set: baked::origin_facing(),
        dwell: Dwell::default(),
        origin: Origin::Baked,
        tag: None,
        fetched_at: guard::when(baked::SYNC_TOKEN),
    }
}

/// The list built in, in place of an older one that was kept; what the older one had leaves slowly.
fn newer_baked(kept: &Good) -> Good {
    let baked = baked_good();
    let when = kept.fetched_at.max(baked.fetched_at);
    let dwell = kept.dwell.after_change(&kept.set, &baked.set, baked.sync_token, when);
    Good { dwell, first_token: kept.first_token, ..baked }
}
