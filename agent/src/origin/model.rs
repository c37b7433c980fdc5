//! Which secrets are accepted, and when one goes. Pure.
//!
//! ```text
//!            offered                      the source has another
//! (unknown) ─────────> accepted, offered ───────────────────────> accepted, left ──> (dropped)
//!                              ^                                        │    unused long enough,
//!                              └──────────── offered again ─────────────┘    or left too long
//! ```
//! Invariants: what is offered as current or pending is accepted at once; only what was left is ever
//! dropped; while anything was accepted once, something is.

use std::time::Duration;

use super::{
    hits::Hit,
    secret::{Secret, SecretId},
    settings::Leave,
};
use crate::clock::Timestamp;

/// Most secrets at once: as many as a rule of the load balancer holds.
pub const MAX_ACCEPTED: usize = 5;
/// Dropped secrets that are remembered, so that a source that still has one as its previous version
/// does not bring it back.
const MAX_DISMISSED: usize = 16;

/// What a source has a secret as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// In use.
    Current,
    /// To be in use next.
    Pending,
    /// In use before; there for whoever comes late, and not to be kept.
    Previous,
}

/// One secret that a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its value.
    pub secret: Secret,
    /// What it is there.
    pub stage: Stage,
    /// What the source calls it.
    pub version: String,
    /// When it was made, if the source says.
    pub created: Option<Timestamp>,
}

/// What the source says of a secret that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has it, as this.
    Offered(Stage),
    /// It has not had it, or only as its previous one, since then.
    Left(Timestamp),
}

/// One accepted secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its value.
    pub secret: Secret,
    /// What the source called it.
    pub version: String,
    /// What the source says of it now.
    pub standing: Standing,
    /// When it was first accepted here.
    pub since: Timestamp,
    /// When it was made, if the source said.
    pub created: Option<Timestamp>,
    /// Requests that had it.
    pub hits: u64,
    /// The last of them.
    pub last_hit: Option<Timestamp>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is accepted from now on.
    Added(SecretId),
    /// The source has another now.
    Left(SecretId),
    /// The source has it again.
    Back(SecretId),
    /// It is not accepted any more.
    Dropped(SecretId, Why),
}

/// Why a secret was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No request had it for the time set.
    Unused,
    /// The source had not had it for the longest time set.
    TooLong,
    /// There were more than [`MAX_ACCEPTED`].
    TooMany,
    /// An operator said so.
    Asked,
}

/// Why a secret cannot be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropRefusal {
    /// It is not accepted.
    #[error("no accepted secret is called {0}")]
    Unknown(SecretId),
    /// The source has it.
    #[error("{0} is what the source has; it would be accepted again at once")]
    Offered(SecretId),
    /// Nothing would be left.
    #[error("{0} is the only accepted secret; without it every request would be refused")]
    Last(SecretId),
}

/// The source says nothing that could be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source has no current secret")]
pub struct NothingCurrent;

/// The accepted secrets, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    list: Vec<Accepted>,
    dismissed: Vec<Secret>,
    /// Requests that were refused.
    refused: u64,
    last_refused: Option<Timestamp>,
}

impl Secrets {
    /// From what was kept.
    #[must_use]
    pub fn restore(
        list: Vec<Accepted>,
        dismissed: Vec<Secret>,
        refused: (u64, Option<Timestamp>),
    ) -> Self {
        Self { list, dismissed, refused: refused.0, last_refused: refused.1 }
    }

    /// The accepted ones, the newest last.
    #[must_use]
    pub fn accepted(&self) -> &[Accepted] {
        &self.list
    }

    /// Those that were dropped and are not to come back as a previous version.
    #[must_use]
    pub fn dismissed(&self) -> &[Secret] {
        &self.dismissed
    }

    /// Requests that were refused, and when the last one was.
    #[must_use]
    pub fn refused(&self) -> (u64, Option<Timestamp>) {
        (self.refused, self.last_refused)
    }

    /// The one in use, by what the source says.
    #[must_use]
    pub fn current(&self) -> Option<&Accepted> {
        self.list.iter().find(|a| a.standing == Standing::Offered(Stage::Current))
    }

