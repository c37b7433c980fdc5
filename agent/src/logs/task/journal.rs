//! Following the journal: entries into lanes, acknowledgements into the ledger.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::Shipper;
use crate::{
    clock::Timestamp,
    logs::{
        checkpoint::{Checkpoint, JournalMark},
        journal::{
            Item, JournalAsk, JournalFollow, JournalPlace, JournalReader, JournalTold, Journals,
            Ledger, WINDOW, cursor_hash, pick,
        },
        lane::{JournalSource, Lane, Reader, Source},
        names,
    },
};

/// What `{program}` is for the journal.
pub(super) const JOURNAL: &str = "journal";
/// The first time, reading begins at most so long ago: what is older was somebody else's matter.
const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);
/// Most streams of the journal at a time. A further unit takes the place of the one that was silent for
/// longest; while none can be spared, what it says goes to `other`.
const MAX_LANES: usize = 200;
const OTHER: &str = "other";
/// A journal that cannot be read is tried again after this, and after twice that, and so on.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);
/// Things that are taken from the channel at once; so many may come on top of a full window.
const AT_ONCE: usize = 32;

/// The journal, as far as the settings want it.
#[derive(Debug)]
pub(super) struct Journal {
    journals: Arc<dyn Journals>,
    own_unit: Option<String>,
    /// None before it was ever followed.
    ledger: Option<Ledger>,
    follow: Option<JournalFollow>,
    /// What is followed, or was tried to be.
    units: Option<Vec<String>>,
    taken: Vec<JournalTold>,
    /// Lane of each unit.
    lanes: HashMap<String, u64>,
    /// Whose last acknowledged entry is still to come, by the hash of that.
    ahead: HashMap<u64, u64>,
    failures: u32,
    again: Option<Instant>,
}

impl Journal {
    pub(super) fn new(journals: Arc<dyn Journals>) -> Self {
        let own_unit = journals.own_unit();
        Self {
            journals,
            own_unit,
            ledger: None,
            follow: None,
            units: None,
            taken: Vec::new(),
            lanes: HashMap::new(),
            ahead: HashMap::new(),
            failures: 0,
            again: None,
        }
    }

    /// Waits for something to be told. Nothing is lost if the wait is given up.
    pub(super) async fn wait(&mut self) {
        let full = self.ledger.as_ref().is_some_and(Ledger::is_full);
        match &mut self.follow {
            Some(follow) if !full => {
                if follow.told.recv_many(&mut self.taken, AT_ONCE).await == 0 {
                    self.taken.push(JournalTold::Failed("its reader ended".to_owned()));
                }
            }
            Some(_) | None => pending().await,
        }
    }

    /// When to try again, if that is waited for.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again
    }
}

impl Shipper {
    pub(super) fn restore_journal(&mut self, checkpoint: &Checkpoint) {
        let Some(mark) = &checkpoint.journal else { return };
        let last = mark.lanes.iter().map(|l| l.acked).max().unwrap_or(0);
        self.journal.ledger = Some(Ledger::new(mark.done.clone(), last));
        for m in &mark.lanes {
            self.insert_journal_lane(m.lane, &m.unit, m.acked, m.tail);
        }
    }

    /// Begins, ends or begins anew to follow, as the settings say; and lets the ledger move on.
    pub(super) fn look_at_journal(&mut self, now: Instant) {
        if let Some(ledger) = &mut self.journal.ledger {
            let lanes = &self.lanes;
            // A lane that is gone holds nothing up.
            if ledger.advance(|id| lanes.get(&id).map_or(u64::MAX, |l| l.acked)) {
                self.timers.dirty = true;
            }
        }
        let wanted = self.settings.journald.as_ref().map(|j| &j.units);
        if self.journal.units.as_ref() != wanted {
            (self.journal.units, self.journal.follow) = (wanted.cloned(), None);
            (self.journal.failures, self.journal.again) = (0, None);
        }
        let Some(units) = self.journal.units.clone() else { return };
        let waits = self.journal.again.is_some_and(|at| now < at);
        if self.journal.follow.is_some() || waits || self.stopping.is_some() {
            return;
        }
        let from = match &self.journal.ledger {
            Some(ledger) => ledger.last_read().clone(),
            None => {
                let since = self.clock.now().as_millis()
                    - i64::try_from(FIRST_LOOK.as_millis()).unwrap_or(0);
                let realtime_us = u64::try_from(since).unwrap_or(0).saturating_mul(1000);
                let place = JournalPlace { cursor: None, realtime_us };
                self.journal.ledger = Some(Ledger::new(place.clone(), 0));
                self.timers.dirty = true;
                place
            }
        };
        let find = self.journal_lanes().filter_map(|(_, j)| j.skip_to).collect();
        let ask = JournalAsk { units, from, find, within: WINDOW * 10 };
        self.journal.follow = Some(self.journal.journals.follow(ask));
        self.journal.again = None;
    }

