//! The state of every source: what is in force, what is leaving, what waits. Pure.
//!
//! Invariant: what a feed brings changes the ranges in force only by way of [`guard::judge`] and
//! [`Dwell`]; a failure of any kind changes nothing but what `status` says.

use std::collections::BTreeMap;

use super::{
    baked,
    cache::Good,
    dwell::Dwell,
    feed::{FeedList, ORIGIN_FACING},
    guard::{self, Hold, Known, Refusal, Verdict},
    model::AddrSet,
    settings::{FeedLocation, FeedSource, Guard, Settings, Source, SourceName},
    status::{FeedStatus, HeldStatus, LeavingStatus, ListStatus, Origin, RangeOrigin},
};
use crate::clock::Timestamp;

/// Which list of which source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedKey {
    /// The source.
    pub source: SourceName,
    /// Its place among the feeds of the source.
    pub nth: usize,
}

impl FeedKey {
    /// Name of its files on disk.
    #[must_use]
    pub fn file_stem(&self) -> String {
        match self.nth {
            0 => self.source.as_str().to_owned(),
            n => format!("{}-{n}", self.source.as_str()),
        }
    }
}

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
    list: FeedList,
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
    }
}

impl FeedState {
    /// A list as it stands before anything was read: the one kept on disk if it is of the same
    /// service, else the one built in, else none.
    #[must_use]
    pub fn new(source: FeedSource, kept: Option<Good>) -> Self {
        let kept = kept.filter(|g| g.service == source.service);
        let good = match kept {
            // A new version of the program may have a newer list than the disk.
            Some(g) if source.service != ORIGIN_FACING || g.sync_token >= baked::SYNC_TOKEN => {
                Some(g)
            }
            Some(g) => Some(newer_baked(&g)),
            None => (source.service == ORIGIN_FACING).then(baked_good),
        };
        Self { source, good, held: None, checked: None, error: None, failures: 0 }
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
                let since = match &self.held {
                    Some(h) if h.list.set == list.set => h.since,
                    _ => now,
                };
                self.held = Some(Held { list, tag, hold: hold.clone(), since });
                Offered::Held(hold)
            }
            Verdict::Refuse(why) => {
                self.failed(why.to_string());
                Offered::Refused(why)
            }
        }
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

    fn status(&self, name: &SourceName, guard: &Guard) -> FeedStatus {
        FeedStatus {
            source: name.as_str().to_owned(),
            service: self.source.service.clone(),
            location: location_text(&self.source.location),
            list: self.good.as_ref().map(|g| list_status(g, guard)),
            held: self.held.as_ref().map(|h| HeldStatus {
                sync_token: h.list.sync_token,
                since: h.since,
                why: h.hold.to_string(),
                hold: h.hold.clone(),
            }),
            checked: self.checked,
            error: self.error.clone(),
            failures: self.failures,
        }
    }
}

fn list_status(good: &Good, guard: &Guard) -> ListStatus {
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
        published: guard::when(good.sync_token),
        fetched: good.fetched_at,
        ranges: good.set.len(),
        leaving: leaving.collect(),
    }
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

/// All sources.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    feeds: BTreeMap<FeedKey, FeedState>,
    fixed: BTreeMap<SourceName, AddrSet>,
    /// The source that live SSH grants are, where one is configured.
    grants_as: Option<SourceName>,
    grants: AddrSet,
}

impl Sources {
    /// The keys and settings of all feeds of `settings`.
    pub fn feeds_of(settings: &Settings) -> impl Iterator<Item = (FeedKey, &FeedSource)> {
        settings.sources.iter().flat_map(|(name, parts)| {
            let feeds = parts.iter().filter_map(|p| match p {
                Source::Feed(f) => Some(f),
                Source::Cidrs(_) | Source::Grants => None,
            });
            feeds.enumerate().map(|(nth, f)| (FeedKey { source: name.clone(), nth }, f))
        })
    }

