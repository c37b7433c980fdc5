//! Files that are followed.

mod glob;
mod reader;
mod scan;

pub(super) use reader::{FileReader, Fingerprint, LastLine};
pub(super) use scan::{Finding, Known, Loss, scan};
