//! All grants of the host, live and ending, and the ids that were ever used.
//!
//! Invariant: an id is taken once. It stays spent until no delivery of its request could be taken for
//! a fresh one and its time would be over, whatever becomes of the grant.

use std::{collections::BTreeMap, time::Duration};

use palisade_types::grant::{GrantId, GrantRequest, UserName};

use super::{
    model::{Account, Boot, Ended, Grant, Login, Moment, Process, Session},
    policy::{self, Refusal},
    settings::Settings,
};

/// Before the end: when the first and the second warning are due.
pub(super) const WARNINGS: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(60)];
/// An id stays spent for this long at least: well beyond the window in which its request is fresh.
const SPENT_FOR: Duration = Duration::from_secs(600);
/// Ids that are remembered; with more than that there are no new grants for a while.
const MAX_SPENT: usize = 4096;
/// Connections of one grant that are remembered; further ones are refused.
const MAX_SESSIONS: usize = 64;
/// An attempt that came to nothing is forgotten: sshd's own `LoginGraceTime` is two minutes.
const ATTEMPT_FOR: Duration = Duration::from_secs(180);

/// All grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(super) grants: BTreeMap<GrantId, Grant>,
    /// Until when since boot each id stays spent.
    pub(super) spent: BTreeMap<GrantId, Boot>,
    /// After a journal was lost: until when any request may be one that was granted before.
    pub(super) blind_until: Option<Boot>,
}

/// Something that is to be done about a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is about to end, and its logins are to be told.
    Warn { id: GrantId, left: Duration },
    /// It has ended just now.
    Ended { id: GrantId, how: Ended },
}

