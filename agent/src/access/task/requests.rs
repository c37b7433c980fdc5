//! What others ask of the task, one command after the other.

use std::time::Duration;

use palisade_types::grant::{GrantId, GrantRequest, Revoked, VERSION};

use super::{
    super::{
        audit::{Event, plain},
        handle::{Command, GrantError, RevokeError},
        ledger::Attempted,
        model::{Account, Ended, Grant, Moment},
        ports::{Clocks, Journal, Processes},
    },
    Task,
};

/// Refused logins and requests that are written within a minute; the rest is counted only.
const REFUSALS: u32 = 30;

impl<P: Processes, J: Journal, C: Clocks> Task<P, J, C> {
    pub(super) fn answer(&mut self, command: Command) {
        // Whoever asked may have gone away; what was done stands all the same.
        match command {
            Command::Grant { request, account, by, reply } => {
                drop(reply.send(self.grant(*request, account.as_ref(), &by).map(Box::new)));
            }
            Command::Revoke { id, by, reply } => drop(reply.send(self.revoke(id, &by))),
            Command::Unreadable { why, by } => {
                let refused = Event::Refused {
                    grant: String::new(),
                    user: String::new(),
                    owner: String::new(),
                    why: plain(&why),
                    by,
                };
                self.refuse(refused);
            }
            Command::Attempt { grant, session, reply } => {
                let told = match self.ledger.attempt(&grant, session) {
                    Attempted::New => {
                        self.changed = true;
                        // A login that the next life would not know of could not be ended.
                        let saved = self.save().is_ok();
                        self.changed = !saved;
                        saved
                    }
                    Attempted::Again => true,
                    Attempted::NoRoom | Attempted::NoGrant => false,
                };
                self.publish();
                reply.send(told).unwrap_or_default();
            }
            Command::OtherKey(sshd) => self.changed |= self.ledger.forget_attempt(sshd, None),
            Command::LoginRefused { grant, session_owner, session_id, sshd, why } => {
                self.counts.logins_refused += 1;
                let Some(known) = self.ledger.get(&grant) else { return };
                let event = Event::LoginRefused {
                    user: known.user.clone(),
                    fingerprint: known.key.fingerprint(),
                    owner: known.owner.clone(),
                    session_owner: session_owner.map(|o| plain(&o)),
                    session_id,
                    sshd: sshd.map(|p| p.pid),
                    why: plain(&why),
                    grant,
                };
                let now = self.clocks.now();
                if self.refusals.take(now) {
                    self.audit.audit.note(event, now);
                }
            }
        }
    }

    fn refuse(&mut self, event: Event) {
        self.counts.refused += 1;
        let now = self.clocks.now();
        if self.refusals.take(now) {
            self.audit.audit.note(event, now);
        }
    }

    fn grant(
        &mut self,
        request: GrantRequest,
        account: Option<&Account>,
        by: &str,
    ) -> Result<Grant, GrantError> {
        let now = self.clocks.now();
        let issued_at = request.issued_at;
        let asked = (request.id.clone(), request.user.clone(), request.owner.clone());
        let grant = match self.ledger.admit(request, &self.settings, account, now) {
            Ok(grant) => grant.clone(),
            Err(refusal) => {
                let (id, user, owner) = asked;
                self.refuse(Event::Refused {
                    grant: id.to_string(),
                    user: user.to_string(),
                    owner: owner.to_string(),
                    why: plain(&refusal.to_string()),
                    by: by.to_owned(),
                });
                return Err(refusal.into());
            }
        };
        if let Err(e) = self.save() {
            self.ledger.withdraw(&grant.id);
            return Err(GrantError::Journal(e));
        }
        self.counts.granted += 1;
        self.publish();
        let event = Event::Granted {
            grant: grant.id.clone(),
            user: grant.user.clone(),
            fingerprint: grant.key.fingerprint(),
            owner: grant.owner.clone(),
            only: grant.only,
            target: grant.target.clone(),
            source: grant.source,
            reason: grant.reason.clone(),
            issued_at,
            expires_at: grant.expires_at.as_secs(),
            binding: self.settings.binding,
            by: by.to_owned(),
        };
        self.audit.audit.note(event, now);
        Ok(grant)
    }

    fn revoke(&mut self, id: GrantId, by: &str) -> Result<Revoked, RevokeError> {
        let open =
            self.end(&id, Ended::Revoked, by).ok_or_else(|| RevokeError::Unknown(id.clone()))?;
        let sessions_ended = u32::try_from(open).unwrap_or(u32::MAX);
        self.publish();
        Ok(Revoked { v: VERSION, id, sessions_ended })
    }
}

/// Bounds how many refusals are written: whoever asks again and again fills no disk.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    used: u32,
    since: Option<Moment>,
}

impl Bucket {
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let minute = Duration::from_secs(60);
        if self.since.is_none_or(|s| now.boot.since(s.boot) >= minute) {
            (self.used, self.since) = (0, Some(now));
        }
        self.used = self.used.saturating_add(1);
        self.used <= REFUSALS
    }
}
