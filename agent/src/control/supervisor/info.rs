//! `getProcessInfo`: one process with Supervisor's fields, and its description in Supervisor's words.

use jiff::tz::TimeZone;
use palisade_types::ProcessState;

use super::value::Value;
use crate::{clock::Timestamp, supervise::Info};

/// All fields of a process, at `now`. Descriptions are in the host's own time `zone`.
pub(super) fn process(info: &Info, now: Timestamp, zone: &TimeZone) -> Value {
    let path = |p: &Option<std::path::PathBuf>| {
        Value::text(p.as_ref().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default())
    };
    Value::members([
        ("name", Value::text(info.spec.label.as_str())),
        ("group", Value::text(info.spec.group.as_str())),
        ("start", Value::Int(seconds(info.last.started))),
        ("stop", Value::Int(seconds(info.last.stopped))),
        ("now", Value::Int(capped(now.as_secs()))),
        ("state", Value::Int(info.state.code().into())),
        ("statename", Value::text(info.state.to_string())),
        ("spawnerr", Value::text(info.last.spawnerr.clone().unwrap_or_default())),
        ("exitstatus", Value::Int(info.last.exitstatus.unwrap_or(0).into())),
        ("logfile", path(&info.stdout_log)),
        ("stdout_logfile", path(&info.stdout_log)),
        ("stderr_logfile", path(&info.stderr_log)),
        ("pid", Value::Int(info.pid.into())),
        ("description", Value::text(description(info, now, zone))),
    ])
}

/// A time as XML-RPC can carry it in an `int`; 0 for never.
fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |t| capped(t.as_secs()))
}

fn capped(seconds: i64) -> i64 {
    seconds.clamp(i32::MIN.into(), i32::MAX.into())
}

fn description(info: &Info, now: Timestamp, zone: &TimeZone) -> String {
    match info.state {
        ProcessState::Running => {
            let since = seconds(info.last.started);
            // A clock that was set back makes nobody's age negative.
            let age = now.as_secs().saturating_sub(since).max(0);
            format!("pid {}, uptime {}", info.pid, uptime(age))
        }
        ProcessState::Fatal | ProcessState::Backoff => match &info.last.spawnerr {
            Some(why) => why.clone(),
            None => format!("unknown error (try \"tail {}\")", info.spec.label),
        },
        ProcessState::Stopped | ProcessState::Exited if info.last.started.is_none() => {
            "Not started".to_owned()
        }
        ProcessState::Stopped | ProcessState::Exited => {
            let stop = jiff::Timestamp::from_second(seconds(info.last.stopped));
            let local = stop.unwrap_or_default().to_zoned(zone.clone());
            local.strftime("%b %d %I:%M %p").to_string()
        }
        ProcessState::Starting | ProcessState::Stopping | ProcessState::Unknown => String::new(),
    }
}

/// A time as Python prints it: `0:00:05`, `1 day, 2:03:04`.
fn uptime(seconds: i64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        n => format!("{n} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::supervisor::testutil::info;

    const NOW: Timestamp = Timestamp::from_secs(1_795_677_879);

    fn told(state: ProcessState, change: impl FnOnce(&mut Info)) -> String {
        let mut info = info("app", "web");
        info.state = state;
        change(&mut info);
        description(&info, NOW, &TimeZone::UTC)
    }

    #[test]
    fn every_state_is_described_as_by_supervisor() {
        let at = |s| Some(Timestamp::from_secs(s));
        let running = told(ProcessState::Running, |i| {
            (i.pid, i.last.started) = (7, at(NOW.as_secs() - 93_784));
        });
        assert_eq!(running, "pid 7, uptime 1 day, 2:03:04");
        assert_eq!(told(ProcessState::Stopped, |_| {}), "Not started");
        let exited = told(ProcessState::Exited, |i| {
            (i.last.started, i.last.stopped) = (at(1), at(1_795_677_879));
        });
        assert_eq!(exited, "Nov 26 07:24 AM");
        let fatal = told(ProcessState::Fatal, |i| i.last.spawnerr = Some("why".to_owned()));
        assert_eq!(fatal, "why");
        assert_eq!(told(ProcessState::Backoff, |_| {}), "unknown error (try \"tail web\")");
        assert_eq!(told(ProcessState::Stopping, |_| {}), "");
    }

    #[test]
    fn ages_are_printed_as_python_does() {
        let shown: Vec<_> = [0, 59, 3_600, 86_399, 86_400, 200_000].map(uptime).into();
        let wanted =
            ["0:00:00", "0:00:59", "1:00:00", "23:59:59", "1 day, 0:00:00", "2 days, 7:33:20"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn the_fields_are_supervisors() {
        let mut info = info("app", "web");
        info.stdout_log = Some("/l".into());
        let Value::Struct(members) = process(&info, NOW, &TimeZone::UTC) else { panic!() };
        let mut names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "description",
                "exitstatus",
                "group",
                "logfile",
                "name",
                "now",
                "pid",
                "spawnerr",
                "start",
                "state",
                "statename",
                "stderr_logfile",
                "stdout_logfile",
                "stop"
            ]
        );
        let value = Value::Struct(members);
        assert_eq!(value.member("logfile"), value.member("stdout_logfile"));
        assert_eq!(value.member("stderr_logfile"), Some(&Value::text("")));
    }

    #[test]
    fn a_time_that_no_int_can_carry_is_capped() {
        assert_eq!(capped(5_000_000_000), i64::from(i32::MAX));
    }
}
