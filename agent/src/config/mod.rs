//! The configuration: `palisade.yaml` and the files in `conf.d/` beside it.
//!
//! ```text
//! files ── raw ──> trees with line numbers ── merge ──> one tree ── check ──> Settings
//!                                                                     └─────> Mistakes, all at once
//! ```
//!
//! No working module sees the files: each is given its own `settings` type, complete and valid. A
//! reload builds the whole new [`Settings`] first; whoever called then swaps them in, or keeps the
//! old ones and shows the [`Mistakes`].

mod access;
mod check;
mod errand;
mod expand;
mod firewall;
mod kinds;
mod last_good;
mod load;
mod log_lines;
mod logs;
mod merge;
mod metrics;
mod mistakes;
mod origin_guard;
mod patch;
mod processes;
mod program_logs;
mod programs;
mod raw;
mod readiness;
mod section;
mod settings;
pub mod supervisor;
mod supervisor_conf;
mod upkeep;
mod values;

pub use last_good::{keep, last_good};
pub use load::{Texts, check_texts, control_socket, load, read};
pub use mistakes::{Mistake, Mistakes, Place};
pub use settings::{Aws, Control, Host, Region, Role, Settings};
