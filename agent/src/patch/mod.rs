//! OS patches: what is missing, when it may be applied, what was done, and who is told.
//!
//! ```text
//! agent:  Task -- window opens, or somebody asks --> transient unit -- palisade patch work --> Run
//!           |  facts -> plan -> report -> Compliance                     |  lock, lists, install,
//!           +-- reads the journal <---------- STATE_DIR/patch/run.json --+  services, reboot
//! ```
//! Promises:
//! * Never "compliant" from lists that are old, missing, damaged or forged.
//! * `patch plan` and a run are the same code over the same facts.
//! * A run outlives the agent, and one that was cut off goes on where it was.
//! * Nothing begins outside a window unless somebody says `--now`, and then the host is not restarted.

pub mod apt;
pub mod dnf;
pub mod lists;
mod model;
mod plan;
mod ports;
mod record;
pub mod services;
mod settings;
mod window;

pub use model::{
    ComplianceItem, ComplianceUpload, InventoryUpload, PackageItem, PackageState, Report, Severity,
    Verdict,
};
pub use plan::{
    Blocked, Broken, Facts, KeptBack, Plan, Reason, RebootNeed, Update, over_limit, plan,
};
pub use ports::{Again, Compliance, ComplianceError, Put};
pub use record::{Ended, FailedPackage, Found, HISTORY, Phase, Record, Trigger};
pub use settings::*;
pub use window::{BadWindow, Opening, Window, Windows, delay};
