//! Words that the agent, its local command line and the admin tool share.
//!
//! Names and units that check themselves, and the documents that travel over the control socket.
//! Nothing here does IO, and nothing here depends on more than `serde` and `thiserror`.

pub mod control;
mod name;
mod size;
mod span;
mod status;

pub use name::{BadName, GroupName, ProcessName, ProgramName};
pub use size::{BadSize, ByteSize};
pub use span::{BadSpan, Span, format_duration};
pub use status::{ProcessState, ProcessStatus};
