//! What patching knows about packages and what it reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Severity of an update, by the words of SSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// The distribution does not say.
    #[default]
    Unspecified,
    /// Of interest only.
    Informational,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// Where a package stands, by the words of SSM Patch Manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageState {
    /// Installed by the last run.
    Installed,
    /// Installed, and takes a restart of the host to be in effect.
    InstalledPendingReboot,
    /// A security update is known and not installed.
    Missing,
    /// It was tried and went wrong.
    Failed,
    /// Known, and on hold by the operator until the hold expires.
    Held,
}

impl PackageState {
    /// Whether a host with such a package may be called compliant.
    #[must_use]
    pub fn is_compliant(self) -> bool {
        match self {
            Self::Installed => true,
            Self::InstalledPendingReboot | Self::Missing | Self::Failed | Self::Held => false,
        }
    }
}

/// One package of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageItem {
    /// Name, with the architecture where it is not the host's own (`libc6:i386`).
    pub name: String,
    /// Version that is installed.
    pub installed: Option<String>,
    /// Version that the update brings.
    pub available: Option<String>,
    /// Where it stands.
    pub state: PackageState,
    /// How bad it would be without.
    pub severity: Severity,
    /// Known identifiers, such as `CVE-2026-1234`.
    pub cves: Vec<String>,
    /// Why it stands there: `kept back: depends on a held package`, `hold until 2026-12-01`.
    pub why: String,
}

/// Whether the host has what it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Fresh lists say that nothing is missing.
    Compliant,
    /// Something is missing, failed, held or waits for a reboot.
    NonCompliant,
    /// Nobody can tell, for example because the lists are old. Never reported as compliant.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What a host says about its patches at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// The run that it follows, if any.
    pub run: Option<String>,
    /// The answer.
    pub verdict: Verdict,
    /// Packages that are not as they should be, and those that the last run installed.
    pub items: Vec<PackageItem>,
    /// The release that repositories are locked to, where there is such a thing (`2023.6.20260101`).
    pub release: Option<String>,
    /// Seconds since the oldest of the package lists was fetched; none if never.
    pub lists_age_s: Option<u64>,
}

/// One line of a compliance report as SSM takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComplianceItem {
    /// Unique within the report.
    pub id: String,
    /// At most 500 characters.
    pub title: String,
    /// How bad.
    pub severity: Severity,
    /// Whether this item is as it should be.
    pub compliant: bool,
    /// At most 64 keys, values of at most 4096 characters.
    pub details: BTreeMap<String, String>,
}

/// A whole compliance report. Every upload replaces what SSM had, so it is always the full list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComplianceUpload {
    /// The managed instance.
    pub instance: String,
    /// When the facts were found.
    pub executed: Timestamp,
    /// The run, at most 100 characters.
    pub execution: Option<String>,
    /// At most 10,000.
    pub items: Vec<ComplianceItem>,
    /// SHA-256 of the items: SSM need not be told what it has.
    pub hash: String,
}

/// The host's inventory of patches: one row a package. Every upload replaces what SSM had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryUpload {
    /// The managed instance.
    pub instance: String,
    /// When the facts were found.
    pub captured: Timestamp,
    /// At most 10,000, of at most 50 keys.
    pub rows: Vec<BTreeMap<String, String>>,
    /// SHA-256 of the rows.
    pub hash: String,
}
