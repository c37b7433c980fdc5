//! One command on many hosts: who has ended how, and what that means for the exit code. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{access::is_end, cloud::ssm::Invocation};

/// Characters of standard output that SSM keeps for one host; what is longer was cut.
const OUTPUT_KEPT: usize = 24_000;
/// The same of standard error.
const ERRORS_KEPT: usize = 8_000;

/// How a command went on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HostResult {
    pub(crate) instance: String,
    pub(crate) status: String,
    pub(crate) exit_code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// SSM kept only the beginning of one of them.
    pub(crate) truncated: bool,
}

impl HostResult {
    pub(crate) fn is_good(&self) -> bool {
        self.status == "Success"
    }

    /// Of a host that gave none, for this reason in a word.
    pub(crate) fn none(instance: &str, status: &str) -> Self {
        let mut result = Self::of(instance, None);
        status.clone_into(&mut result.status);
        result
    }

    pub(crate) fn of(instance: &str, ended: Option<Invocation>) -> Self {
        let ended = ended.unwrap_or_default();
        let cut = |text: &str, kept: usize| text.chars().count() >= kept;
        let (stdout, stderr) = (ended.standard_output_content, ended.standard_error_content);
        let status = [ended.status_details, ended.status];
        let status =
            status.into_iter().find(|s| !s.is_empty()).unwrap_or_else(|| "NoAnswer".into());
        Self {
            instance: instance.to_owned(),
            truncated: cut(&stdout, OUTPUT_KEPT) || cut(&stderr, ERRORS_KEPT),
            status,
            exit_code: ended.response_code,
            stdout,
            stderr,
        }
    }
}

/// Where a command stands on each of its hosts. A host that has ended stays so, whatever a late
/// answer says.
#[derive(Debug)]
pub(crate) struct Board {
    states: BTreeMap<String, String>,
}

impl Board {
    pub(crate) fn new(instances: &[String]) -> Self {
        Self { states: instances.iter().map(|i| (i.clone(), "Pending".to_owned())).collect() }
    }

    /// Takes news in, and returns who has ended with it.
    pub(crate) fn update(&mut self, news: &[Invocation]) -> Vec<String> {
        let mut ended = Vec::new();
        for one in news {
            let Some(state) = self.states.get_mut(&one.instance_id) else { continue };
            if is_end(state) {
                continue;
            }
            state.clone_from(&one.status);
            if is_end(state) {
                ended.push(one.instance_id.clone());
            }
        }
        ended
    }

    pub(crate) fn is_over(&self) -> bool {
        self.states.values().all(|s| is_end(s))
    }

    /// Those that have not ended.
    pub(crate) fn open(&self) -> Vec<String> {
        self.states.iter().filter(|(_, s)| !is_end(s)).map(|(i, _)| i.clone()).collect()
    }

    /// `12/200 done, 3 failed, 10 running`.
    pub(crate) fn line(&self) -> String {
        let count = |of: fn(&str) -> bool| self.states.values().filter(|s| of(s)).count();
        let (done, good) = (count(is_end), count(|s| s == "Success"));
        let running = count(|s| s == "InProgress");
        format!("{done}/{} done, {} failed, {running} running", self.states.len(), done - good)
    }
}

/// The exit code for so many failures among so many hosts, with as many allowed as `--max-errors`
/// says. Failures that are allowed are still told.
pub(crate) fn exit_code(failed: usize, total: usize, max_errors: &str) -> u8 {
    u8::from(failed > allowed(total, max_errors))
}

fn allowed(total: usize, max_errors: &str) -> usize {
    match max_errors.strip_suffix('%') {
        Some(percent) => percent.parse::<usize>().map_or(0, |p| total * p.min(100) / 100),
        None => max_errors.parse().unwrap_or(0),
    }
}

/// Whether SSM takes it as a number of hosts: `10` or `25%`.
pub(crate) fn is_amount(text: &str, least: u32) -> bool {
    let (digits, most) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100),
        None => (text, 9_999_999),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain && digits.parse::<u32>().is_ok_and(|n| (least..=most).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(instance: &str, status: &str) -> Invocation {
        Invocation { instance_id: instance.into(), status: status.into(), ..Invocation::default() }
    }

    #[test]
    fn an_end_stays_an_end_and_is_told_once() {
        let mut board = Board::new(&["i-1".into(), "i-2".into()]);
        assert!(board.update(&[news("i-1", "InProgress"), news("i-9", "Failed")]).is_empty());
        assert_eq!(board.line(), "0/2 done, 0 failed, 1 running");
        assert_eq!(board.update(&[news("i-1", "Failed")]), ["i-1"]);
        // SSM's answers come out of order.
        assert!(board.update(&[news("i-1", "InProgress"), news("i-1", "Success")]).is_empty());
        assert_eq!(
            (board.line().as_str(), board.is_over()),
            ("1/2 done, 1 failed, 0 running", false)
        );
        assert_eq!(board.open(), ["i-2"]);
        board.update(&[news("i-2", "Success")]);
        assert!(board.is_over());
    }

    #[test]
    fn the_exit_code_follows_the_failures_that_were_allowed() {
        assert_eq!(exit_code(0, 10, "0"), 0);
        assert_eq!(exit_code(1, 10, "0"), 1);
        assert_eq!(exit_code(10, 200, "5%"), 0);
        assert_eq!(exit_code(11, 200, "5%"), 1);
        assert_eq!(exit_code(3, 10, "2"), 1);
    }

    #[test]
    fn amounts_are_what_ssm_takes() {
        for good in ["1", "10", "100%", "1%"] {
            assert!(is_amount(good, 1), "{good}");
        }
        for bad in ["", "0", "0%", "101%", "-1", "+1", "x", "%", "1.5"] {
            assert!(!is_amount(bad, 1), "{bad}");
        }
        assert!(is_amount("0", 0));
    }

    #[test]
    fn output_that_ssm_cut_is_marked() {
        let mut ended = news("i-1", "Success");
        ended.standard_output_content = "x".repeat(OUTPUT_KEPT - 1);
        assert!(!HostResult::of("i-1", Some(ended.clone())).truncated);
        ended.standard_output_content.push('x');
        assert!(HostResult::of("i-1", Some(ended)).truncated);
        assert_eq!(HostResult::of("i-1", None).status, "NoAnswer");
    }
}
