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
mod handle;
mod inventory;
pub mod lists;
mod model;
mod plan;
mod ports;
mod reboot;
mod record;
mod report;
mod run;
mod schedule;
pub mod services;
mod settings;
mod standing;
mod status;
mod task;
mod tell;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;
mod window;

pub use handle::{Gone, Handle, RunError, When};
pub use inventory::inventory;
pub use model::{
    ComplianceItem, ComplianceUpload, InventoryUpload, PackageItem, PackageState, Report, Severity,
    Verdict,
};
pub use plan::{
    Blocked, Broken, Facts, KeptBack, Plan, Reason, RebootNeed, Update, over_limit, plan,
};
pub use ports::{
    Again, Compliance, ComplianceError, HostError, Journal, Packages, Power, Programs, Put,
    Running, Said, Services, Starter,
};
pub use reboot::newer_kernel;
pub use record::{Ended, FailedPackage, Found, HISTORY, Phase, Record, Trigger};
pub use report::{HOST_ID, LEFT_OUT_ID, compliance, word as severity_word};
pub use run::{Left, Parts, look, run};
pub use settings::*;
pub use standing::report;
pub use status::{Planned, Status, Told};
pub use task::{Task, TaskParts, new};
pub use tell::run as tell;
pub use window::{BadWindow, Opening, Window, Windows, delay};
