//! What tests print: counted, and made short.

/// How tests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    pub(super) fn line(self) -> String {
        let Self { passed, failed, skipped } = self;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

/// Follows the output of a test binary with `--show-output`: counts, and leaves out what passed tests
/// printed but for the reasons of those that skipped themselves.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) count: Count,
    of_passed: bool,
    /// Tests of the present binary that skipped themselves.
    skipping: u32,
    skipped_already: bool,
}

impl Reader {
    /// What to show of a line.
    pub(super) fn line(&mut self, line: &str) -> Option<String> {
        if line == "successes:" {
            self.of_passed = true;
            return None;
        }
        if line == "failures:" || line.starts_with("test result:") {
            self.of_passed = false;
        }
        if let Some(numbers) = line.strip_prefix("test result:") {
            let skipped = std::mem::take(&mut self.skipping);
            self.count.add(result(numbers, skipped));
        }
        if !self.of_passed {
            return Some(line.to_owned());
        }
        if line.starts_with("---- ") {
            self.skipped_already = false;
        }
        let reason = line.trim_start().to_lowercase();
        if !self.skipped_already && reason.starts_with("skip") {
            self.skipped_already = true;
            self.skipping += 1;
            return Some(line.to_owned());
        }
        None
    }
}

/// ` ok. 20 passed; 0 failed; 1 ignored; ...`, of which `skipped` passed only because they did
/// nothing.
fn result(numbers: &str, skipped: u32) -> Count {
    let of = |word: &str| -> u32 {
        numbers
            .split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or_default()
    };
    Count {
        passed: of("passed").saturating_sub(skipped),
        failed: of("failed"),
        skipped: skipped + of("ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Count, Vec<String>) {
        let mut reader = Reader::default();
        let shown = text.lines().filter_map(|l| reader.line(l)).collect();
        (reader.count, shown)
    }

    #[test]
    fn real_tests_are_counted_over_all_binaries() {
        let (count, _) = read(
            "running 3 tests\ntest a ... ok\n\
             test result: ok. 20 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.16s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s\n",
        );
        assert_eq!(count, Count { passed: 24, failed: 2, skipped: 1 });
        assert_eq!(count.line(), "24 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skipped_itself_has_not_passed() {
        let (count, shown) = read(
            "test x ... ok\n\nsuccesses:\n\n---- x stdout ----\nnoise\nskipped: no nft here\n\
             skipped: again\n---- y stdout ----\nskipped: no data\n\n\nsuccesses:\n    x\n    y\n\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(count, Count { passed: 3, failed: 0, skipped: 2 });
        assert!(shown.contains(&"skipped: no nft here".to_owned()));
        assert!(!shown.contains(&"noise".to_owned()));
    }

    #[test]
    fn what_a_failed_test_said_is_shown() {
        let (_, shown) = read("successes:\nnoise\nfailures:\n\n---- z stdout ----\nwhy\n");
        assert!(shown.contains(&"why".to_owned()) && !shown.contains(&"noise".to_owned()));
    }
}