    /// The sources of `settings`. State of a feed goes on where it is still configured the same;
    /// for others `kept` gives what the disk has.
    #[must_use]
    pub fn new(
        settings: &Settings,
        mut before: Self,
        mut kept: impl FnMut(&FeedKey) -> Option<Good>,
    ) -> Self {
        let mut feeds = BTreeMap::new();
        for (key, source) in Self::feeds_of(settings) {
            let state = match before.feeds.remove(&key) {
                Some(old) if old.source.service == source.service => {
                    FeedState { source: source.clone(), ..old }
                }
                _ => FeedState::new(source.clone(), kept(&key)),
            };
            feeds.insert(key, state);
        }
        let has_grants = |parts: &Vec<Source>| parts.contains(&Source::Grants);
        let mut named = settings.sources.iter();
        let grants_as = named.find(|(_, parts)| has_grants(parts)).map(|(name, _)| name.clone());
        let fixed = settings.sources.iter().map(|(name, parts)| {
            let nets = parts.iter().flat_map(|p| match p {
                Source::Cidrs(nets) => nets.as_slice(),
                Source::Feed(_) | Source::Grants => &[],
            });
            (name.clone(), nets.collect())
        });
        Self { fixed: fixed.collect(), feeds, grants_as, grants: before.grants }
    }

    /// The addresses of live SSH grants are these now.
    pub fn set_grants(&mut self, addresses: &[std::net::IpAddr]) {
        let nets: Vec<ipnet::IpNet> = addresses.iter().copied().map(Into::into).collect();
        self.grants = nets.iter().collect();
    }

    /// All feeds.
    pub fn feeds(&self) -> impl Iterator<Item = (&FeedKey, &FeedState)> {
        self.feeds.iter()
    }

    /// One feed.
    pub fn feed_mut(&mut self, key: &FeedKey) -> Option<&mut FeedState> {
        self.feeds.get_mut(key)
    }

    /// The ranges in force of every source.
    #[must_use]
    pub fn in_force(&self) -> BTreeMap<SourceName, AddrSet> {
        let mut all = self.fixed.clone();
        if let Some(name) = &self.grants_as {
            all.insert(name.clone(), self.grants.clone());
        }
        for (key, feed) in &self.feeds {
            let set = all.entry(key.source.clone()).or_default();
            *set = set.union(&feed.in_force());
        }
        all
    }

    /// Lets go in every feed what may go by now; the feeds in which anything did.
    pub fn expire(&mut self, guard: &Guard, now: Timestamp) -> Vec<FeedKey> {
        let feeds = self.feeds.iter_mut();
        feeds.filter_map(|(key, f)| f.expire(guard, now).then(|| key.clone())).collect()
    }

    /// The next moment at which a range may go.
    #[must_use]
    pub fn next_due(&self, guard: &Guard) -> Option<Timestamp> {
        let due = |f: &FeedState| f.good.as_ref()?.dwell.next_due(guard.withdraw_after);
        self.feeds.values().filter_map(due).min()
    }

    /// What others may see of the feeds.
    #[must_use]
    pub fn status(&self, guard: &Guard) -> Vec<FeedStatus> {
        self.feeds.iter().map(|(key, f)| f.status(&key.source, guard)).collect()
    }

    /// Where a range of a source comes from that holds `ip`, with the range.
    #[must_use]
    pub fn origin_of(
        &self,
        source: &SourceName,
        ip: std::net::IpAddr,
        guard: &Guard,
    ) -> Option<(String, RangeOrigin)> {
        if self.grants_as.as_ref() == Some(source)
            && let Some(range) = self.grants.find(ip)
        {
            return Some((range, RangeOrigin::Granted));
        }
        if let Some(range) = self.fixed.get(source).and_then(|s| s.find(ip)) {
            return Some((range, RangeOrigin::Configured));
        }
        let feeds = || self.feeds.iter().filter(|(k, _)| k.source == *source).map(|(_, f)| f);
        let listed = feeds().find_map(|f| {
            let good = f.good.as_ref()?;
            let origin = RangeOrigin::Listed {
                service: good.service.clone(),
                origin: good.origin.clone(),
                sync_token: good.sync_token,
                published: guard::when(good.sync_token),
            };
            Some((good.set.find(ip)?, origin))
        });
        listed.or_else(|| {
            feeds().find_map(|f| {
                let good = f.good.as_ref()?;
                good.dwell.groups().iter().find_map(|group| {
                    let origin = RangeOrigin::Leaving {
                        service: good.service.clone(),
                        sync_token: group.sync_token,
                        due: group.due(guard.withdraw_after),
                        confirmed: group.confirmed,
                    };
                    Some((group.set.find(ip)?, origin))
                })
            })
        })
    }
}
