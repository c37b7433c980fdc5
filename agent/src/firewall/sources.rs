//! All sources, each of one or more parts: what is in force of them. Pure.
//!
//! A source is the union of its parts, and every list has its own state: one that is down, held or
//! empty takes nothing away from what another gives, or from what it gave itself.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    cache::Good,
    feed::ORIGIN_FACING,
    feed_state::FeedState,
    guard,
    model::AddrSet,
    parts::{self, Kind, Part},
    settings::{Ec2List, FeedLocation, FeedSource, Guard, Settings, Source, SourceName},
    status::{Apart, FeedStatus, Origin, RangeOrigin},
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

/// All sources.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    feeds: BTreeMap<FeedKey, FeedState>,
    fixed: BTreeMap<SourceName, AddrSet>,
    /// The kinds of parts of every source, in the order of the configuration.
    kinds: BTreeMap<SourceName, Vec<Kind>>,
    /// The source that live SSH grants are, where one is configured.
    grants_as: Option<SourceName>,
    /// Their addresses, each with its end in milliseconds since boot.
    grants: BTreeMap<IpAddr, u64>,
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

    /// The sources of `settings`. State of a list goes on where it is still configured, wherever it
    /// stands now; for others `kept` gives what the disk has.
    #[must_use]
    pub fn new(
        settings: &Settings,
        mut before: Self,
        mut kept: impl FnMut(&FeedKey, &FeedSource) -> Option<Good>,
    ) -> Self {
        let mut feeds = BTreeMap::new();
        for (key, source) in Self::feeds_of(settings) {
            let state = match before.take(&key, source) {
                Some(old) => old.moved_to(source.clone()),
                None => FeedState::new(source.clone(), kept(&key, source)),
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
        let kinds = settings.sources.iter().map(|(name, all)| (name.clone(), parts::kinds(all)));
        Self {
            fixed: fixed.collect(),
            kinds: kinds.collect(),
            feeds,
            grants_as,
            grants: before.grants,
        }
    }

    /// Takes out the state of a list: the one at its place if it is the same, else one of the source
    /// that is.
    fn take(&mut self, key: &FeedKey, source: &FeedSource) -> Option<FeedState> {
        let same = |k: &FeedKey, f: &FeedState| {
            k.source == key.source && f.source.service == source.service
        };
        let here = self.feeds.get(key).filter(|f| same(key, f)).map(|_| key.clone());
        let there = || self.feeds.iter().find(|(k, f)| same(k, f)).map(|(k, _)| k.clone());
        let found = here.or_else(there)?;
        self.feeds.remove(&found)
    }

    /// The addresses of live SSH grants are these now, each with its end in milliseconds since boot.
    pub fn set_grants(&mut self, grants: BTreeMap<IpAddr, u64>) {
        self.grants = grants;
    }

    /// The addresses that end by themselves, of the source that has such.
    #[must_use]
    pub fn timed(&self) -> BTreeMap<SourceName, BTreeMap<IpAddr, u64>> {
        self.grants_as.iter().map(|name| (name.clone(), self.grants.clone())).collect()
    }

    /// All feeds.
    pub fn feeds(&self) -> impl Iterator<Item = (&FeedKey, &FeedState)> {
        self.feeds.iter()
    }

    /// One feed.
    pub fn feed_mut(&mut self, key: &FeedKey) -> Option<&mut FeedState> {
        self.feeds.get_mut(key)
    }

    /// The ranges in force of every source, but for those that end by themselves.
    #[must_use]
    pub fn in_force(&self) -> BTreeMap<SourceName, AddrSet> {
        let parts = self.in_force_by_part().into_iter();
        parts
            .map(|(name, parts)| {
                let all = parts.iter().fold(AddrSet::default(), |all, p| all.union(&p.set));
                (name, all)
            })
            .collect()
    }

    /// The ranges in force of every source by its parts, in the order of the configuration. Parts may
    /// overlap; where each has a counter of its own, the first that holds an address counts it.
    #[must_use]
    pub fn in_force_by_part(&self) -> BTreeMap<SourceName, Vec<Part>> {
        let part = |source: &SourceName, kind: Kind, all: &[Kind]| {
            let name = parts::name(source, kind, all);
            Part { name, set: self.of_kind(source, kind) }
        };
        self.kinds
            .iter()
            .map(|(source, all)| {
                (source.clone(), all.iter().map(|k| part(source, *k, all)).collect())
            })
            .collect()
    }

    fn of_kind(&self, source: &SourceName, kind: Kind) -> AddrSet {
        match kind {
            Kind::Cidrs => self.fixed.get(source).cloned().unwrap_or_default(),
            // They end by themselves: see `timed`.
            Kind::Grants => AddrSet::default(),
            Kind::Ranges | Kind::Prefixes | Kind::Origins | Kind::Subnets | Kind::Alb => {
                let feeds = self.feeds.iter().filter(|(key, feed)| {
                    key.source == *source && Kind::of_feed(&feed.source) == kind
                });
                feeds.fold(AddrSet::default(), |all, (_, feed)| all.union(&feed.in_force()))
            }
        }
    }

    /// Lets go in every feed what may go by now; the feeds in which anything did.
    pub fn expire(&mut self, guard: &Guard, now: Timestamp) -> Vec<FeedKey> {
        let feeds = self.feeds.iter_mut();
        feeds.filter_map(|(key, f)| f.expire(guard, now).then(|| key.clone())).collect()
    }

    /// The next moment at which a range may go.
    #[must_use]
    pub fn next_due(&self, guard: &Guard) -> Option<Timestamp> {
        self.feeds.values().filter_map(|f| f.next_due(guard)).min()
    }

    /// What others may see of the feeds.
    #[must_use]
    pub fn status(&self, guard: &Guard, now: Timestamp) -> Vec<FeedStatus> {
        let status = |(key, feed): (&FeedKey, &FeedState)| {
            let kinds = self.kinds.get(&key.source).map(Vec::as_slice).unwrap_or_default();
            let part = parts::name(&key.source, Kind::of_feed(&feed.source), kinds);
            let apart = self.apart(&key.source, feed);
            feed.status(key.source.as_str(), part, apart, guard, now)
        };
        self.feeds.iter().map(status).collect()
    }

    /// How far a prefix list is from the published list of the same source. The two are never equal for
    /// long, and need not be; but a large difference is for somebody to look at.
    fn apart(&self, source: &SourceName, feed: &FeedState) -> Option<Apart> {
        let FeedLocation::Ec2(Ec2List::PrefixList(_)) = &feed.source.location else { return None };
        let listed = &feed.good()?.set;
        let mut others = self.feeds.iter().filter(|(key, _)| key.source == *source);
        let (_, published) = others.find(|(_, f)| f.source.service == ORIGIN_FACING)?;
        Some(Apart::of(listed, &published.good()?.set))
    }

    /// Where a range of a source comes from that holds `ip`, with the range.
    #[must_use]
    pub fn origin_of(
        &self,
        source: &SourceName,
        ip: IpAddr,
        guard: &Guard,
    ) -> Option<(String, RangeOrigin)> {
        if self.grants_as.as_ref() == Some(source) && self.grants.contains_key(&ip) {
            return Some((ip.to_string(), RangeOrigin::Granted));
        }
        if let Some(range) = self.fixed.get(source).and_then(|s| s.find(ip)) {
            return Some((range, RangeOrigin::Configured));
        }
        let feeds = || self.feeds.iter().filter(|(k, _)| k.source == *source).map(|(_, f)| f);
        let listed = feeds().find_map(|f| {
            let good = f.good()?;
            let origin = RangeOrigin::Listed {
                service: good.service.clone(),
                origin: good.origin.clone(),
                sync_token: good.sync_token,
                published: guard::when(good.sync_token),
                // The list built in was read by whoever built the program.
                read: (good.origin != Origin::Baked).then_some(good.fetched_at),
            };
            Some((good.set.find(ip)?, origin))
        });
        listed.or_else(|| {
            feeds().find_map(|f| {
                let good = f.good()?;
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
