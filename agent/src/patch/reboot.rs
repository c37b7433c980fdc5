//! Whether the host is restarted now. Pure.

use std::time::Duration;

use super::{plan::RebootNeed, settings::Reboot};
use crate::clock::Timestamp;

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    /// Why a restart is needed.
    pub(super) need: &'a RebootNeed,
    /// Whether the operator allows it.
    pub(super) allowed: Reboot,
    /// The end of what a window allows; none outside of one.
    pub(super) last_call: Option<Timestamp>,
    /// Whether packages are half installed, so that the host may not come up again.
    pub(super) unsound: bool,
    /// Since when everything else is done.
    pub(super) waiting_since: Timestamp,
    /// Who is logged in.
    pub(super) sessions: &'a [String],
    /// How long to wait for them.
    pub(super) grace: Duration,
    /// Who works on packages just now.
    pub(super) busy: Option<&'a str>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: no restart is needed.
    NotNeeded,
    /// Nothing, and the need stays.
    Leave {
        /// Why.
        why: String,
    },
    /// Look again in a while.
    Wait {
        /// For what.
        why: String,
        /// The people who are waited for are told when their time is over.
        forced_at: Option<Timestamp>,
    },
    /// Restart now.
    Now,
}

/// Decides.
#[must_use]
pub(super) fn step(s: &Situation<'_>, now: Timestamp) -> Step {
    let leave = |why: &str| Step::Leave { why: why.to_owned() };
    if s.need.reasons.is_empty() {
        return Step::NotNeeded;
    }
    match (s.allowed, s.last_call) {
        (Reboot::Never, _) => return leave("reboot: never"),
        (Reboot::WhenNeeded, None) => return leave("the run is outside of every window"),
        (Reboot::WhenNeeded, Some(last)) if now >= last => {
            return leave("the window is over; the next one restarts the host");
        }
        (Reboot::WhenNeeded, Some(_)) => {}
    }
    if s.unsound {
        return leave("packages are half installed, and the host might not come up");
    }
    if let Some(who) = s.busy {
        return Step::Wait { why: format!("{who} works on packages"), forced_at: None };
    }
    let forced_at = s.waiting_since.plus(s.grace);
    if s.sessions.is_empty() || now >= forced_at {
        return Step::Now;
    }
    Step::Wait { why: format!("logged in: {}", s.sessions.join(", ")), forced_at: Some(forced_at) }
}

/// The newest installed kernel, if it is newer than the one that runs and of its kind.
///
/// Kinds are told apart by what follows the version: `6.1.0-30-cloud-amd64` is no successor of
/// `6.1.0-28-amd64`.
#[must_use]
pub fn newer_kernel<'a>(running: &str, installed: &[&'a str]) -> Option<&'a str> {
    let kind = |release: &str| {
        let words = release.split(['-', '.', '_', '+']);
        words.filter(|w| !w.starts_with(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join("-")
    };
    let numbers = |release: &str| -> Vec<u64> {
        let digits = release.split(|c: char| !c.is_ascii_digit());
        digits.filter_map(|w| w.parse().ok()).collect()
    };
    let same = installed.iter().copied().filter(|i| kind(i) == kind(running));
    same.max_by_key(|i| numbers(i)).filter(|newest| numbers(newest) > numbers(running))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(i64) -> Timestamp = Timestamp::from_secs;

    fn decide(change: impl FnOnce(&mut Situation<'_>), now: i64) -> Step {
        let need = RebootNeed { reasons: vec!["kernel".into()], packages: vec![] };
        let mut s = Situation {
            need: &need,
            allowed: Reboot::WhenNeeded,
            last_call: Some(T(1000)),
            unsound: false,
            waiting_since: T(100),
            sessions: &[],
            grace: Duration::from_secs(300),
            busy: None,
        };
        change(&mut s);
        step(&s, T(now))
    }

    #[test]
    fn a_needed_restart_happens_inside_the_window_and_only_there() {
        assert_eq!(decide(|_| {}, 100), Step::Now);
        assert!(matches!(decide(|_| {}, 1000), Step::Leave { .. }));
        assert!(matches!(decide(|s| s.last_call = None, 100), Step::Leave { .. }));
        assert!(matches!(decide(|s| s.allowed = Reboot::Never, 100), Step::Leave { .. }));
        let none = RebootNeed::default();
        let s = Situation {
            need: &none,
            allowed: Reboot::WhenNeeded,
            last_call: Some(T(1)),
            unsound: false,
            waiting_since: T(0),
            sessions: &[],
            grace: Duration::ZERO,
            busy: None,
        };
        assert_eq!(step(&s, T(0)), Step::NotNeeded);
    }

    #[test]
    fn people_delay_it_until_their_grace_is_over() {
        let people = ["root on pts/0".to_owned()];
        let at = |now| {
            let need = RebootNeed { reasons: vec!["kernel".into()], packages: vec![] };
            let s = Situation {
                need: &need,
                allowed: Reboot::WhenNeeded,
                last_call: Some(T(1000)),
                unsound: false,
                waiting_since: T(100),
                sessions: &people,
                grace: Duration::from_secs(300),
                busy: None,
            };
            step(&s, T(now))
        };
        assert!(matches!(at(399), Step::Wait { forced_at: Some(t), .. } if t == T(400)));
        assert_eq!(at(400), Step::Now);
        assert!(matches!(at(1000), Step::Leave { .. }));
    }

    #[test]
    fn nobody_is_cut_off_in_the_middle_of_package_work_or_left_with_a_broken_boot() {
        assert!(matches!(decide(|s| s.busy = Some("apt-get"), 999), Step::Wait { .. }));
        assert!(matches!(decide(|s| s.unsound = true, 100), Step::Leave { .. }));
    }

    #[test]
    fn the_newest_kernel_of_the_same_kind_counts_by_its_numbers() {
        let installed = ["6.1.0-9-cloud-amd64", "6.1.0-30-cloud-amd64", "6.1.0-40-amd64"];
        let newer = |running| newer_kernel(running, &installed);
        assert_eq!(newer("6.1.0-28-cloud-amd64"), Some("6.1.0-30-cloud-amd64"));
        assert_eq!(newer("6.1.0-30-cloud-amd64"), None);
        assert_eq!(newer("6.18.5"), None);
        let amazon = ["6.1.112-122.189.amzn2023.x86_64", "6.1.119-129.201.amzn2023.x86_64"];
        assert_eq!(newer_kernel(amazon[0], &amazon), Some(amazon[1]));
    }
}
