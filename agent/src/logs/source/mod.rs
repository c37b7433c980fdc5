//! Files that are followed.

mod compare;
mod directory;
mod glob;
mod packed;
mod reader;
mod scan;

pub(super) use glob::matches;
pub(super) use reader::{FileReader, Fingerprint, LastLine};
pub(super) use scan::{Finding, Known, Loss, Name, Since, scan};
