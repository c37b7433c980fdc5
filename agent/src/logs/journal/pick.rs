//! Which stream an entry belongs to, if any, and what its text is.
//!
//! The stream is the unit's, named without `.service`. Login sessions share one, `sessions`, since each is
//! a unit of its own; so does what systemd says of mounts, scopes and the like, in `systemd`, unless such a
//! unit was asked for. Programs of the agent are told apart by their control groups, and named as a unit of
//! that name would be. What the kernel says is `kernel`; what is of no unit is `other`. In streams that many
//! programs share the text begins with the name of the program, as in syslog.

use std::borrow::Cow;

use super::{JOURNAL_DROPPED, JournalEntry};

/// The agent's unit as it is installed.
const AGENT: &str = "palisade.service";
/// How the control groups of programs, and of commands around their starts, begin below it.
const PROGRAMS: [&str; 2] = ["p.", "h."];
/// Units of these kinds come by the thousand, one for each container and the like, and say nothing themselves.
const PASSING: [&str; 6] = [".automount", ".device", ".mount", ".scope", ".slice", ".swap"];
/// Longest name of a stream's process; a longer unit is cut.
const MAX_NAME: usize = 200;

/// An entry that is shipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    /// What `{process}` is.
    pub process: String,
    pub text: Vec<u8>,
    /// Entries that journald says it dropped.
    pub dropped: u64,
}

/// What to ship of an entry: nothing of what is the agent's own, or of units that were not asked for. What
/// programs of the agent write to the journal themselves goes by the agent's unit.
pub(crate) fn pick(e: &JournalEntry, units: &[String], own: Option<&str>) -> Option<Picked> {
    let message = e.fields.get("MESSAGE").cloned().unwrap_or_default();
    let mut dropped = 0;
    let about = e.text("UNIT").filter(|_| e.text("_PID") == Some("1"));
    let unit = if e.text("MESSAGE_ID") == Some(JOURNAL_DROPPED) {
        dropped = e.text("N_DROPPED").and_then(|n| n.parse().ok()).unwrap_or(0);
        let from = std::str::from_utf8(&message).ok().and_then(|m| m.rsplit_once(" from "));
        from.map(|(_, unit)| unit.to_owned())
    } else if let Some(about) = about {
        Some(about.to_owned())
    } else {
        e.text("_SYSTEMD_UNIT").map(str::to_owned)
    };
    let whose = match unit.as_deref() {
        Some(u) if Some(u) == own || u == AGENT => match program(e, u) {
            // It may be what a program said that was dropped; nobody knows of which.
            None if dropped > 0 => None,
            None => return None,
            program => program,
        },
        other => other,
    };
    if !units.is_empty() && !unit.as_ref().is_some_and(|u| units.contains(u)) {
        return None;
    }
    let (process, shared) = match whose {
        Some(u) if u.starts_with("session-") && u.ends_with(".scope") => ("sessions".into(), true),
        Some(u) if about.is_some() && units.is_empty() && is_passing(u) => ("systemd".into(), true),
        Some(u) => (name(u), false),
        None if e.text("_TRANSPORT") == Some("kernel") => ("kernel".into(), false),
        None => ("other".into(), true),
    };
    let text = if shared && !message.is_empty() { with_name(e, &message) } else { message };
    Some(Picked { process: process.into_owned(), text, dropped })
}

/// The program that wrote an entry of the agent's unit; none if that was the agent. What the agent passes on
/// for a program has the agent's group.
fn program<'a>(e: &'a JournalEntry, unit: &str) -> Option<&'a str> {
    e.text("_SYSTEMD_UNIT").filter(|u| *u == unit)?;
    let mut dirs = e.text("_SYSTEMD_CGROUP")?.split('/');
    dirs.find(|dir| *dir == unit)?;
    let dir = dirs.next()?;
    PROGRAMS.iter().find_map(|p| dir.strip_prefix(p)).filter(|name| !name.is_empty())
}

fn is_passing(unit: &str) -> bool {
    PASSING.iter().any(|kind| unit.ends_with(kind))
}

/// A unit's name for a stream.
fn name(unit: &str) -> Cow<'_, str> {
    let short = unit.strip_suffix(".service").filter(|s| !s.is_empty()).unwrap_or(unit);
    // A slash would be a level of names where there is none.
    let cut: String = short.chars().take(MAX_NAME).collect();
    if cut.len() == short.len() { Cow::Borrowed(short) } else { Cow::Owned(cut) }
}

