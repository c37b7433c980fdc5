//! Python's tracebacks.
//!
//! ```text
//!            Traceback                       Name: text
//!   Header ─────────────> Frames ─────────────────────────> Raised ──> over, unless
//!      ^  <─ a line of its own                                │        indented lines follow
//!      └───────────── During handling, The above ─────────────┘
//! ```
//! Indented and empty lines go on with whatever is open.

/// Where in an event we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trace {
    /// After a line that a traceback may follow.
    #[default]
    Header,
    /// In a traceback.
    Frames,
    /// After the line that names the exception.
    Raised,
}

const TRACEBACK: &str = "Traceback (most recent call last)";
/// At the end of a line that says something first.
const INLINE: &str = "Traceback (most recent call last):";
const GROUP: &str = "+ Exception Group Traceback";
const CHAINS: [&str; 2] = ["During handling of the above exception", "The above exception"];
/// Of `faulthandler`.
const THREADS: [&str; 2] = ["Current thread 0x", "Thread 0x"];
/// Words that stand before a colon as an exception's name does.
const LEVELS: [&str; 8] =
    ["DEBUG", "INFO", "NOTICE", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL"];

impl Trace {
    /// Whether a line belongs to the event that is open.
    pub(super) fn goes_on_with(self, line: &str) -> bool {
        if line.is_empty() || line.starts_with([' ', '\t']) {
            return true;
        }
        if THREADS.iter().any(|t| line.starts_with(t)) {
            return true;
        }
        match self {
            Self::Header => line.starts_with(TRACEBACK),
            Self::Frames => is_exception(line) || is_chain(line),
            Self::Raised => is_chain(line),
        }
    }

    pub(super) fn pass(&mut self, line: &str, is_first: bool) {
        let starts_frames = line.starts_with(TRACEBACK) || line.ends_with(INLINE);
        if line.trim_start().starts_with(GROUP) {
            // All of it is indented.
            *self = Self::Raised;
        } else if starts_frames && !line.starts_with([' ', '\t']) {
            *self = Self::Frames;
        } else if is_first || is_chain(line) {
            // A traceback may follow.
            *self = Self::Header;
        } else if *self == Self::Frames && !line.is_empty() && !line.starts_with([' ', '\t']) {
            *self = Self::Raised;
        }
    }
}

fn is_chain(line: &str) -> bool {
    CHAINS.iter().any(|c| line.starts_with(c))
}

/// `Name`, `package.Name` or either with `: text` after it.
fn is_exception(line: &str) -> bool {
    let (name, _) = line.split_once(':').unwrap_or((line, ""));
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '<' | '>'))
    };
    name.split('.').all(word) && !LEVELS.contains(&name)
}
