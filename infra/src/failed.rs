//! How a verb ends when it fails: one line that says what and why, a hint that says what to do, and
//! the exit code. Invariant: no text of another machine gets through unfiltered.

use std::fmt;

pub(crate) use palisade_cloud::Kind;
use palisade_cloud::{
    CloudError,
    terminal::{clean, clean_lines},
};

/// A failure.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    message: String,
    hint: Option<String>,
    /// Lines of their own that come before it.
    before: Vec<String>,
}

/// What a verb returns.
pub(crate) type Outcome<T> = Result<T, Failed>;

impl Failed {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, before: Vec::new() }
    }

    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Something failed because of this error and its causes.
    pub(crate) fn because(what: impl fmt::Display, cause: &dyn std::error::Error) -> Self {
        Self::plain(format!("{what}: {}", palisade_cloud::chain(cause)))
    }

    /// With this hint instead of any before.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With lines that are told before it: places in the sources, of which there may be many.
    #[must_use]
    pub(crate) fn before<'a>(mut self, lines: impl Iterator<Item = &'a str>) -> Self {
        self.before.extend(lines.map(clean));
        self
    }

    /// What is told before it.
    pub(crate) fn told_before(&self) -> &[String] {
        &self.before
    }

    /// With what was being done in front.
    #[must_use]
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What to do about it.
    pub(crate) fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a cause is made of: who reads the log of a run searches by lines.
        let message = clean_lines(&self.message);
        let mut lines = message.lines().map(str::trim).filter(|l| !l.is_empty());
        f.write_str(lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| write!(f, "; {line}"))
    }
}

impl From<CloudError> for Failed {
    fn from(error: CloudError) -> Self {
        let failed = Self::new(error.kind(), error.to_string());
        match error.hint() {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_cause_and_cannot_paint_the_terminal() {
        let cause = std::io::Error::other("\x1b[2Jgone");
        let failed = Failed::because("read it", &cause).during("network").hint("look");
        assert_eq!(failed.to_string(), "network: read it: \u{fffd}[2Jgone");
        assert_eq!((failed.what_to_do(), failed.kind.code()), (Some("look"), 1));
        assert_eq!(Failed::refused("no").kind.code(), 5);
    }

    #[test]
    fn a_failure_is_one_line_however_many_its_causes_have() {
        let failed = Failed::plain("a\n  also: b\n\nc\n").before("x\ny".lines());
        assert_eq!(failed.to_string(), "a; also: b; c");
        assert_eq!(failed.told_before(), ["x", "y"]);
    }
}
