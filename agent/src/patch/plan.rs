//! From facts to what a run would do, and why the rest is left: the one decision behind `patch plan`,
//! the run and the report. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    lists::SourceList,
    model::{Severity, Verdict},
    settings::Settings,
};
use crate::clock::Timestamp;

/// A package that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Its name, with the architecture where it is not the host's own.
    pub name: String,
    /// Version before; none if it is new.
    pub from: Option<String>,
    /// Version after.
    pub to: String,
    /// Where it comes from.
    pub origin: String,
    /// How bad it would be without; apt does not say.
    #[serde(default)]
    pub severity: Severity,
    /// What it mends, where the archive says.
    #[serde(default)]
    pub cves: Vec<String>,
}

/// A package that needs an update and that an upgrade does not touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// What it should become.
    pub update: Update,
    /// What stands in the way, in the package manager's words.
    pub obstacle: Option<String>,
}

/// A package that is not as the package manager wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Its name.
    pub name: String,
    /// In which way: `half-configured`.
    pub what: String,
}

/// Why the host needs a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootNeed {
    /// Each reason: `kernel 6.1.0-30 is installed, 6.1.0-28 runs`. None: no need.
    pub reasons: Vec<String>,
    /// The packages that asked for it, where that is known.
    pub packages: Vec<String>,
}

/// What is found on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Every source of packages.
    pub sources: Vec<SourceList>,
    /// What would be installed if nothing were held.
    pub wanted: Vec<Update>,
    /// What will be installed with the holds in force.
    pub doable: Vec<Update>,
    /// What is wanted and cannot be.
    pub blocked: Vec<Blocked>,
    /// Packages that the host's own administrator holds (`apt-mark hold`).
    pub marked: Vec<String>,
    /// Packages that are half installed.
    pub broken: Vec<Broken>,
    /// Why the host needs a restart.
    pub reboot: RebootNeed,
    /// The release that the sources are locked to.
    pub release: Option<String>,
}

/// Why a package is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The configuration holds it.
    Hold {
        /// Until when; none if for ever.
        until: Option<Timestamp>,
        /// The operator's words.
        why: String,
    },
    /// `apt-mark hold` or its like.
    Marked,
    /// The run is full; it is among the next.
    Limit {
        /// What a run may update.
        max: usize,
    },
    /// Something stands in the way.
    Obstacle {
        /// What.
        what: String,
    },
}

impl Reason {
    /// Whether somebody wants it so.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        match self {
            Self::Hold { .. } | Self::Marked => true,
            Self::Limit { .. } | Self::Obstacle { .. } => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { until: Some(until), why } => write!(f, "hold until {until}: {why}"),
            Self::Hold { until: None, why } => write!(f, "hold: {why}"),
            Self::Marked => f.write_str("held on the host (apt-mark hold)"),
            Self::Limit { max } => write!(f, "a run updates at most {max} packages"),
            Self::Obstacle { what } => write!(f, "kept back: {what}"),
        }
    }
}

/// A package that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// What it should become.
    #[serde(flatten)]
    pub update: Update,
    /// Why it does not.
    pub why: Reason,
}

/// What a run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// When the facts were found.
    pub at: Timestamp,
    /// What would be installed.
    pub updates: Vec<Update>,
    /// What would be left, and why.
    pub kept_back: Vec<KeptBack>,
    /// What would be repaired first.
    pub broken: Vec<Broken>,
    /// Why the host needs a restart already.
    pub reboot: RebootNeed,
    /// Every source.
    pub sources: Vec<SourceList>,
    /// The release that the sources are locked to.
    pub release: Option<String>,
    /// Where the host stands without a run.
    pub verdict: Verdict,
}

impl Plan {
    /// Whether a run would do nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.broken.is_empty() && self.reboot.reasons.is_empty()
    }

    /// Seconds since the oldest list was fetched; none if one never was.
    #[must_use]
    pub fn lists_age_s(&self) -> Option<u64> {
        let ages = self.sources.iter().map(|s| s.fetched.map(|t| self.at.since(t).as_secs()));
        ages.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Packages to leave out so that a run stays below its limit: the last of those that would be done.
/// New dependencies do not count.
#[must_use]
pub fn over_limit(doable: &[Update], max: Option<usize>) -> Vec<String> {
    let Some(max) = max else { return Vec::new() };
    let mut old: Vec<&Update> = doable.iter().filter(|u| u.from.is_some()).collect();
    // The worst first, then by name, so that it is the same at each look.
    old.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.name.cmp(&b.name)));
    old.into_iter().skip(max).map(|u| u.name.clone()).collect()
}

