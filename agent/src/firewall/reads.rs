//! Lists, from the moment they are due: read, taken in, told, approved.
//!
//! Lists are read beside the task, one read at a time for each, so that a slow source holds up
//! neither a repair nor an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::JoinError,
    time::{self, Instant},
};

use super::{
    answers,
    enforce::Cause,
    feed,
    feed_state::Offered,
    guard,
    handle::{ApproveError, QUEUE},
    history::Who,
    model::AddrSet,
    pace,
    ports::{Changes, Feed, FetchError, Fetched, Files, Kernel},
    settings::{FeedSource, Nature, SourceName},
    sources::FeedKey,
    space,
    status::{Outcome, Refreshed},
    task::{FetchEnd, Firewall},
};
use crate::{clock::WallClock, errors::Chain};

/// A read of a list is given up after this; adapters give up sooner themselves.
const FETCH_DEADLINE: Duration = Duration::from_secs(90);

/// One read of a list, at its end.
#[derive(Debug)]
pub(super) struct Read {
    /// What was configured when it began.
    source: FeedSource,
    /// Networks of this host's own, as far as somebody knew.
    own: AddrSet,
    got: Result<Fetched, FetchError>,
}

/// Somebody who waits for all lists to be read.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) left: BTreeSet<FeedKey>,
    /// Those that were being read when it was asked: what such a read brings may be older than the
    /// question, so another one answers it.
    pub(super) begun_before: BTreeSet<FeedKey>,
    /// What those reads brought; the answer where nothing is new since.
    pub(super) earlier: BTreeMap<FeedKey, Refreshed>,
    pub(super) done: Vec<Refreshed>,
    pub(super) reply: oneshot::Sender<Vec<Refreshed>>,
}

impl<K: Kernel, C: Changes, F: Feed, S: Files, W: WallClock> Firewall<K, C, F, S, W> {
    pub(super) fn start_reads(&mut self) {
        let now = Instant::now();
        let busy: BTreeSet<FeedKey> = self.in_flight.values().cloned().collect();
        for (key, state) in self.sources.feeds() {
            if busy.contains(key) || self.due.get(key).is_none_or(|at| *at > now) {
                continue;
            }
            let (feed, source) = (Arc::clone(&self.feed), state.source.clone());
            let tag = state.tag().map(str::to_owned);
            let read = self.fetches.spawn(async move {
                let read = async {
                    let got = feed.fetch(&source.location, tag.as_deref()).await;
                    // Known by then where anybody knows: the place that is asked has asked for it too.
                    let own = match got {
                        Ok(Fetched::Body { .. } | Fetched::Prefixes { .. }) => {
                            space::own_networks(&feed.own_networks().await)
                        }
                        Ok(Fetched::NotModified) | Err(_) => AddrSet::default(),
                    };
                    (own, got)
                };
                let late = || FetchError::new(format!("no list within {FETCH_DEADLINE:?}"));
                let read = time::timeout(FETCH_DEADLINE, read).await;
                let (own, got) = read.unwrap_or_else(|_| (AddrSet::default(), Err(late())));
                Read { source, own, got }
            });
            self.in_flight.insert(read.id(), key.clone());
        }
    }

    pub(super) async fn take_read(&mut self, end: Option<Result<FetchEnd, JoinError>>) {
        let Some(end) = end else { return };
        let (id, result) = match end {
            Ok((id, read)) => (id, Some(read)),
            Err(panicked) => {
                tracing::error!(error = %panicked, "reading a list panicked");
                (panicked.id(), None)
            }
        };
        let Some(key) = self.in_flight.remove(&id) else { return };
        let outcome = match result {
            Some(read) => self.take_list(&key, read),
            None => self.failed(&key, "reading the list panicked".to_owned()),
        };
        // None: the feed is configured otherwise by now, and is read anew at once.
        let Some(outcome) = outcome else { return };
        self.schedule(&key);
        if let Outcome::Accepted { sync_token: version } = outcome {
            let source = key.source.as_str().to_owned();
            self.enforcer.history.because(Who::Feed { source, version });
            self.keep(&key).await;
        }
        let refreshed = Refreshed {
            source: key.source.as_str().to_owned(),
            service: self.service(&key),
            outcome,
        };
        for w in &mut self.waiting {
            if w.begun_before.remove(&key) {
                w.earlier.insert(key.clone(), refreshed.clone());
                self.due.insert(key.clone(), Instant::now());
            } else if w.left.remove(&key) {
                let earlier = w.earlier.remove(&key);
                let earlier = earlier.filter(|_| refreshed.outcome == Outcome::Unchanged);
                w.done.push(earlier.unwrap_or_else(|| refreshed.clone()));
            }
        }
        self.converge(Cause::Ours).await;
    }

    fn service(&self, key: &FeedKey) -> String {
        let mut feeds = self.sources.feeds();
        feeds.find(|(k, _)| *k == key).map(|(_, f)| f.source.service.clone()).unwrap_or_default()
    }

    /// Takes in what was read, if the feed is still configured as it was when the read began.
    fn take_list(&mut self, key: &FeedKey, read: Read) -> Option<Outcome> {
        let now = self.clock.now();
        let guard = self.settings.guard;
        let Read { source, own, got } = read;
        let state = self.sources.feed_mut(key)?;
        if (&state.source.location, &state.source.service) != (&source.location, &source.service) {
            return None;
        }
        let offered = match got {
            Ok(Fetched::NotModified) => {
                state.unchanged(now);
                return Some(Outcome::Unchanged);
            }
            Ok(Fetched::Body { bytes, tag }) => {
                match feed::parse(&bytes, &source.service, guard.max_ranges) {
                    Err(e) => return self.failed(key, Chain(&e).to_string()),
                    Ok(list) => match guard::own(&list.set, &own) {
                        Some(why) => state.refuse(why),
                        None => state.offer(list, tag, &guard, now),
                    },
                }
            }
            Ok(Fetched::Prefixes { prefixes, is_amazons }) => {
                let nature = if is_amazons { Nature::Public } else { source.nature() };
                match answers::read(&prefixes, nature, guard.max_ranges) {
                    Err(e) => return self.failed(key, Chain(&e).to_string()),
                    Ok(set) => match guard::own(&set, &own).filter(|_| nature != Nature::Own) {
                        Some(why) => state.refuse(why),
                        None => state.offer_answer(set, nature, &guard, now),
                    },
                }
            }
            Err(e) => return self.failed(key, Chain(&e).to_string()),
        };
        Some(self.told(key, offered))
    }

