//! OS patches: what is missing, when it may be applied, what was done, and who is told.

mod inventory;
mod model;
mod ports;
mod report;

pub use inventory::inventory;
pub use model::{
    ComplianceItem, ComplianceUpload, InventoryUpload, PackageItem, PackageState, Report, Severity,
    Verdict,
};
pub use ports::{Again, Compliance, ComplianceError, Put};
pub use report::{HOST_ID, LEFT_OUT_ID, compliance, word as severity_word};
