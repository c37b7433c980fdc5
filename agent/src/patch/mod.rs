//! OS patches: what is missing, when it may be applied, what was done, and who is told.

mod model;

pub use model::{
    ComplianceItem, ComplianceUpload, PackageItem, PackageState, Report, Severity, Verdict,
};
