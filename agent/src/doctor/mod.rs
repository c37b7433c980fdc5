//! What `palisade doctor` finds: facts of a host, and what they mean for what the configuration wants.
//!
//! The facts are gathered by `sys::doctor`; judging them is pure. Something is bad only if the
//! configuration wants what the host does not give; what would merely be better is a note. Each that
//! is not good says what to do.

mod facts;
mod judge;

pub use facts::{Asked, Cgroups, Clock, Disk, Facts, Fault, Kernel, Sshd, Tool, Wanted, Whose};
pub use judge::findings;
use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works; something is less than it could be.
    Note,
    /// Something that is wanted does not work.
    Bad,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `kernel`, `cgroups`, `disk` and so on.
    pub area: &'static str,
    /// How good it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}
