//! Systems Manager as far as an agent uses it: Compliance, Inventory and Parameter Store, with every
//! documented rule enforced and faults on demand.
//!
//! A request that breaks a rule is refused as the service would and noted in [`Stats::violations`],
//! so a test can say that none did. Sizes in bytes are the documented quotas of Inventory, 200 KB for
//! a custom type and one MiB for a call; of Compliance AWS publishes none, and it gets the latter.

mod compliance;
mod inventory;
mod parameters;
mod rules;
mod server;
mod state;

pub use compliance::{Item, Report};
pub use inventory::Table;
pub use server::Ssm;
pub use state::{Faults, Stats};
