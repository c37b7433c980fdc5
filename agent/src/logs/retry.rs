//! What to do about a request that failed: a pure decision.
//!
//! Nothing is ever given up but an event that the service will never take, and that one goes to the
//! dead-letter file.

use std::time::Duration;

use super::ports::{Failure, Refused};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// What to do next with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send the same batch again after a wait.
    Resend {
        /// The wait.
        after: Duration,
    },
    /// Make the group and the stream, then send the same batch again.
    Ensure {
        /// The wait before.
        after: Duration,
    },
    /// Send its halves one after the other.
    Halve,
    /// Put its only event into the dead-letter file and go on.
    Bury,
}

/// Decides. `attempt` counts failures of this batch in a row from 1; `dice` is uniform in 0..1.
pub(super) fn decide(why: &Failure, attempt: u32, events: usize, dice: f64) -> Decision {
    match why {
        Failure::Throttled | Failure::Unavailable(_) | Failure::NotSent(_) => {
            Decision::Resend { after: jittered(attempt, LONGEST_WAIT, dice) }
        }
        Failure::Denied(_) | Failure::Credentials(_) => {
            Decision::Resend { after: jittered(attempt, LONGEST_HOLD, dice) }
        }
        // At once the first time; later the service may just not have noticed yet.
        Failure::Missing if attempt <= 1 => Decision::Ensure { after: Duration::ZERO },
        Failure::Missing => Decision::Ensure { after: jittered(attempt, LONGEST_WAIT, dice) },
        Failure::Invalid(_) if events > 1 => Decision::Halve,
        Failure::Invalid(_) => Decision::Bury,
    }
}

/// Full jitter: anything from nothing to the exponential bound, so that a fleet does not come back
/// in step; never less than a twentieth, so that zero does not spin.
fn jittered(attempt: u32, longest: Duration, dice: f64) -> Duration {
    let bound = FIRST_WAIT.saturating_mul(1 << attempt.clamp(1, 16).saturating_sub(1)).min(longest);
    bound.mul_f64(dice.clamp(0.05, 1.0))
}

/// Whether the user should know: the data is kept, but waiting alone will not help.
pub(super) fn needs_a_person(why: &Failure) -> bool {
    matches!(why, Failure::Denied(_) | Failure::Credentials(_) | Failure::Invalid(_))
}

/// The indices of the events that an accepted request left out.
pub(super) fn refused_events(refused: Refused, events: usize) -> Vec<usize> {
    let old = refused.too_old_end.max(refused.expired_end).unwrap_or(0);
    let new = refused.too_new_start.unwrap_or(events);
    (0..events).filter(|i| *i < old || *i >= new).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_failure_has_its_answer() {
        let hold = Failure::Denied("no logs:PutLogEvents".to_owned());
        let bad = Failure::Invalid("bad".to_owned());
        assert!(
            matches!(decide(&Failure::Throttled, 1, 9, 1.0), Decision::Resend { after } if after == FIRST_WAIT)
        );
        assert_eq!(decide(&hold, 99, 9, 1.0), Decision::Resend { after: LONGEST_HOLD });
        assert_eq!(
            decide(&Failure::Missing, 1, 9, 1.0),
            Decision::Ensure { after: Duration::ZERO }
        );
        assert_eq!(decide(&bad, 1, 9, 1.0), Decision::Halve);
        assert_eq!(decide(&bad, 1, 1, 1.0), Decision::Bury);
    }

    #[test]
    fn refused_indices_are_exclusive_for_old_and_inclusive_for_new() {
        let r = Refused { too_old_end: Some(2), expired_end: Some(1), too_new_start: Some(8) };
        assert_eq!(refused_events(r, 10), [0, 1, 8, 9]);
        assert!(refused_events(Refused::default(), 10).is_empty());
        assert_eq!(refused_events(Refused { too_new_start: Some(0), ..r }, 3), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds(attempt in 1_u32.., dice in 0.0_f64..1.0) {
            let text = String::new;
            for why in [Failure::Throttled, Failure::Unavailable(text()), Failure::NotSent(text())] {
                let Decision::Resend { after } = decide(&why, attempt, 1, dice) else {
                    return Err(TestCaseError::fail("throttled is not resent"));
                };
                prop_assert!(after >= Duration::from_millis(5) && after <= LONGEST_WAIT);
            }
        }
    }
}
