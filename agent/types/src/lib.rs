//! Words that the agent, its local command line and the admin tool share.
//!
//! Names and units that check themselves, and the documents that travel over the control socket and
//! through SSM. Nothing here does IO, and nothing here depends on more than small pure crates.

pub mod change;
pub mod control;
pub mod grant;
mod name;
mod size;
mod span;
mod ssh_key;
mod status;
mod usage;

pub use name::{BadName, GroupName, ProcessName, ProgramName};
pub use size::{BadSize, ByteSize};
pub use span::{BadSpan, Span, format_duration};
pub use ssh_key::{BadKey, ED25519, Ed25519Key};
pub use status::{LastRun, ProcessState, ProcessStatus, ScheduleStatus};
pub use usage::{Counted, ProcessWithUsage, Usage};
