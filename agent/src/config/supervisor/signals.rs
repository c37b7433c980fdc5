//! Signals as Supervisor takes and names them.

use super::{
    model::Int,
    python::{self, repr},
};

/// What stops a program unless it says otherwise.
pub(super) const TERM: Int = 15;

/// Every name that Python's `signal` has on Linux. The last ones are no signals, and are taken all the same.
const NAMES: [(&str, Int); 41] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
    ("SIGRTMIN", 34),
    ("SIGRTMAX", 64),
    ("SIGCLD", 17),
    ("SIGIOT", 6),
    ("SIGPOLL", 29),
    ("SIG_DFL", 0),
    ("SIG_BLOCK", 0),
    ("SIG_IGN", 1),
    ("SIG_UNBLOCK", 1),
    ("SIG_SETMASK", 2),
];

/// The number of a signal given by name or number.
///
/// # Errors
/// Supervisor's words.
pub(super) fn number(text: &str) -> Result<Int, String> {
    if let Ok(number) = python::int(text) {
        return if NAMES.iter().any(|(_, n)| *n == number) {
            Ok(number)
        } else {
            Err(format!("value {} is not a valid signal number", repr(text)))
        };
    }
    let upper = python::strip(text).to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    NAMES
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, number)| *number)
        .ok_or_else(|| format!("value {} is not a valid signal name", repr(text)))
}

/// The usual name of a signal.
pub(super) fn name(number: Int) -> String {
    let found = NAMES.iter().find(|(name, n)| *n == number && !name.starts_with("SIG_"));
    found.map_or_else(|| format!("signal {number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_in_any_case_or_a_number() {
        for (text, want) in [
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            (" Usr1 ", Some(10)),
            ("9", Some(9)),
            ("CLD", Some(17)),
            ("0", Some(0)),
            ("99", None),
            ("32", None),
            ("TERM,KILL", None),
            ("", None),
        ] {
            assert_eq!(number(text).ok(), want, "{text:?}");
        }
        assert_eq!(
            (name(15), name(6), name(29)),
            ("SIGTERM".into(), "SIGABRT".into(), "SIGIO".into())
        );
    }
}
