//! When the next run begins. Pure.

use std::time::Duration;

use super::{
    record::{Ended, Record, Trigger},
    settings::Settings,
    window::{self, Opening},
};
use crate::clock::Timestamp;

/// Rest before a run that had to give way is tried again in the same window.
const AFTER_DEFERRED: Duration = Duration::from_secs(300);

/// What to do about windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Begin now, in this opening.
    Begin(Opening),
    /// Nothing before this moment.
    At(Timestamp),
    /// No window is set up.
    Never,
}

/// Decides, for a host of this name whose last run was `last`.
///
/// Each opening has one run; one that was deferred is tried again. An opening that was missed is gone.
#[must_use]
pub(super) fn next(settings: &Settings, host: &str, last: Option<&Record>, now: Timestamp) -> Next {
    let delay = window::delay(host, settings.splay);
    let after = || match settings.windows.next_after(now) {
        Some(o) => Next::At(o.due(delay, settings.cutoff)),
        None => Next::Never,
    };
    let Some(open) = settings.windows.open_at(now) else { return after() };
    let due = match last.filter(|r| counts_for(r, open)) {
        None => open.due(delay, settings.cutoff),
        Some(r) => match (&r.outcome, r.ended) {
            (Some(Ended::Deferred { .. }), Some(ended)) => ended.plus(AFTER_DEFERRED),
            (_, _) => return after(),
        },
    };
    if due.max(now) >= open.last_call(settings.cutoff) {
        return after();
    }
    if due <= now { Next::Begin(open) } else { Next::At(due) }
}

/// Whether a run was this opening's. One that was asked for inside it counts; one that was asked for
/// before it and ran into it does not.
fn counts_for(run: &Record, open: Opening) -> bool {
    let inside = run.started >= open.start && run.started < open.end;
    inside
        && match run.trigger {
            Trigger::Window | Trigger::Asked => true,
            Trigger::Now => false,
        }
}

#[cfg(test)]
mod tests {
    use jiff::{civil::Weekday, tz::TimeZone};

    use super::*;
    use crate::patch::{
        plan::tests::settings as plain,
        window::{Window, Windows},
    };

    /// Thursdays, 01:00 to 03:00 UTC: 1970-01-01 was one.
    fn settings() -> Settings {
        let start = "01:00".parse().unwrap();
        let two = Duration::from_secs(7200);
        let w = Window::new(vec![Weekday::Thursday], start, two, TimeZone::UTC).unwrap();
        Settings {
            windows: Windows(vec![w]),
            cutoff: Duration::from_secs(900),
            splay: Duration::from_secs(600),
            ..plain()
        }
    }

    const START: i64 = 3600;
    const END: i64 = 3 * 3600;
    const WEEK: i64 = 7 * 86_400;

    fn delay() -> i64 {
        i64::try_from(window::delay("h", settings().splay).as_secs()).unwrap()
    }

    fn at(now: i64, last: Option<&Record>) -> Next {
        next(&settings(), "h", last, Timestamp::from_secs(now))
    }

    fn run(trigger: Trigger, started: i64, outcome: Option<Ended>) -> Record {
        let mut r = Record::new(trigger, "", Timestamp::from_secs(started), None);
        r.ended = outcome.is_some().then(|| Timestamp::from_secs(started + 60));
        r.outcome = outcome;
        r
    }

    #[test]
    fn a_run_begins_once_in_each_window_after_the_hosts_own_delay() {
        assert!(matches!(at(0, None), Next::At(t) if (START..=START + 600).contains(&t.as_secs())));
        assert!(matches!(at(START + 1 + delay(), None), Next::Begin(_)));
        let done = run(Trigger::Window, START + 600, Some(Ended::Done));
        assert!(matches!(at(START + 700, Some(&done)), Next::At(t) if t.as_secs() >= START + WEEK));
        assert!(matches!(at(START + WEEK + 601, Some(&done)), Next::Begin(_)));
    }

    #[test]
    fn a_missed_window_is_gone_and_nothing_begins_after_last_call() {
        assert!(matches!(at(END - 901, None), Next::Begin(_)));
        assert!(matches!(at(END - 900, None), Next::At(t) if t.as_secs() >= START + WEEK));
        assert!(matches!(at(END, None), Next::At(t) if t.as_secs() >= START + WEEK));
    }

    #[test]
    fn a_deferred_run_is_tried_again_and_one_asked_for_with_now_does_not_count() {
        let why = Ended::Deferred { why: "apt-get works on packages".into() };
        let deferred = run(Trigger::Window, START + 600, Some(why));
        assert_eq!(at(START + 700, Some(&deferred)), Next::At(Timestamp::from_secs(START + 960)));
        assert!(matches!(at(START + 960, Some(&deferred)), Next::Begin(_)));
        let other = run(Trigger::Now, START + 1, Some(Ended::Done));
        assert!(matches!(at(START + 700, Some(&other)), Next::Begin(_)));
    }

    #[test]
    fn without_windows_nothing_ever_begins() {
        assert_eq!(next(&plain(), "h", None, Timestamp::from_secs(0)), Next::Never);
    }
}
