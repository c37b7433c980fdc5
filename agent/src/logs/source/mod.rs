//! Files that are followed.

mod glob;
mod reader;
mod scan;

pub use reader::{FileFilled, FileReader, Fingerprint, LastLine};
pub use scan::{Finding, Known, Loss, MAX_FILES, scan};