    /// What came of a list, told once.
    fn told(&mut self, key: &FeedKey, offered: Offered) -> Outcome {
        let feeds = self.sources.feed_mut(key);
        let held = feeds.as_ref().and_then(|f| f.held_version()).unwrap_or_default();
        let sync_token = feeds.and_then(|f| f.good()).map_or(0, |g| g.sync_token);
        let source = key.source.as_str();
        match offered {
            Offered::Same => Outcome::Unchanged,
            Offered::Accepted => {
                tracing::info!(source, sync_token, "address list accepted");
                Outcome::Accepted { sync_token }
            }
            Offered::Held(hold) => {
                let why = hold.to_string();
                tracing::error!(source, sync_token = held, why, "address list held until approved");
                Outcome::Held { why }
            }
            Offered::Refused(why) => {
                let why = why.to_string();
                tracing::error!(source, why, "address list refused; the last good one stays");
                Outcome::Failed { why }
            }
        }
    }

    fn failed(&mut self, key: &FeedKey, why: String) -> Option<Outcome> {
        tracing::warn!(
            source = key.source.as_str(),
            why,
            "address list not read; the last good one stays"
        );
        self.sources.feed_mut(key)?.failed(why.clone());
        Some(Outcome::Failed { why })
    }

    fn schedule(&mut self, key: &FeedKey) {
        let Some(state) = self.sources.feed_mut(key) else { return };
        // Only spreads hosts out in time; a hasher's random keys do.
        let random = RandomState::new().build_hasher().finish();
        let wait = pace::next_read(state.source.every, state.failures(), random);
        self.due.insert(key.clone(), Instant::now() + wait);
    }

    pub(super) async fn refresh(&mut self, reply: oneshot::Sender<Vec<Refreshed>>) {
        let left: BTreeSet<FeedKey> = self.sources.feeds().map(|(k, _)| k.clone()).collect();
        if self.waiting.len() >= QUEUE {
            let why = "too many refreshes are running already".to_owned();
            let busy = left.iter().map(|key| Refreshed {
                source: key.source.as_str().to_owned(),
                service: self.service(key),
                outcome: Outcome::Failed { why: why.clone() },
            });
            return reply.send(busy.collect()).unwrap_or_default();
        }
        let now = Instant::now();
        for key in &left {
            self.due.insert(key.clone(), now);
        }
        let alone = left.is_empty();
        let begun_before = self.in_flight.values().cloned().collect();
        let (earlier, done) = Default::default();
        self.waiting.push(Waiting { left, begun_before, earlier, done, reply });
        if alone {
            self.converge(Cause::Ours).await;
        }
    }

    pub(super) async fn approve(
        &mut self,
        source: &SourceName,
        version: Option<u64>,
        by: String,
    ) -> Result<Outcome, ApproveError> {
        let name = source.as_str().to_owned();
        let (now, guard) = (self.clock.now(), self.settings.guard);
        let key = self.held_key(source, version)?;
        let state = self.sources.feed_mut(&key);
        let offered = state.and_then(|s| s.approve(&guard, now));
        let outcome = match offered {
            Some(Offered::Accepted) => {
                let state = self.sources.feed_mut(&key);
                let sync_token = state.and_then(|s| s.good()).map_or(0, |g| g.sync_token);
                tracing::warn!(
                    source = name,
                    sync_token,
                    "held address list approved by an operator"
                );
                let what = format!("approval of {name}, version {sync_token},");
                self.enforcer.history.because(Who::Operator { by, what });
                self.keep(&key).await;
                Ok(Outcome::Accepted { sync_token })
            }
            Some(Offered::Refused(why)) => Err(ApproveError::Refused(why.to_string())),
            Some(Offered::Same | Offered::Held(_)) | None => Err(ApproveError::NothingHeld(name)),
        };
        self.converge(Cause::Ours).await;
        outcome
    }

    /// The list of a source that is meant: the one that waits, if it still is the version that whoever
    /// approves has seen.
    fn held_key(&self, source: &SourceName, version: Option<u64>) -> Result<FeedKey, ApproveError> {
        let name = || source.as_str().to_owned();
        let lists: Vec<_> = self.sources.feeds().filter(|(k, _)| k.source == *source).collect();
        if lists.is_empty() {
            return Err(ApproveError::NoSource(name()));
        }
        let waiting: Vec<_> =
            lists.iter().filter_map(|(key, f)| Some((*key, *f, f.held_version()?))).collect();
        match (version, waiting.as_slice()) {
            (_, []) => Err(ApproveError::NothingHeld(name())),
            (None, [(key, ..)]) => Ok((*key).clone()),
            (None, _) => Err(ApproveError::Several(name())),
            (Some(asked), [(_, _, held), ..]) => {
                let meant = waiting.iter().find(|(_, f, _)| f.is_held_as(asked));
                let other =
                    || ApproveError::OtherVersion { source_name: name(), asked, held: *held };
                meant.map(|(key, ..)| (*key).clone()).ok_or_else(other)
            }
        }
    }
}
