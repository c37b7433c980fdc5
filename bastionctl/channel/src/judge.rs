//! What a session does not wait for any longer: the one place of its deadlines.

use std::time::Duration;

use crate::{
    end::End,
    hub::Hub,
    outbound::Source as _,
    serve::{Goal, Link, Out, PING},
};

/// No byte for this long after a ping: the socket is dead.
const PONG: Duration = Duration::from_secs(20);
/// The agent reads and pongs and acknowledges nothing: it is stuck.
const ACK_PATIENCE: Duration = Duration::from_secs(300);
/// For what a finished side wrote last to be acknowledged.
const SETTLE: Duration = Duration::from_secs(10);
/// For written bytes when the session is closed.
const CLOSE: Duration = Duration::from_secs(2);

impl Link {
    /// Ends what has lasted too long. Gives when to look again.
    pub(crate) fn judge(&mut self, hub: &Hub, now: Duration, goal: Goal) -> Result<Duration, Out> {
        let mut due = self.pinged + PING;
        if let Goal::Arrive { flag, until } = goal {
            if self.machine.has_arrived(flag) || now >= until {
                return Err(Out::End(End::Cancelled));
            }
            due = due.min(until);
        }
        if self.heard < self.pinged {
            let dead = self.pinged + PONG;
            if now >= dead {
                return Err(Out::Lost("no sign of life from the service".into()));
            }
            due = due.min(dead);
        }
        if let Some((end, at)) = &self.refusing {
            if now >= *at {
                return Err(Out::End(end.clone()));
            }
            due = due.min(*at);
        } else if !self.machine.is_live() {
            if now >= self.live_by {
                let why = if self.heard_agent() {
                    "the agent did not complete the handshake"
                } else {
                    "the agent did not begin the handshake"
                };
                let why = format!("{why} within {} s", self.live_by.as_secs());
                return Err(Out::End(End::Handshake { why }));
            }
            due = due.min(self.live_by);
        }
        if let Some(since) = self.machine.waiting_since() {
            if now >= since + ACK_PATIENCE {
                return Err(Out::End(End::Silent { since: now.saturating_sub(since) }));
            }
            due = due.min(since + ACK_PATIENCE);
        }
        if let Some(since) = self.closing {
            let sent = hub.backlog() == 0 && self.machine.is_settled();
            if sent || now >= since + CLOSE {
                return Err(Out::End(End::Cancelled));
            }
            due = due.min(since + CLOSE);
        }
        if let (Goal::Run, Some(at)) = (goal, hub.only_done()) {
            if now >= at && self.machine.is_settled() {
                return Err(Out::End(End::Finished));
            }
            if now >= at + SETTLE {
                return Err(Out::End(End::Silent { since: now.saturating_sub(at) }));
            }
            due = due.min(if now < at { at } else { at + SETTLE });
        }
        Ok(due)
    }
}