/// The plan. `left` are the packages that [`over_limit`] named when the facts were found.
#[must_use]
pub fn plan(facts: Facts, left: &[String], settings: &Settings, now: Timestamp) -> Plan {
    let is_done = |name: &str| facts.doable.iter().any(|u| u.name == name);
    let mut kept_back: Vec<KeptBack> = Vec::new();
    let old = facts.wanted.iter().filter(|u| u.from.is_some() && !is_done(&u.name));
    let blocked = facts.blocked.iter().filter(|b| !is_done(&b.update.name));
    let candidates = blocked.clone().map(|b| (&b.update, b.obstacle.as_deref()));
    for (update, obstacle) in candidates.chain(old.map(|u| (u, None))) {
        if kept_back.iter().any(|k| k.update.name == update.name) {
            continue;
        }
        let why = reason(&update.name, obstacle, left, &facts, settings, now);
        kept_back.push(KeptBack { update: update.clone(), why });
    }
    kept_back.sort_by(|a, b| a.update.name.cmp(&b.update.name));
    let missing = !facts.doable.is_empty() || !kept_back.is_empty();
    let wrong = !facts.broken.is_empty() || !facts.reboot.reasons.is_empty();
    let verdict = match doubt(&facts.sources, settings, now) {
        Some(why) => Verdict::Unknown { why },
        None if missing || wrong => Verdict::NonCompliant,
        None => Verdict::Compliant,
    };
    Plan {
        at: now,
        updates: facts.doable,
        kept_back,
        broken: facts.broken,
        reboot: facts.reboot,
        sources: facts.sources,
        release: facts.release,
        verdict,
    }
}

fn reason(
    name: &str,
    obstacle: Option<&str>,
    left: &[String],
    facts: &Facts,
    settings: &Settings,
    now: Timestamp,
) -> Reason {
    if let Some(hold) = settings.holds_at(now).find(|h| h.package == base(name)) {
        return Reason::Hold { until: hold.until, why: hold.why.clone() };
    }
    if facts.marked.iter().any(|m| base(m) == base(name)) {
        return Reason::Marked;
    }
    if let (Some(max), true) = (settings.max_packages, left.iter().any(|l| l == name)) {
        return Reason::Limit { max };
    }
    let what = obstacle.unwrap_or("it depends on a package that is held or cannot be installed");
    Reason::Obstacle { what: what.to_owned() }
}

/// The name without an architecture.
fn base(name: &str) -> &str {
    name.split_once(':').map_or(name, |(base, _)| base)
}

/// Why nobody can tell whether something is missing.
fn doubt(sources: &[SourceList], settings: &Settings, now: Timestamp) -> Option<String> {
    if sources.is_empty() {
        return Some("no source of packages is set up".to_owned());
    }
    let doubtful = sources.iter().find_map(|s| {
        let name = &s.source;
        let trouble = s.trouble.as_ref().map(|t| &t.what);
        match (&s.trouble, s.fetched) {
            (Some(t), _) if t.untrusted => Some(format!("{name} is not trusted: {}", t.what)),
            (_, None) => Some(match trouble {
                Some(what) => format!("{name} was never fetched: {what}"),
                None => format!("{name} was never fetched"),
            }),
            (_, Some(at)) if now.since(at) > settings.lists_max_age || at > now => {
                let why = trouble.map(|w| format!(": {w}")).unwrap_or_default();
                Some(format!("{name} was last fetched at {at}{why}"))
            }
            (_, Some(_)) if !s.present => Some(format!("the lists of {name} are gone")),
            (_, Some(_)) => None,
        }
    });
    // Asked last: what a source carries is only known once it was fetched.
    let has_security = sources.iter().any(|s| s.security);
    let none = || "no source of packages carries security updates".to_owned();
    doubtful.or_else(|| (!has_security).then(none))
}

#[cfg(test)]
pub(super) mod tests;
