//! Waits for CloudFormation. Invariant: every wait has an end, asks less and less often, and outlives
//! a few answers that did not come.

use std::time::Duration;

use palisade_cloud::{CloudError, clock};
use tokio::time::Instant;

use crate::{
    aws::Aws,
    cfn::{Cfn, ChangeSet, Live, Standing},
    failed::{Failed, Outcome},
    printer,
    tell::Teller,
};
use palisade_cloud::terminal::clean_lines;

/// Longest wait for one operation on a stack; a VPC origin alone may take 40 minutes.
const STACK: Duration = Duration::from_secs(3 * 3600);
/// Longest wait for somebody else's operation.
const OTHERS: Duration = Duration::from_secs(3600);
/// Longest wait for a change set to be worked out.
const CHANGE_SET: Duration = Duration::from_secs(15 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Questions in a row that may go without an answer.
const MAX_LOST: u32 = 10;

/// When to ask again.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    until: Instant,
    lost: u32,
}

impl Pace {
    fn new(longest: Duration) -> Self {
        Self { pause: FIRST_PAUSE, until: Instant::now() + longest, lost: 0 }
    }

    /// Waits a while; false when the time is over.
    async fn next(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(clock::jitter(self.pause)).await;
        self.pause = self.pause.mul_f64(1.5).min(LONGEST_PAUSE);
        true
    }

    /// The answer, or None if it may come the next time.
    fn heard<T>(&mut self, answer: Result<T, CloudError>) -> Result<Option<T>, CloudError> {
        match answer {
            Ok(value) => {
                self.lost = 0;
                Ok(Some(value))
            }
            Err(e) if e.is_passing() && self.lost < MAX_LOST => {
                self.lost += 1;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// Waits until a change set is worked out. None if it is gone: CloudFormation throws away a stack's
/// other change sets when it carries one out.
pub(crate) async fn change_set(cfn: &Cfn, stack: &str, name: &str) -> Outcome<Option<ChangeSet>> {
    let mut pace = Pace::new(CHANGE_SET);
    while pace.next().await {
        match pace.heard(cfn.change_set(stack, name).await) {
            Ok(Some(set)) if !set.is_pending() => return Ok(Some(set)),
            Ok(Some(_) | None) => {}
            Err(e) if e.code() == Some("ChangeSetNotFound") => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failed::plain(format!("{stack}: CloudFormation did not work the change set out in time")))
}

/// Waits until what was begun with a stack has ended, and tells of what happens. `stack` is an id or,
/// where it cannot go away, a name; `set` the change set that is carried out, if it is one.
///
/// A state alone ends nothing: for a while after the beginning it may be the one of before. The stack
/// has to say itself that it came to it, or the change set that it was carried out.
pub(crate) async fn stack(
    aws: &Aws,
    cfn: &Cfn,
    stack: &str,
    set: Option<&str>,
    teller: &mut Teller<'_>,
) -> Outcome<Option<Live>> {
    let mut pace = Pace::new(STACK);
    let mut carried_out = false;
    while pace.next().await {
        // The state before the events, so that an end is not seen before what led to it.
        let Some(live) = pace.heard(cfn.live(stack).await)? else { continue };
        let last = teller.last().map(str::to_owned);
        let Some(events) = pace.heard(cfn.events(stack, last.as_deref()).await)? else { continue };
        for said in events.iter().filter_map(|e| teller.hear(e)) {
            printer::note(clean_lines(said.trim_end()));
        }
        let Some(live) = live else { return Ok(None) };
        match Standing::of_status(&live.status) {
            Standing::Absent => return Ok(Some(live)),
            Standing::Busy => {
                aws.is_busy(&live.name, format!("{} in {}", live.status, cfn.region()));
            }
            // Nothing of ours ends in a reserved name: what was begun is not to be seen yet.
            Standing::Reserved => {}
            Standing::Usable | Standing::NeverMade | Standing::Stuck => {
                if carried_out || teller.has_come_to(&live.status) {
                    return Ok(Some(live));
                }
                // The state may have been read before the change set ended: it is read again.
                if let Some(set) = set {
                    carried_out =
                        pace.heard(is_carried_out(cfn, stack, set).await)?.unwrap_or(false);
                }
            }
        }
    }
    Err(Failed::plain(format!("{stack}: CloudFormation has not ended yet"))
        .hint("run it again: it waits for what is under way, and goes on"))
}

/// Whether a change set was carried out, well or not.
async fn is_carried_out(cfn: &Cfn, stack: &str, set: &str) -> Result<bool, CloudError> {
    match cfn.change_set(stack, set).await {
        Ok(set) => Ok(matches!(set.execution.as_str(), "EXECUTE_COMPLETE" | "EXECUTE_FAILED")),
        Err(e) if e.code() == Some("ChangeSetNotFound") => Ok(false),
        Err(e) => Err(e),
    }
}

/// Waits until somebody else is done with a stack.
pub(crate) async fn others(cfn: &Cfn, name: &str, stack: &str, status: &str) -> Outcome<()> {
    printer::note(format_args!("{name}: {status} is under way: waiting for its end"));
    let mut pace = Pace::new(OTHERS);
    while pace.next().await {
        if let Some(live) = pace.heard(cfn.live(stack).await)?
            && Standing::of(live.as_ref()) != Standing::Busy
        {
            return Ok(());
        }
    }
    Err(Failed::plain(format!("{name}: somebody else's {status} has not ended"))
        .hint("run it again when it has"))
}

/// A name that no other run gives, for a change set and as a token of its execution.
pub(crate) fn fresh_name() -> Outcome<String> {
    let mut chance = [0_u8; 6];
    getrandom::fill(&mut chance).map_err(|e| Failed::plain(format!("find a name: {e}")))?;
    let digits: String = chance.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("palisade-{}-{digits}", clock::unix(clock::now())))
}
