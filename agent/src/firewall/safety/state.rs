//! Which settings are in force, on trial or refused, as it stands on disk and over a restart. Pure.

use serde::{Deserialize, Serialize};

use super::{super::settings::Settings, ports::Guardian, status::KeptBack};
use crate::clock::Timestamp;

/// The form written today.
const VERSION: u32 = 1;
/// Name of the file in the firewall's state directory.
pub(super) const FILE: &str = "settings.json";
/// Largest file that is read: three settings of some thousand ranges each come to less.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Settings that were put in force for good.
    pub in_force: Settings,
    /// Settings that are not to be tried again by themselves.
    pub refused: Option<RefusedSettings>,
    /// Settings in force for a while.
    pub trial: Option<Trial>,
}

/// Settings that are not to be tried again by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSettings {
    /// Which.
    pub settings: Settings,
    /// Why and since when.
    pub kept_back: KeptBack,
    /// Whether they were in force and did not prove themselves. Else they were only judged, and are
    /// judged again when the file is read again.
    pub rolled_back: bool,
}

/// Settings in force for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// A name that no other trial has.
    pub id: String,
    /// Which.
    pub settings: Settings,
    /// Until when, in milliseconds since boot.
    pub until_ms: u64,
    /// Since which boot.
    pub boot_id: String,
    /// Who asked.
    pub by: String,
    /// Who watches over it.
    pub guardian: Option<Guardian>,
}

impl Trial {
    /// Whether its time is not over.
    #[must_use]
    pub fn goes_on(&self, now_ms: u64, boot_id: &str) -> bool {
        self.boot_id == boot_id && now_ms < self.until_ms
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    v: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// Not our JSON.
    #[error("read it as JSON")]
    Json(#[source] serde_json::Error),
    /// Written by a program that we do not know.
    #[error("its version is {0} and not {VERSION}")]
    Version(u32),
}

/// The content of the file.
///
/// # Errors
/// Never for a [`Kept`] that can exist; the type of the encoder's error.
pub fn encode(kept: &Kept) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&File { v: VERSION, kept: kept.clone() })
}

/// Reads the content of the file.
///
/// # Errors
/// When it is not what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Kept, BadState> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_slice(bytes).map_err(BadState::Json)?;
    if v != VERSION {
        return Err(BadState::Version(v));
    }
    let file: File = serde_json::from_slice(bytes).map_err(BadState::Json)?;
    Ok(file.kept)
}

/// What a start begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The settings to put in force.
    pub settings: Settings,
    /// What is kept from now on.
    pub kept: Kept,
    /// The settings of the file, if it is still to be judged whether they are taken.
    pub offered: Option<Settings>,
}

/// What to begin with, from what the disk has and what the file says.
///
/// A trial goes on for the time that is left; one whose time is over, or of an earlier boot, was rolled
/// back. Settings that were refused are not tried again.
#[must_use]
pub fn resolve(
    kept: Option<Kept>,
    offered: Settings,
    now_ms: u64,
    boot_id: &str,
    now: Timestamp,
) -> Start {
    let Some(mut kept) = kept else {
        let kept = Kept { in_force: offered.clone(), refused: None, trial: None };
        return Start { settings: offered, kept, offered: None };
    };
    if let Some(trial) = &kept.trial {
        if trial.goes_on(now_ms, boot_id) {
            let settings = trial.settings.clone();
            let differs = (offered != settings).then_some(offered);
            return Start { settings, kept, offered: differs };
        }
        kept.roll_back("it was not confirmed in time".to_owned(), now);
    }
    let settings = kept.in_force.clone();
    let is_new = settings != offered && kept.rolled_back(&offered).is_none();
    Start { settings, kept, offered: is_new.then_some(offered) }
}

impl Kept {
    /// Ends the trial: its settings are not tried again by themselves.
    pub fn roll_back(&mut self, why: String, now: Timestamp) {
        if let Some(trial) = self.trial.take() {
            self.refuse(trial.settings, why, now, true);
        }
    }

    /// Remembers settings that are not to be tried again by themselves.
    pub fn refuse(&mut self, settings: Settings, why: String, now: Timestamp, rolled_back: bool) {
        let kept_back = KeptBack { since: now, why };
        self.refused = Some(RefusedSettings { settings, kept_back, rolled_back });
    }

    /// Whether these are the settings that were refused.
    #[must_use]
    pub fn has_refused(&self, settings: &Settings) -> bool {
        self.refused.as_ref().is_some_and(|r| r.settings == *settings)
    }

    /// Why these settings were rolled back, if they were.
    #[must_use]
    pub fn rolled_back(&self, settings: &Settings) -> Option<&KeptBack> {
        let refused = self.refused.as_ref()?;
        (refused.rolled_back && refused.settings == *settings).then_some(&refused.kept_back)
    }

    /// The settings that are in force now.
    #[must_use]
    pub fn now(&self) -> &Settings {
        self.trial.as_ref().map_or(&self.in_force, |t| &t.settings)
    }
}