    /// Takes over what the source has now.
    ///
    /// # Errors
    /// When nothing of it is current: then nothing changes.
    pub fn take(
        &mut self,
        offered: &[Offered],
        now: Timestamp,
    ) -> Result<Vec<Change>, NothingCurrent> {
        if !offered.iter().any(|o| o.stage == Stage::Current) {
            return Err(NothingCurrent);
        }
        let mut changes = Vec::new();
        for accepted in &mut self.list {
            let id = accepted.secret.id();
            // Of two stages with one value, the first counts: sources name the current one first.
            let now_is = offered.iter().find(|o| o.secret == accepted.secret);
            match (now_is.filter(|o| o.stage != Stage::Previous), accepted.standing) {
                (Some(o), before) => {
                    accepted.standing = Standing::Offered(o.stage);
                    accepted.version.clone_from(&o.version);
                    accepted.created = o.created.or(accepted.created);
                    if let Standing::Left(_) = before {
                        changes.push(Change::Back(id));
                    }
                }
                (None, Standing::Offered(_)) => {
                    accepted.standing = Standing::Left(now);
                    changes.push(Change::Left(id));
                }
                (None, Standing::Left(_)) => {}
            }
        }
        // The pending one last, so that it is the newest also where all are new.
        for stage in [Stage::Previous, Stage::Current, Stage::Pending] {
            for o in offered.iter().filter(|o| o.stage == stage) {
                // One value at two stages is what the first of them says.
                let said = offered.iter().find(|first| first.secret == o.secret);
                let is_known = self.list.iter().any(|a| a.secret == o.secret);
                if is_known || said != Some(o) {
                    continue;
                }
                let standing = match stage {
                    Stage::Previous if self.dismissed.contains(&o.secret) => continue,
                    Stage::Previous => Standing::Left(now),
                    Stage::Current | Stage::Pending => Standing::Offered(stage),
                };
                self.dismissed.retain(|d| *d != o.secret);
                changes.push(Change::Added(o.secret.id()));
                self.list.push(Accepted {
                    secret: o.secret.clone(),
                    version: o.version.clone(),
                    standing,
                    since: now,
                    created: o.created,
                    hits: 0,
                    last_hit: None,
                });
            }
        }
        while self.list.len() > MAX_ACCEPTED {
            let left = self.list.iter().enumerate().filter(|(_, a)| is_left(a));
            // The one that requests had least lately; of those that none had, the oldest.
            let Some((at, _)) = left.min_by_key(|(_, a)| a.last_hit) else { break };
            changes.push(self.remove(at, Why::TooMany));
        }
        Ok(changes)
    }

    /// Counts requests.
    pub fn count(&mut self, hits: impl IntoIterator<Item = Hit>) {
        for Hit { at, key, requests } in hits {
            match key {
                Some(id) => {
                    if let Some(a) = self.list.iter_mut().find(|a| a.secret.id() == id) {
                        a.hits = a.hits.saturating_add(requests);
                        a.last_hit = a.last_hit.max(Some(at));
                    }
                }
                None => {
                    self.refused = self.refused.saturating_add(requests);
                    self.last_refused = self.last_refused.max(Some(at));
                }
            }
        }
    }

    /// Drops what is to go by now. `counted` is until when all requests are counted, if they are.
    pub fn expire(
        &mut self,
        leave: &Leave,
        now: Timestamp,
        counted: Option<Timestamp>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((at, why)) = self.due(leave, now, counted) {
            changes.push(self.remove(at, why));
        }
        changes
    }

    fn due(
        &self,
        leave: &Leave,
        now: Timestamp,
        counted: Option<Timestamp>,
    ) -> Option<(usize, Why)> {
        // Without a current one nobody knows what comes in its place.
        self.current()?;
        self.list.iter().enumerate().find_map(|(at, a)| {
            let Standing::Left(left) = a.standing else { return None };
            if now.since(left) >= leave.at_most {
                return Some((at, Why::TooLong));
            }
            let quiet = self.quiet_for(a, left, counted?)?;
            (quiet >= leave.unused_for).then_some((at, Why::Unused))
        })
    }

    /// For how long nobody used a secret that was left. None if no request with another one was seen
    /// in that time: then there was no traffic, or it is not counted.
    fn quiet_for(&self, a: &Accepted, left: Timestamp, counted: Timestamp) -> Option<Duration> {
        let from = a.last_hit.map_or(left, |hit| hit.max(left));
        let others = self.list.iter().filter(|other| !is_left(other));
        let is_counting = others.filter_map(|other| other.last_hit).any(|hit| hit > from);
        is_counting.then(|| counted.since(from))
    }

    /// Drops one because an operator said so.
    ///
    /// # Errors
    /// When it must stay.
    pub fn drop_asked(&mut self, id: &SecretId) -> Result<Change, DropRefusal> {
        let at = self.list.iter().position(|a| a.secret.id() == *id);
        let Some((at, a)) = at.and_then(|at| Some((at, self.list.get(at)?))) else {
            return Err(DropRefusal::Unknown(id.clone()));
        };
        if self.list.len() == 1 {
            return Err(DropRefusal::Last(id.clone()));
        }
        if !is_left(a) {
            return Err(DropRefusal::Offered(id.clone()));
        }
        Ok(self.remove(at, Why::Asked))
    }

    fn remove(&mut self, at: usize, why: Why) -> Change {
        let gone = self.list.remove(at);
        let id = gone.secret.id();
        self.dismissed.push(gone.secret);
        if self.dismissed.len() > MAX_DISMISSED {
            self.dismissed.remove(0);
        }
        Change::Dropped(id, why)
    }

    /// The text without any value that is known here.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let known = self.list.iter().map(|a| &a.secret).chain(&self.dismissed);
        known.fold(text.to_owned(), |text, s| {
            text.replace(s.expose(), &format!("[secret {}]", s.id()))
        })
    }
}

fn is_left(a: &Accepted) -> bool {
    matches!(a.standing, Standing::Left(_))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