fn with_name(e: &JournalEntry, message: &[u8]) -> Vec<u8> {
    let Some(who) = e.text("SYSLOG_IDENTIFIER").filter(|i| !i.is_empty()) else {
        return message.to_vec();
    };
    let head = match e.text("_PID") {
        Some(pid) => format!("{who}[{pid}]: "),
        None => format!("{who}: "),
    };
    [head.as_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&'static str, &str)]) -> JournalEntry {
        let fields = fields.iter().map(|(k, v)| (*k, v.as_bytes().to_vec())).collect();
        JournalEntry { fields, ..JournalEntry::default() }
    }

    fn stream(fields: &[(&'static str, &str)], units: &[&str]) -> Option<(String, String)> {
        let units: Vec<String> = units.iter().map(|u| (*u).to_owned()).collect();
        let picked = pick(&entry(fields), &units, Some("agent-test.service"))?;
        Some((picked.process, String::from_utf8(picked.text).unwrap()))
    }

    #[test]
    fn each_unit_is_a_stream_and_what_is_shared_says_who_spoke() {
        let some = |p: &str, t: &str| Some((p.to_owned(), t.to_owned()));
        let hi = ("MESSAGE", "hi");
        assert_eq!(stream(&[hi, ("_SYSTEMD_UNIT", "ssh.service")], &[]), some("ssh", "hi"));
        assert_eq!(stream(&[hi, ("_SYSTEMD_UNIT", "a.timer")], &[]), some("a.timer", "hi"));
        let sudo = [hi, ("_SYSTEMD_UNIT", "session-4.scope"), ("SYSLOG_IDENTIFIER", "sudo")];
        assert_eq!(stream(&sudo, &[]), some("sessions", "sudo: hi"));
        assert_eq!(stream(&[hi, ("_TRANSPORT", "kernel")], &[]), some("kernel", "hi"));
        let cron = [hi, ("SYSLOG_IDENTIFIER", "cron"), ("_PID", "7")];
        assert_eq!(stream(&cron, &[]), some("other", "cron[7]: hi"));
        // What systemd says of a unit is the unit's; what anybody else says of it is not.
        let about = [hi, ("UNIT", "ssh.service"), ("_PID", "1"), ("_SYSTEMD_UNIT", "init.scope")];
        assert_eq!(stream(&about, &["ssh.service"]), some("ssh", "hi"));
        let said = |unit| [hi, ("UNIT", unit), ("_PID", "1"), ("SYSLOG_IDENTIFIER", "systemd")];
        for unit in ["run-docker-a.mount", "docker-1f.scope", "dev-sdb.device", "user.slice"] {
            assert_eq!(stream(&said(unit), &[]), some("systemd", "systemd[1]: hi"));
            assert_eq!(stream(&said(unit), &[unit]), some(unit, "hi"));
        }
        assert_eq!(stream(&said("session-4.scope"), &[]), some("sessions", "systemd[1]: hi"));
        let inside = [hi, ("_SYSTEMD_UNIT", "docker-1f.scope"), ("_PID", "7")];
        assert_eq!(stream(&inside, &[]), some("docker-1f.scope", "hi"));
        let forged = [hi, ("UNIT", "ssh.service"), ("_PID", "9"), ("_SYSTEMD_UNIT", "x.service")];
        assert_eq!(stream(&forged, &["ssh.service"]), None);
        assert_eq!(stream(&[hi, ("_SYSTEMD_UNIT", "x.service")], &["ssh.service"]), None);
    }

    #[test]
    fn the_agents_own_entries_are_never_shipped() {
        for own in ["palisade.service", "agent-test.service"] {
            assert_eq!(stream(&[("MESSAGE", "m"), ("_SYSTEMD_UNIT", own)], &[]), None);
            assert_eq!(stream(&[("MESSAGE", "m"), ("UNIT", own), ("_PID", "1")], &[own]), None);
        }
    }

    #[test]
    fn what_programs_write_to_the_journal_themselves_is_theirs() {
        let of = |own: &'static str, cgroup: &str, units: &[&str]| {
            let e = [("MESSAGE", "m"), ("_SYSTEMD_UNIT", own), ("_SYSTEMD_CGROUP", cgroup)];
            let units: Vec<String> = units.iter().map(|u| (*u).to_owned()).collect();
            let fields = e.iter().map(|(k, v)| (*k, v.as_bytes().to_vec())).collect();
            let e = JournalEntry { fields, ..JournalEntry::default() };
            pick(&e, &units, Some("agent-test.service")).map(|p| p.process)
        };
        let web = Some("web".to_owned());
        for own in ["palisade.service", "agent-test.service"] {
            let of = |below: &str| of(own, &format!("/system.slice/{own}{below}"), &[]);
            assert_eq!(of("/p.web"), web);
            assert_eq!(of("/p.web/deeper"), web);
            assert_eq!(of("/p.web/palisade.service/p.other"), web);
            // A command around its start.
            assert_eq!(of("/h.web"), web);
            for agent in ["", "/", "/agent", "/agent/p.web", "/p.", "/x.web"] {
                assert_eq!(of(agent), None, "{agent}");
            }
        }
        // Named units leave it out, unless the agent's is among them.
        let own = "palisade.service";
        let cgroup = "/system.slice/palisade.service/p.web";
        assert_eq!(of(own, cgroup, &["ssh.service"]), None);
        assert_eq!(of(own, cgroup, &["ssh.service", own]), web);
        assert_eq!(of(own, "/system.slice/palisade.service/agent", &[own]), None);
        // What is said of the agent's unit is the agent's.
        let told = [
            ("MESSAGE", "m"),
            ("UNIT", own),
            ("_PID", "1"),
            ("_SYSTEMD_UNIT", "init.scope"),
            ("_SYSTEMD_CGROUP", cgroup),
        ];
        assert_eq!(stream(&told, &[]), None);
    }

    #[test]
    fn what_journald_dropped_is_counted_for_its_unit() {
        let fields = [
            ("MESSAGE", "Suppressed 42 messages from ssh.service"),
            ("MESSAGE_ID", JOURNAL_DROPPED),
            ("N_DROPPED", "42"),
            ("_SYSTEMD_UNIT", "systemd-journald.service"),
        ];
        let units = ["ssh.service".to_owned()];
        let picked = pick(&entry(&fields), &units, None).unwrap();
        assert_eq!((picked.process.as_str(), picked.dropped), ("ssh", 42));
        assert_eq!(pick(&entry(&fields), &["x.service".to_owned()], None), None);
        // What it dropped of the agent's unit may be what a program said.
        let fields = [
            ("MESSAGE", "Suppressed 7 messages from palisade.service"),
            ("MESSAGE_ID", JOURNAL_DROPPED),
            ("N_DROPPED", "7"),
            ("_SYSTEMD_UNIT", "systemd-journald.service"),
        ];
        let picked = pick(&entry(&fields), &[], None).unwrap();
        assert_eq!((picked.process.as_str(), picked.dropped), ("other", 7));
    }
}