impl Ledger {
    /// Gives a grant, if policy allows.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn admit(
        &mut self,
        request: GrantRequest,
        settings: &Settings,
        account: Option<&Account>,
        now: Moment,
    ) -> Result<&Grant, Refusal> {
        policy::may(&request, settings, account, self, now)?;
        let ttl = request.ttl.duration();
        let grant = Grant {
            id: request.id.clone(),
            user: request.user,
            uid: account.map(|a| a.uid).unwrap_or(u32::MAX),
            key: request.key,
            only: request.only,
            target: request.target,
            source: request.source,
            owner: request.owner,
            reason: request.reason,
            granted_at: now.wall,
            expires_at: now.wall.plus(ttl),
            granted_boot: now.boot,
            deadline: now.boot.plus(ttl),
            ended: None,
            warned: already_near(ttl),
            sessions: Vec::new(),
        };
        self.spent.insert(request.id.clone(), now.boot.plus(ttl.max(SPENT_FOR)));
        Ok(self.grants.entry(request.id).or_insert(grant))
    }

    /// A ledger whose past is lost: nothing is granted until every request of that past is too old.
    pub(super) fn forget_everything(&mut self, now: Moment) {
        let window = policy::MAX_AGE_S.saturating_add(policy::MAX_AHEAD_S).unsigned_abs();
        let blind_until = Some(now.boot.plus(Duration::from_secs(window)));
        *self = Self { blind_until, ..Self::default() };
    }

    /// The ledger that a journal has.
    pub(super) fn from_parts(
        grants: BTreeMap<GrantId, Grant>,
        spent: BTreeMap<GrantId, Boot>,
        blind_until: Option<Boot>,
    ) -> Self {
        Self { grants, spent, blind_until }
    }

    /// Whether it may be that a fresh request was granted already.
    pub(super) fn is_blind(&self, now: Moment) -> bool {
        self.blind_until.is_some_and(|until| now.boot < until)
    }

    /// Takes back what was admitted just now and could not be written down. The id stays spent.
    pub(super) fn withdraw(&mut self, id: &GrantId) {
        self.grants.remove(id);
    }

    /// Whether an id was ever used, as far as it matters.
    #[must_use]
    pub fn is_used(&self, id: &GrantId) -> bool {
        self.spent.contains_key(id)
    }

    /// Whether there is no room to remember another id.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.spent.len() >= MAX_SPENT
    }

    /// The grants that admit logins.
    pub fn live(&self, now: Moment, slack: Duration) -> impl Iterator<Item = &Grant> {
        self.grants.values().filter(move |g| g.is_live(now, slack))
    }

    /// All that are live or whose logins are still being ended.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &GrantId) -> Option<&Grant> {
        self.grants.get(id)
    }

    /// Ends a live grant; a revocation also one whose logins outlived it. None if there is no such.
    pub fn end(&mut self, id: &GrantId, how: Ended) -> Option<&Grant> {
        let ends_now = |g: &Grant| match g.ended {
            None => true,
            Some(before) => how == Ended::Revoked && before != how && !g.sessions.is_empty(),
        };
        let grant = self.grants.get_mut(id).filter(|g| ends_now(g))?;
        grant.ended = Some(how);
        Some(grant)
    }

    /// Marks what has ended or is near its end by now, and says so once.
    pub(super) fn due(&mut self, now: Moment, slack: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        for grant in self.grants.values_mut().filter(|g| g.ended.is_none()) {
            if let Some(how) = grant.over(now, slack) {
                grant.ended = Some(how);
                due.push(Due::Ended { id: grant.id.clone(), how });
                continue;
            }
            let left = grant.left(now);
            let reached = WARNINGS.iter().filter(|at| left <= **at).count();
            let reached = u8::try_from(reached).unwrap_or(u8::MAX);
            if reached > grant.warned {
                grant.warned = reached;
                due.push(Due::Warn { id: grant.id.clone(), left });
            }
        }
        self.spent.retain(|_, until| now.boot < *until);
        due
    }

    /// The next moment since boot at which something is due.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<Boot> {
        let next = |g: &Grant| {
            let warning = WARNINGS.get(usize::from(g.warned));
            let before = warning.map_or(Duration::ZERO, |w| *w);
            let at = g.deadline.0.saturating_sub(u64::try_from(before.as_millis()).unwrap_or(0));
            Boot(at)
        };
        self.grants.values().filter(|g| g.ended.is_none()).map(next).min()
    }

    /// An sshd was told the key of a live grant. False if there is no room or no such grant: it must
    /// not be told then.
    pub(super) fn attempt(&mut self, id: &GrantId, attempt: Session) -> Attempted {
        // Only the key that was asked for last can be the one that is used.
        self.forget_attempt(attempt.sshd, Some(id));
        let Some(grant) = self.grants.get_mut(id).filter(|g| g.ended.is_none()) else {
            return Attempted::NoGrant;
        };
        if let Some(same) = grant.sessions.iter_mut().find(|s| s.sshd == attempt.sshd) {
            same.asked = same.asked.saturating_add(1);
            return Attempted::Again;
        }
        if grant.sessions.len() >= MAX_SESSIONS {
            return Attempted::NoRoom;
        }
        grant.sessions.push(attempt);
        Attempted::New
    }

    /// An sshd asked for another key after: its attempt with the grant's came to nothing.
    pub(super) fn forget_attempt(&mut self, sshd: Process, except: Option<&GrantId>) -> bool {
        let mut forgot = false;
        for (id, grant) in &mut self.grants {
            if Some(id) != except {
                let before = grant.sessions.len();
                grant.sessions.retain(|s| s.open || s.sshd != sshd);
                forgot |= grant.sessions.len() != before;
            }
        }
        forgot
    }

    /// Looks at every connection; returns what changed. `look` tells what is known of one.
    pub(super) fn look(
        &mut self,
        now: Moment,
        mut look: impl FnMut(&Grant, &Session) -> Login,
    ) -> Vec<Seen> {
        let mut seen = Vec::new();
        for grant in self.grants.values_mut() {
            let states: Vec<Login> = grant.sessions.iter().map(|s| look(grant, s)).collect();
            let mut states = states.into_iter();
            let known = Grant { sessions: Vec::new(), ..grant.clone() };
            grant.sessions.retain_mut(|s| match (states.next(), s.open) {
                (Some(Login::Gone), true) => {
                    seen.push(Seen::Closed {
                        id: known.id.clone(),
                        user: known.user.clone(),
                        session: s.clone(),
                    });
                    false
                }
                (Some(Login::Gone), false) => {
                    // With a signature it was a login, or sshd found the signature wrong.
                    if s.asked > 1 {
                        seen.push(Seen::Brief {
                            grant: Box::new(known.clone()),
                            session: s.clone(),
                        });
                    }
                    false
                }
                (Some(Login::In), false) => {
                    s.open = true;
                    seen.push(Seen::Opened { grant: Box::new(known.clone()), session: s.clone() });
                    true
                }
                (Some(Login::Waits), false) => now.boot.since(s.since_boot) < ATTEMPT_FOR,
                (Some(Login::In | Login::Waits) | None, _) => true,
            });
        }
        // An ended grant whose last connection is gone is history.
        self.grants.retain(|_, g| g.ended.is_none() || !g.sessions.is_empty());
        seen
    }

    /// Since when the youngest attempt waits.
    pub(super) fn youngest_attempt(&self) -> Option<Boot> {
        self.connections().filter(|(_, s)| !s.open).map(|(_, s)| s.since_boot).max()
    }

    /// Whether a connection may become a login, or one is open.
    pub(super) fn connections(&self) -> impl Iterator<Item = (&Grant, &Session)> {
        self.grants.values().flat_map(|g| g.sessions.iter().map(move |s| (g, s)))
    }
}

/// Warnings that make no sense for a grant so short.
fn already_near(ttl: Duration) -> u8 {
    let near = WARNINGS.iter().filter(|at| ttl <= **at).count();
    u8::try_from(near).unwrap_or(u8::MAX)
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempted {
    /// It is the first of its connection.
    New,
    /// sshd asks twice for each key.
    Again,
    /// The grant has too many connections.
    NoRoom,
    /// There is no such live grant.
    NoGrant,
}

/// What was seen of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody logged in.
    Opened { grant: Box<Grant>, session: Session },
    /// A connection that showed a signature was over before anybody looked.
    Brief { grant: Box<Grant>, session: Session },
    /// A login is over.
    Closed { id: GrantId, user: UserName, session: Session },
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
