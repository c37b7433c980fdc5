//! Whether a request is granted: a pure decision over the request, the settings, the user database and
//! what was granted before.

use std::time::Duration;

use ipnet::IpNet;
use palisade_types::{
    format_duration,
    grant::{GrantId, GrantRequest, Only, Source, UserName},
};

use super::{
    ledger::Ledger,
    model::{Account, Moment},
    settings::Settings,
};

/// A request that took longer to arrive was delivered late, or is played again.
pub(super) const MAX_AGE_S: i64 = 120;
/// A request that comes from further ahead was made by a wrong clock.
pub(super) const MAX_AHEAD_S: i64 = 60;
/// Users below are the system's own.
const FIRST_PERSON: u32 = 1000;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not among `access.users`.
    #[error("user {0} may not be granted on this host")]
    User(UserName),
    /// Not on this host.
    #[error("user {0} does not exist on this host")]
    NoUser(UserName),
    /// A user of the system.
    #[error("user {user} is a system user (uid {uid})")]
    System {
        /// Which.
        user: UserName,
        /// Its number.
        uid: u32,
    },
    /// Nobody can log in as it.
    #[error("user {user} has no login shell ({shell:?})")]
    Shell {
        /// Which.
        user: UserName,
        /// What it has.
        shell: String,
    },
    /// Too long.
    #[error("{user} may be granted for at most {}, not {}", format_duration(*.max), format_duration(*.asked))]
    Ttl {
        /// Which user.
        user: UserName,
        /// What was asked for.
        asked: Duration,
        /// What may be.
        max: Duration,
    },
    /// For something that the user may not be granted for.
    #[error("{user} may not be granted for {}", .only.as_str())]
    Only {
        /// Which user.
        user: UserName,
        /// What for.
        only: Only,
    },
    /// Straight from somewhere else.
    #[error("source {0} is not one address of access.sources")]
    Source(IpNet),
    /// Delivered late, or played again.
    #[error("the request was made {age_s} s ago, more than {MAX_AGE_S} s")]
    Late {
        /// How long ago by the host's clock.
        age_s: i64,
    },
    /// Made by a clock that is ahead of ours.
    #[error("the request was made {ahead_s} s in the future, more than {MAX_AHEAD_S} s")]
    Early {
        /// How far ahead of the host's clock.
        ahead_s: i64,
    },
    /// Used before.
    #[error("grant id {0} is used")]
    Used(GrantId),
    /// The journal of what was granted is lost.
    #[error("it is not known what was granted before: the journal of grants was lost")]
    Blind,
    /// The key is granted already.
    #[error("the key is granted to {user} already, by grant {id}")]
    Key {
        /// To whom.
        user: UserName,
        /// By which grant.
        id: GrantId,
    },
    /// Too many of one user.
    #[error("{user} has {max} live grants already")]
    UserFull {
        /// Of whom.
        user: UserName,
        /// How many there may be.
        max: usize,
    },
    /// Too many.
    #[error("the host has {max} live grants already")]
    HostFull {
        /// How many there may be.
        max: usize,
    },
    /// More ids to remember than there is room for.
    #[error("too many grants within a short time")]
    TooFast,
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::User(_) => "add it to access.users of the host's palisade.yaml",
            Self::NoUser(_) => "create the user on the host, or ask for another",
            Self::System { .. } => "access.users.NAME.system: true allows it",
            Self::Shell { .. } => "ask for a user that can log in",
            Self::Ttl { .. } => "ask for less time, or raise access.users.NAME.max_ttl",
            Self::Only { .. } => "access.users.NAME.only says what it may be granted for",
            Self::Source(_) => {
                "log in through an SSM session, or add the network to access.sources"
            }
            Self::Late { .. } | Self::Early { .. } => {
                "compare the clocks of laptop and host (timedatectl), and ask again"
            }
            Self::Used(_) => "each request needs a new id; ask again",
            Self::Key { .. } => "each grant needs a new key; ask again",
            Self::UserFull { .. } | Self::HostFull { .. } => {
                "palisade access list shows them, palisade access revoke ID ends one"
            }
            Self::Blind | Self::TooFast => "wait a few minutes and ask again",
        }
    }
}

/// Whether `request` may be granted now.
pub(super) fn may(
    request: &GrantRequest,
    settings: &Settings,
    account: Option<&Account>,
    ledger: &Ledger,
    now: Moment,
) -> Result<(), Refusal> {
    timely(request.issued_at, now)?;
    if ledger.is_blind(now) {
        return Err(Refusal::Blind);
    }
    if ledger.is_used(&request.id) {
        return Err(Refusal::Used(request.id.clone()));
    }
    who(request, settings, account)?;
    if let Source::Net(net) = request.source {
        let single = net.prefix_len() == net.max_prefix_len();
        if !single || !settings.sources.iter().any(|allowed| allowed.contains(&net)) {
            return Err(Refusal::Source(net));
        }
    }
    let live = || ledger.live(now, settings.clock_slack);
    if let Some(same) = live().find(|g| g.user == request.user && g.key == request.key) {
        return Err(Refusal::Key { user: same.user.clone(), id: same.id.clone() });
    }
    if live().filter(|g| g.user == request.user).count() >= settings.max_per_user {
        return Err(Refusal::UserFull { user: request.user.clone(), max: settings.max_per_user });
    }
    if live().count() >= settings.max_per_host {
        return Err(Refusal::HostFull { max: settings.max_per_host });
    }
    if ledger.is_full() { Err(Refusal::TooFast) } else { Ok(()) }
}

fn timely(issued_at: i64, now: Moment) -> Result<(), Refusal> {
    let age_s = now.wall.as_secs().saturating_sub(issued_at);
    if age_s > MAX_AGE_S {
        return Err(Refusal::Late { age_s });
    }
    if age_s < -MAX_AHEAD_S {
        return Err(Refusal::Early { ahead_s: age_s.saturating_neg() });
    }
    Ok(())
}

fn who(
    request: &GrantRequest,
    settings: &Settings,
    account: Option<&Account>,
) -> Result<(), Refusal> {
    let user = || request.user.clone();
    let rule = settings.users.get(&request.user).ok_or_else(|| Refusal::User(user()))?;
    let account = account.ok_or_else(|| Refusal::NoUser(user()))?;
    if account.uid < FIRST_PERSON && !rule.system {
        return Err(Refusal::System { user: user(), uid: account.uid });
    }
    if no_login(&account.shell) {
        return Err(Refusal::Shell { user: user(), shell: account.shell.clone() });
    }
    let asked = request.ttl.duration();
    if asked > rule.max_ttl {
        return Err(Refusal::Ttl { user: user(), asked, max: rule.max_ttl });
    }
    if !rule.only.contains(&request.only) {
        return Err(Refusal::Only { user: user(), only: request.only });
    }
    Ok(())
}

/// An empty shell stands for `/bin/sh`, as in sshd.
fn no_login(shell: &str) -> bool {
    let name = shell.rsplit('/').next().unwrap_or_default();
    matches!(name, "nologin" | "false" | "true")
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
