//! What a rule found: where, about whom, and by which way.

use std::fmt;

use crate::value::At;

/// One violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule's id, `R03`.
    pub rule: &'static str,
    /// The line that must change.
    pub at: At,
    /// `stack.Logical`, or a file.
    pub subject: String,
    /// What is wrong, as a sentence without full stop.
    pub what: String,
    /// How it comes about, step by step: the path that a packet takes, the statement that grants. Empty
    /// where the line says all.
    pub witness: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}: {}", self.at, self.rule, self.subject, self.what)?;
        for step in &self.witness {
            write!(f, "\n    {step}")?;
        }
        Ok(())
    }
}
