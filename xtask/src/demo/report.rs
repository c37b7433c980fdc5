//! What the demo tells: numbered checks, each with its evidence or with the reason of its failure.

use std::time::Duration;

use anyhow::Result;

use crate::{
    host,
    say::{self, Ink},
};

/// Column at which the time of a check stands.
const WIDTH: usize = 92;

/// Lines that show why a check holds.
pub(crate) type Evidence = Vec<String>;

/// The running count.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// A new part of the story, and what it is about.
    pub(crate) fn part(&self, title: &str, about: &str) {
        say::line("");
        say::line(&say::ink(title, Ink::Bold));
        if !about.is_empty() {
            say::line(&format!("  {about}"));
        }
    }

    /// One check. Whatever it returns, the demo goes on.
    pub(crate) fn check(&mut self, title: &str, check: impl FnOnce() -> Result<Evidence>) -> bool {
        let number = self.passed + self.failed + 1;
        say::passing(&format!("  ...   {number:>2}  {title}"));
        let start = host::now();
        let outcome = check();
        let took = seconds(start.elapsed());
        let (word, ink) = match outcome {
            Ok(_) => ("ok  ", Ink::Green),
            Err(_) => ("FAIL", Ink::Red),
        };
        let fill = WIDTH.saturating_sub(12 + title.chars().count()).max(1);
        let time = say::ink(&format!("{:>fill$}", took, fill = fill), Ink::Dim);
        say::line(&format!("  {}  {number:>2}  {title}{time}", say::ink(word, ink)));
        let ok = outcome.is_ok();
        match outcome {
            Ok(evidence) => {
                self.passed += 1;
                for line in evidence {
                    say::line(&say::ink(&format!("            {line}"), Ink::Dim));
                }
            }
            Err(e) => {
                self.failed += 1;
                for line in format!("{e:#}").lines() {
                    say::line(&format!("            {line}"));
                }
            }
        }
        ok
    }

    /// Whether all was well so far.
    pub(crate) fn passed_all(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The closing line.
    pub(crate) fn close(&self) {
        say::line("");
        say::line(&self.last_line());
    }

    fn last_line(&self) -> String {
        format!("demo: {} passed, {} failed", self.passed, self.failed)
    }
}

/// A span in the unit that suits it.
pub(crate) fn seconds(span: Duration) -> String {
    let s = span.as_secs_f64();
    if s < 1.0 { format!("{:.0} ms", s * 1_000.0) } else { format!("{s:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_demo_and_so_does_no_check_at_all() {
        let mut report = Report::default();
        assert!(!report.passed_all());
        assert!(report.check("holds", || Ok(vec!["seen".to_owned()])));
        assert!(report.passed_all());
        assert!(!report.check("does not", || anyhow::bail!("because")));
        assert!(!report.passed_all());
        assert_eq!(report.last_line(), "demo: 1 passed, 1 failed");
    }

    #[test]
    fn spans_are_told_in_their_unit() {
        assert_eq!(seconds(Duration::from_millis(9)), "9 ms");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
    }
}
