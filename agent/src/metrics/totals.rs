//! Counters of others, which begin whenever they like, as totals since the agent's start.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Metric;

/// What a counter says that was not seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum New {
    /// It began with us: all of it counts.
    Ours,
    /// It was there before us: only what comes from now on counts.
    Older,
}

/// What a counter says that fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallen {
    /// It began anew: all of it counts.
    Anew,
    /// A part of what it adds up went away: only what comes from now on counts.
    Parted,
}

type Key = (&'static str, String);

/// Totals that never fall. What is no longer told of is forgotten, so that files that come and go do not
/// add up here.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    last: BTreeMap<(Key, String), u64>,
    sums: BTreeMap<Key, u64>,
    told: BTreeSet<(Key, String)>,
}

impl Totals {
    /// Takes what the counter `part` of `of` says now.
    pub(super) fn add(
        &mut self,
        metric: Metric,
        of: &str,
        (part, now): (&str, u64),
        new: New,
        fallen: Fallen,
    ) {
        let key: Key = (metric.name, of.to_owned());
        let place = (key.clone(), part.to_owned());
        let more = match (self.last.get(&place), new, fallen) {
            (Some(last), _, _) if now >= *last => now - last,
            (Some(_), _, Fallen::Anew) | (None, New::Ours, _) => now,
            (Some(_), _, Fallen::Parted) | (None, New::Older, _) => 0,
        };
        self.last.insert(place.clone(), now);
        self.told.insert(place);
        let sum = self.sums.entry(key).or_default();
        *sum = sum.saturating_add(more);
    }

    /// The total, if its counter was ever seen.
    pub(super) fn get(&self, metric: Metric, of: &str) -> Option<u64> {
        self.sums.get(&(metric.name, of.to_owned())).copied()
    }

    /// Ends a round: forgets what was not told of in it, of metrics that were. Of a metric that was not
    /// told of at all nothing could be read, and it goes on later.
    pub(super) fn end_round(&mut self) {
        let told = std::mem::take(&mut self.told);
        let keys: BTreeSet<&Key> = told.iter().map(|(key, _)| key).collect();
        let metrics: BTreeSet<&str> = told.iter().map(|((metric, _), _)| *metric).collect();
        self.last.retain(|place, _| told.contains(place) || !metrics.contains(place.0.0));
        self.sums.retain(|key, _| keys.contains(key) || !metrics.contains(key.0));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::table::{LOGS_DROPPED, PROGRAM_RESTARTS},
        *,
    };

    fn total(t: &Totals) -> u64 {
        t.get(PROGRAM_RESTARTS, "web").unwrap()
    }

    #[test]
    fn what_was_there_before_us_does_not_count_and_what_begins_anew_does() {
        let mut t = Totals::default();
        let say = |t: &mut Totals, now, new| {
            t.add(PROGRAM_RESTARTS, "web", ("web", now), new, Fallen::Anew);
        };
        say(&mut t, 7, New::Older);
        assert_eq!(total(&t), 0);
        say(&mut t, 9, New::Older);
        assert_eq!(total(&t), 2);
        say(&mut t, 1, New::Older);
        assert_eq!(total(&t), 3, "started by request: it counts from nought");
        t.add(PROGRAM_RESTARTS, "web", ("web_2", 4), New::Ours, Fallen::Anew);
        assert_eq!(total(&t), 7);
    }

    #[test]
    fn a_source_that_went_away_takes_nothing_with_it_and_adds_nothing() {
        let mut t = Totals::default();
        for now in [8, 3, 4] {
            t.add(LOGS_DROPPED, "g", ("", now), New::Ours, Fallen::Parted);
        }
        assert_eq!(t.get(LOGS_DROPPED, "g"), Some(9));
    }

    #[test]
    fn what_is_not_told_of_is_forgotten() {
        let mut t = Totals::default();
        for n in 0..1000 {
            t.add(LOGS_DROPPED, &format!("g{n}"), ("", 1), New::Ours, Fallen::Anew);
            t.end_round();
        }
        assert_eq!((t.last.len(), t.sums.len(), t.told.len()), (1, 1, 0));
    }

    #[test]
    fn a_round_that_could_not_read_forgets_nothing() {
        let mut t = Totals::default();
        for now in [3, 5] {
            t.add(LOGS_DROPPED, "g", ("", now), New::Older, Fallen::Anew);
            t.end_round();
            t.add(PROGRAM_RESTARTS, "web", ("web", 0), New::Ours, Fallen::Anew);
            t.end_round();
        }
        assert_eq!(t.get(LOGS_DROPPED, "g"), Some(2));
    }

    proptest::proptest! {
        #[test]
        fn a_total_never_falls(says in proptest::collection::vec((0..5_u64, proptest::bool::ANY), 0..60)) {
            let mut t = Totals::default();
            let mut before = 0;
            for (now, parted) in says {
                let fallen = if parted { Fallen::Parted } else { Fallen::Anew };
                t.add(LOGS_DROPPED, "g", ("", now), New::Older, fallen);
                t.end_round();
                let sum = t.get(LOGS_DROPPED, "g").unwrap();
                proptest::prop_assert!(sum >= before);
                before = sum;
            }
        }
    }
}
