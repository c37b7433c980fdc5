//! OS patches: what is missing, when it may be applied, what was done, and who is told.

mod model;
mod ports;

pub use model::{
    ComplianceItem, ComplianceUpload, InventoryUpload, PackageItem, PackageState, Report, Severity,
    Verdict,
};
pub use ports::{Again, Compliance, ComplianceError, Put};