    fn journal_lanes(&mut self) -> impl Iterator<Item = (u64, &mut JournalSource)> {
        self.lanes.iter_mut().filter_map(|(id, l)| match &mut l.source {
            Source::Journal(j) => Some((*id, j)),
            Source::File(_) | Source::Spool(..) => None,
        })
    }

    pub(super) fn take_from_journal(&mut self) {
        for told in std::mem::take(&mut self.journal.taken) {
            match told {
                JournalTold::Begun { gone, found } => {
                    self.journal.failures = 0;
                    let mut ahead = HashMap::new();
                    for (id, j) in self.journal_lanes() {
                        // What is not found is not waited for: rather twice than never.
                        j.skip_to = j.skip_to.filter(|hash| found.contains(hash));
                        ahead.extend(j.skip_to.map(|hash| (hash, id)));
                    }
                    self.journal.ahead = ahead;
                    if gone {
                        self.tell_gap();
                    }
                }
                JournalTold::Entry(entry) => {
                    let units = self.journal.units.clone().unwrap_or_default();
                    let picked = pick(&entry, &units, self.journal.own_unit.as_deref());
                    let hash = cursor_hash(&entry.cursor);
                    let lane = picked.as_ref().map(|p| self.journal_lane(&p.process));
                    let last_of = self.journal.ahead.remove(&hash);
                    let skipped = last_of.is_some() || lane.is_some_and(|id| self.skips(id));
                    let Some(ledger) = &mut self.journal.ledger else { continue };
                    let (Some(id), Some(picked), false) = (lane, picked, skipped) else {
                        let seq = ledger.read(&entry, None, 0);
                        self.skipped(last_of, seq);
                        continue;
                    };
                    let seq = ledger.read(&entry, Some(id), picked.text.len());
                    // A clock that was ahead when it was written is no reason to lose it.
                    let at = i64::try_from(entry.realtime_us / 1000).unwrap_or(i64::MAX);
                    let at = Timestamp::from_millis(at.min(self.clock.now().as_millis()));
                    self.push(id, Item { seq, at, text: picked.text, hash }, picked.dropped);
                }
                JournalTold::Failed(why) => {
                    self.journal.follow = None;
                    let wait = AGAIN.saturating_mul(1 << self.journal.failures.min(6));
                    self.journal.failures += 1;
                    self.journal.again = Some(Instant::now() + wait.min(AGAIN_AT_MOST));
                    self.incident(format!("follow the journal: {why}"));
                }
            }
        }
    }

    /// Whether a lane's entries are still ones that the last agent had acknowledged, though not all before them.
    fn skips(&self, lane: u64) -> bool {
        let source = self.lanes.get(&lane).map(|l| &l.source);
        matches!(source, Some(Source::Journal(j)) if j.skip_to.is_some())
    }

    /// An entry that was acknowledged before; if it is the last one of a lane, that lane goes on after it.
    fn skipped(&mut self, last_of: Option<u64>, seq: u64) {
        if let Some(Source::Journal(j)) =
            last_of.and_then(|id| self.lanes.get_mut(&id)).map(|l| &mut l.source)
        {
            (j.skip_to, j.seen) = (None, seq);
        }
    }

