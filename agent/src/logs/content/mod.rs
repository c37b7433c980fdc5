//! What becomes of lines on their way: secrets are taken out, lines that belong together are put
//! together, the time that a line bears is read.
//!
//! Pure: bytes and the present moment in, bytes and times out. Nothing here knows where lines come
//! from or go to.

mod multiline;
mod pattern;
mod redact;
mod time;

pub use multiline::Multiline;
pub(super) use multiline::{Joiner, MOST_BYTES};
pub use pattern::{BadPattern, Pattern};
pub(super) use redact::{Carry, Counts};
pub use redact::{Custom, Kind, Redactor};
pub(super) use time::Reader as TimeReader;
pub use time::Zone;

/// How the lines of a source are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRules {
    /// Which of them belong together.
    pub multiline: Multiline,
    /// Take the time that a line bears, where it has one; of this zone, unless it says another.
    pub timestamps: Option<Zone>,
}

impl LineRules {
    /// Each line is an event, with the time at which it came.
    #[must_use]
    pub const fn plain() -> Self {
        Self { multiline: Multiline::None, timestamps: None }
    }
}
