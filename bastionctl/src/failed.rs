//! How a verb ends when it fails: one line that says what and why, a hint that says what to do, and
//! the exit code. Invariant: no text of another machine gets through unfiltered.

use std::fmt;

use palisade_cloud::terminal::clean;
pub(crate) use palisade_cloud::{Kind, chain};

/// A failure.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Of which kind.
    pub(crate) kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What a verb returns.
pub(crate) type Outcome<T> = Result<T, Failed>;

impl Failed {
    /// A failure of this kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message).hint("see bastionctl --help")
    }

    /// It was tried and failed.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Something failed because of this error and its causes.
    pub(crate) fn because(what: impl fmt::Display, cause: &dyn std::error::Error) -> Self {
        Self::plain(format!("{what}: {}", chain(cause)))
    }

    /// With this hint instead of any before.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what was being done in front.
    #[must_use]
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_and_why_once_and_cannot_paint_the_terminal() {
        let cause = std::io::Error::other("\x1b[2Jgone");
        let failed = Failed::because("open the door", &cause).during("web1").hint("knock");
        assert_eq!(failed.to_string(), "web1: open the door: \u{fffd}[2Jgone");
        assert_eq!((failed.what_to_do(), failed.kind.code()), (Some("knock"), 1));
    }
}
