//! What the patch task needs of the cloud: somebody to tell where the host stands.

use std::{error::Error, future::Future};

use super::model::{ComplianceUpload, InventoryUpload};

/// Somebody who keeps what hosts say about their patches.
///
/// Each call is one try with a bounded time. The task tries again, and skips what the other side
/// already has, by the uploads' hashes.
pub trait Compliance: Send + Sync + 'static {
    /// Replaces the whole compliance report of this host.
    fn put(
        &self,
        upload: &ComplianceUpload,
    ) -> impl Future<Output = Result<Put, ComplianceError>> + Send;

    /// Replaces the host's inventory of patches.
    fn put_inventory(
        &self,
        upload: &InventoryUpload,
    ) -> impl Future<Output = Result<Put, ComplianceError>> + Send;
}

/// What the other side did with an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It took it.
    Stored,
    /// It had the same already.
    Unchanged,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ComplianceError {
    /// What was tried and what was answered.
    pub what: String,
    /// Whether to try again.
    pub again: Again,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Throttled, not reachable, not yet allowed: later.
    Later,
    /// The same upload will be refused again.
    Never,
}
