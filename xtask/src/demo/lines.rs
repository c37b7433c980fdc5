//! Counting log lines where they arrived: each numbered line must be there, and once.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, ensure};

use super::{cloudwatch, world::World};
use crate::host;

/// How often each number was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<u32, u32>);

/// What became of the lines 1 to `sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sent: u32,
    pub(crate) lost: u32,
    /// Arrivals beyond the first of a line.
    pub(crate) again: u32,
}

impl Tally {
    /// Every line arrived, and none of them twice.
    pub(crate) fn exactly_once(self, what: &str) -> Result<String> {
        ensure!(
            self.lost == 0 && self.again == 0,
            "{what}: of {} lines {} were lost and {} arrived again",
            self.sent,
            self.lost,
            self.again
        );
        Ok(format!("{what}: {} lines sent, {} arrived, each exactly once", self.sent, self.sent))
    }

    /// Every line arrived; those that came again are told.
    pub(crate) fn none_lost(self, what: &str) -> Result<String> {
        ensure!(self.lost == 0, "{what}: of {} lines {} were lost", self.sent, self.lost);
        let again = match self.again {
            0 => "each exactly once".to_owned(),
            n => format!("none lost, {n} of them twice"),
        };
        Ok(format!("{what}: {} lines sent, {} arrived, {again}", self.sent, self.sent))
    }
}

impl Seen {
    /// Numbers that stand between `before` and `after` anywhere in the text.
    pub(crate) fn in_text(text: &str, before: &str, after: &str) -> Self {
        let mut seen = BTreeMap::new();
        for part in text.split(before).skip(1) {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            if let Some((number, rest)) = part.split_at_checked(digits)
                && rest.starts_with(after)
                && let Ok(n) = number.parse()
            {
                *seen.entry(n).or_default() += 1;
            }
        }
        Self(seen)
    }

    /// The highest number seen.
    pub(crate) fn highest(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(n, _)| *n)
    }

    /// What became of the lines 1 to `sent`.
    pub(crate) fn tally(&self, sent: u32) -> Tally {
        let arrived = self.0.range(1..=sent);
        let (lines, copies) = arrived.fold((0, 0), |(l, c), (_, times)| (l + 1, c + times));
        Tally { sent, lost: sent - lines, again: copies - lines }
    }
}

/// The place where the agent sends lines, read as one text.
#[derive(Clone, Debug)]
pub(crate) enum Arrived<'a> {
    /// Every file below this directory.
    Files(PathBuf),
    /// The stand-in for CloudWatch Logs in this world.
    CloudWatch(&'a World),
}

impl Arrived<'_> {
    pub(crate) fn text(&self) -> Result<String> {
        match self {
            Self::CloudWatch(world) => cloudwatch::text(world),
            Self::Files(below) => {
                let mut text = String::new();
                for file in host::files_below(below)? {
                    text.push_str(&String::from_utf8_lossy(&std::fs::read(&file)?));
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }

    /// The ticker's lines.
    pub(crate) fn ticks(&self, pid: i32) -> Result<Seen> {
        Ok(Seen::in_text(&self.text()?, &format!("tick pid={pid} n="), "."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_repeated_lines_are_both_counted() {
        let text =
            r#"{"message":"tick pid=7 n=1."} tick pid=7 n=2. tick pid=7 n=2. tick pid=7 n=12"#;
        let seen = Seen::in_text(text, "tick pid=7 n=", ".");
        assert_eq!(seen.highest(), 2);
        assert_eq!(seen.tally(3), Tally { sent: 3, lost: 1, again: 1 });
        assert!(seen.tally(2).exactly_once("ticks").is_err());
        assert!(seen.tally(2).none_lost("ticks").unwrap().contains("1 of them twice"));
        assert!(seen.tally(3).none_lost("ticks").is_err());
        assert!(seen.tally(1).exactly_once("ticks").is_ok());
    }

    #[test]
    fn lines_of_another_process_do_not_count() {
        assert_eq!(Seen::in_text("tick pid=8 n=1.", "tick pid=7 n=", "."), Seen::default());
    }
}
