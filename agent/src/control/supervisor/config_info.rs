//! `getAllConfigInfo`: what the configuration has, as of its last reading, in force or not.

use std::collections::BTreeSet;

use palisade_types::ByteSize;

use super::value::Value;
use crate::supervise::{Info, LogFile, LogPath, ProcessSpec};

/// Every process of the configuration. `url` is where this is served, `uid` looks a user up.
pub(super) fn all(
    read: &[ProcessSpec],
    active: &[Info],
    url: &str,
    uid: fn(&str) -> Option<u32>,
) -> Value {
    let in_use: BTreeSet<_> = active.iter().map(|i| &i.spec.group).collect();
    let mut order: Vec<_> = read.iter().collect();
    order.sort_by_key(|s| (&s.label, s.group_priority, &s.group));
    let each = order.into_iter().map(|spec| {
        let active =
            active.iter().find(|i| i.spec.label == spec.label && i.spec.group == spec.group);
        process(spec, in_use.contains(&spec.group), active, url, uid)
    });
    Value::Array(each.collect())
}

fn process(
    spec: &ProcessSpec,
    in_use: bool,
    active: Option<&Info>,
    url: &str,
    uid: fn(&str) -> Option<u32>,
) -> Value {
    let path = |log: &LogFile, of: Option<&std::path::PathBuf>| match (&log.path, of) {
        (LogPath::None, _) => none(),
        (LogPath::At(path), _) => Value::text(path.to_string_lossy()),
        (LogPath::Auto, Some(path)) => Value::text(path.to_string_lossy()),
        (LogPath::Auto, None) => Value::text("auto"),
    };
    let stdout = path(&spec.stdout, active.and_then(|i| i.stdout_log.as_ref()));
    let stderr = match spec.redirect_stderr {
        true => none(),
        false => path(&spec.stderr, active.and_then(|i| i.stderr_log.as_ref())),
    };
    let user = spec.user.as_deref().and_then(uid);
    let command = shlex::try_join(spec.argv.iter().map(String::as_str));
    // Nobody named it where it is our own.
    let url_named = spec.serverurl.as_deref().filter(|u| *u != url);
    let codes = spec.exitcodes.iter().map(|c| Value::Int((*c).into())).collect();
    let directory = spec.directory.as_ref().map(|d| Value::text(d.to_string_lossy()));
    Value::members([
        ("autostart", Value::Bool(spec.autostart)),
        ("directory", directory.unwrap_or_else(none)),
        ("uid", user.map_or_else(none, |u| Value::Int(u.into()))),
        // A word with a NUL cannot be quoted, and no command has one.
        ("command", Value::text(command.unwrap_or_else(|_| spec.argv.join(" ")))),
        ("exitcodes", Value::Array(codes)),
        ("group", Value::text(spec.group.as_str())),
        ("group_prio", Value::Int(spec.group_priority.into())),
        ("inuse", Value::Bool(in_use)),
        ("killasgroup", Value::Bool(spec.killasgroup)),
        ("name", Value::text(spec.label.as_str())),
        ("process_prio", Value::Int(spec.priority.into())),
        ("redirect_stderr", Value::Bool(spec.redirect_stderr)),
        ("startretries", Value::Int(spec.startretries.into())),
        ("startsecs", seconds(spec.startsecs)),
        ("stdout_capture_maxbytes", bytes(spec.stdout.capture_maxbytes)),
        ("stdout_events_enabled", Value::Bool(spec.stdout.events_enabled)),
        ("stdout_logfile", stdout),
        ("stdout_logfile_backups", Value::Int(spec.stdout.backups.into())),
        ("stdout_logfile_maxbytes", bytes(spec.stdout.maxbytes)),
        ("stdout_syslog", Value::Bool(spec.stdout.syslog)),
        ("stopsignal", Value::Int((spec.stopsignal as i32).into())),
        ("stopwaitsecs", seconds(spec.stopwaitsecs)),
        ("stderr_capture_maxbytes", bytes(spec.stderr.capture_maxbytes)),
        ("stderr_events_enabled", Value::Bool(spec.stderr.events_enabled)),
        ("stderr_logfile", stderr),
        ("stderr_logfile_backups", Value::Int(spec.stderr.backups.into())),
        ("stderr_logfile_maxbytes", bytes(spec.stderr.maxbytes)),
        ("stderr_syslog", Value::Bool(spec.stderr.syslog)),
        ("serverurl", url_named.map_or_else(none, Value::text)),
    ])
}

/// What Supervisor sends where there is nothing.
fn none() -> Value {
    Value::text("none")
}

fn seconds(time: std::time::Duration) -> Value {
    Value::Int(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn bytes(size: ByteSize) -> Value {
    Value::Int(i64::try_from(size.bytes()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::supervisor::testutil::info, supervise::testutil::spec};

    fn nobody(name: &str) -> Option<u32> {
        (name == "nobody").then_some(65_534)
    }

    #[test]
    fn what_is_configured_is_told_whether_it_is_in_force_or_not() {
        let new = ProcessSpec {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "echo hi".to_owned()],
            user: Some("nobody".to_owned()),
            stdout: LogFile::default(),
            redirect_stderr: true,
            serverurl: Some("http://x".to_owned()),
            ..spec("web")
        };
        let mut there = info("cache", "cache");
        there.stdout_log = Some("/logs/cache.stdout.log".into());
        let serverurl = Some("unix:///s".to_owned());
        let cache = ProcessSpec { stdout: LogFile::default(), serverurl, ..spec("cache") };
        let Value::Array(all) = all(&[new, cache], &[there], "unix:///s", nobody) else { panic!() };
        let of = |i: usize, name| all[i].member(name).cloned();
        assert_eq!(of(0, "name"), Some(Value::text("cache")));
        assert_eq!(
            (of(0, "inuse"), of(1, "inuse")),
            (Some(Value::Bool(true)), Some(Value::Bool(false)))
        );
        assert_eq!(of(0, "stdout_logfile"), Some(Value::text("/logs/cache.stdout.log")));
        assert_eq!(of(1, "stdout_logfile"), Some(Value::text("auto")));
        assert_eq!(of(1, "stderr_logfile"), Some(Value::text("none")));
        assert_eq!(of(1, "command"), Some(Value::text("/bin/sh -c 'echo hi'")));
        assert_eq!((of(0, "uid"), of(1, "uid")), (Some(none()), Some(Value::Int(65_534))));
        assert_eq!(
            (of(0, "stopsignal"), of(0, "startsecs")),
            (Some(Value::Int(15)), Some(Value::Int(1)))
        );
        assert_eq!(
            (of(0, "serverurl"), of(1, "serverurl")),
            (Some(none()), Some(Value::text("http://x")))
        );
        let Value::Struct(members) = &all[0] else { panic!() };
        assert_eq!(members.len(), 29);
    }
}