    fn push(&mut self, lane: u64, item: Item, dropped: u64) {
        let Some(lane) = self.lanes.get_mut(&lane) else { return };
        let Source::Journal(j) = &mut lane.source else { return };
        while j.waiting.front().is_some_and(|(seq, _)| *seq <= lane.acked) {
            j.waiting.pop_front();
        }
        j.waiting.push_back((item.seq, item.text.len()));
        (j.last_seq, j.seen) = (item.seq, item.seq);
        lane.unread += item.text.len() as u64 + 1;
        lane.since.get_or_insert_with(Instant::now);
        lane.oldest.get_or_insert(item.at);
        j.incoming.push(item);
        lane.counts.dropped_lines += dropped;
        self.totals.dropped_lines += dropped;
    }

    /// The journal was vacuumed, or lost, beyond what was delivered: that is told in every stream that was.
    fn tell_gap(&mut self) {
        let Some(ledger) = &mut self.journal.ledger else { return };
        let from = i64::try_from(ledger.last_read().realtime_us / 1000).unwrap_or(0);
        let text = format!(
            "[palisade] the journal does not have the entry any more that was read last, of {}: entries after it may be missing",
            Timestamp::from_millis(from)
        );
        let at = self.clock.now();
        let lanes: Vec<u64> = self.journal.lanes.values().copied().collect();
        for id in lanes {
            let Some(ledger) = &mut self.journal.ledger else { return };
            let seq = ledger.add(id, text.len());
            self.push(id, Item { seq, at, text: text.clone().into_bytes(), hash: 0 }, 0);
        }
        self.incident(text);
    }

    fn journal_lane(&mut self, unit: &str) -> u64 {
        if let Some(id) = self.journal.lanes.get(unit) {
            return *id;
        }
        if self.journal.lanes.len() >= MAX_LANES && unit != OTHER && !self.retire_silent() {
            self.incident(format!(
                "more than {MAX_LANES} streams of the journal have lines that are not delivered: \
                 further units go to {OTHER}"
            ));
            return self.journal_lane(OTHER);
        }
        let id = self.take_lane_number();
        // Entries are numbered for all lanes together: nothing below the next number is of this one.
        self.insert_journal_lane(id, unit, 0, None);
        id
    }

    /// Ends the lane of the unit that was silent for longest, of those that nothing is to be remembered of:
    /// all is acknowledged, and the cursor in the next checkpoint is behind it.
    fn retire_silent(&mut self) -> bool {
        let Some(ledger) = &mut self.journal.ledger else { return false };
        let lanes = &self.lanes;
        ledger.advance(|id| lanes.get(&id).map_or(u64::MAX, |l| l.acked));
        let done = ledger.done_seq();
        let units = self.journal.lanes.iter().filter(|(unit, _)| *unit != OTHER);
        let silent = units.filter_map(|(unit, id)| {
            let lane = lanes.get(id)?;
            let Source::Journal(j) = &lane.source else { return None };
            let spared = j.seen <= done && j.skip_to.is_none() && !lane.holds_batch();
            spared.then_some((j.seen, unit))
        });
        let Some(unit) = silent.min().map(|(_, unit)| unit.clone()) else { return false };
        tracing::debug!(unit, "a silent unit of the journal gives way to another");
        if let Some(id) = self.journal.lanes.remove(&unit) {
            self.lanes.remove(&id);
        }
        true
    }

    fn insert_journal_lane(&mut self, id: u64, unit: &str, acked: u64, tail: Option<u64>) {
        let group = names::group(&self.settings.group, JOURNAL, unit);
        let stream = names::stream(&self.settings.stream, JOURNAL, unit);
        let source = JournalSource {
            process: unit.to_owned(),
            incoming: Vec::new(),
            last_seq: acked,
            seen: acked,
            skip_to: tail,
            waiting: VecDeque::new(),
        };
        let mut lane = Lane::new(id, Source::Journal(source), group, stream, acked);
        lane.acked_tail = tail;
        lane.reader = Some(Reader::Journal(JournalReader::new(acked)));
        self.lanes.insert(id, lane);
        self.journal.lanes.insert(unit.to_owned(), id);
    }

    pub(super) fn journal_mark(&mut self) -> Option<JournalMark> {
        let ledger = self.journal.ledger.as_mut()?;
        let lanes = &self.lanes;
        ledger.advance(|id| lanes.get(&id).map_or(u64::MAX, |l| l.acked));
        let done = ledger.done().clone();
        Some(JournalMark { done, lanes: lanes.values().filter_map(Lane::journal_mark).collect() })
    }
}
