//! What Supervisor makes of its files, as JSON: for comparing two readings of them.

use serde_json::{Map, Value, json};

use super::{
    model::{
        Config, Group, GroupKind, Int, Log, LogTo, Process, Refusal, Restart, Server, ServerAt,
        Socket, SocketAddress, Supervisord,
    },
    signals,
};

/// The files as a JSON document, or why there is none to be had.
#[must_use]
pub fn canonical(read: &Result<Vec<Config>, Refusal>) -> Value {
    let configs = match read {
        Ok(configs) => configs,
        Err(refusal) => {
            return json!({ "accepted": false, "error_type": "usage", "error": refusal.text });
        }
    };
    let mut groups: Vec<&Group> = configs.iter().flat_map(|c| &c.groups).collect();
    groups.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    let every = |of: fn(&Config) -> &Vec<String>| {
        configs.iter().flat_map(of).map(|t| json!(t)).collect::<Vec<_>>()
    };
    json!({
        "accepted": true,
        "groups": groups.into_iter().map(group).collect::<Vec<_>>(),
        "supervisord": configs.first().map(|c| supervisord(&c.supervisord)),
        "http_servers": configs.iter().flat_map(|c| &c.servers).map(server).collect::<Vec<_>>(),
        "warnings": every(|c| &c.warnings),
        "included": every(|c| &c.included),
    })
}

fn int(n: Int) -> Value {
    i64::try_from(n).map_or_else(|_| json!(if n < 0 { i64::MIN } else { i64::MAX }), |n| json!(n))
}

fn ints(all: &[Int]) -> Vec<Value> {
    all.iter().map(|n| int(*n)).collect()
}

fn octal(mode: Int) -> String {
    let size = mode.unsigned_abs();
    if mode < 0 { format!("-{size:02o}") } else { format!("{size:03o}") }
}

fn owner(of: Option<&(String, Option<String>)>) -> Option<Value> {
    of.map(|(user, group)| json!([user, group.as_ref().map_or_else(|| json!(-1), |g| json!(g))]))
}

fn group(group: &Group) -> Value {
    let mut out = Map::new();
    let (kind, more) = match &group.kind {
        GroupKind::Programs => ("program", Vec::new()),
        GroupKind::Listeners { events, buffer_size, result_handler } => (
            "eventlistener",
            vec![
                ("events", json!(events)),
                ("buffer_size", int(*buffer_size)),
                ("result_handler", json!(result_handler)),
            ],
        ),
        GroupKind::FastCgi(s) => ("fcgi-program", vec![("socket", socket(s))]),
    };
    out.insert("name".to_owned(), json!(group.name));
    out.insert("kind".to_owned(), json!(kind));
    out.insert("priority".to_owned(), int(group.priority));
    out.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
    out.insert("processes".to_owned(), group.processes.iter().map(process).collect());
    Value::Object(out)
}

fn socket(socket: &Socket) -> Value {
    let backlog = socket.backlog.map(int);
    match &socket.address {
        SocketAddress::Tcp { host, port } => {
            json!({ "url": format!("tcp://{host}:{port}"), "backlog": backlog })
        }
        SocketAddress::Unix { path, mode, owner: of } => json!({
            "url": format!("unix://{path}"),
            "backlog": backlog,
            "mode": octal(*mode),
            "owner": owner(of.as_ref()),
        }),
    }
}

fn process(p: &Process) -> Value {
    let (argv, argv_error) = match &p.argv {
        Ok(words) if words.is_empty() => (Some(words), Some("command is empty")),
        Ok(words) => (Some(words), None),
        Err(why) => (None, Some(why.as_str())),
    };
    let mut out = json!({
        "name": p.name,
        "command": p.command,
        "argv": argv,
        "directory": p.directory,
        "umask": p.umask.map(octal),
        "priority": int(p.priority),
        "autostart": p.autostart,
        "autorestart": match p.autorestart {
            Restart::Always => "true",
            Restart::Unexpected => "unexpected",
            Restart::Never => "false",
        },
        "startsecs": int(p.startsecs),
        "startretries": int(p.startretries),
        "exitcodes": ints(&p.exitcodes),
        "stopsignal": signals::name(p.stopsignal),
        "stopwaitsecs": int(p.stopwaitsecs),
        "stopasgroup": p.stopasgroup,
        "killasgroup": p.killasgroup,
        "user": p.user,
        "redirect_stderr": p.redirect_stderr,
        "environment": p.environment,
        "serverurl": p.serverurl,
    });
    if let (Value::Object(out), Some(why)) = (&mut out, argv_error) {
        out.insert("argv_error".to_owned(), json!(why));
    }
    if let Value::Object(out) = &mut out {
        log(out, "stdout", &p.stdout);
        log(out, "stderr", &p.stderr);
    }
    out
}

fn log(out: &mut Map<String, Value>, stream: &str, log: &Log) {
    let file = match &log.file {
        LogTo::Auto => Some("AUTO"),
        LogTo::None => None,
        LogTo::File(path) => Some(path.as_str()),
    };
    for (key, value) in [
        ("logfile", json!(file)),
        ("logfile_maxbytes", int(log.maxbytes)),
        ("logfile_backups", int(log.backups)),
        ("capture_maxbytes", int(log.capture_maxbytes)),
        ("events_enabled", json!(log.events_enabled)),
        ("syslog", json!(log.syslog)),
    ] {
        out.insert(format!("{stream}_{key}"), value);
    }
}

fn supervisord(s: &Supervisord) -> Value {
    json!({
        "childlogdir": s.childlogdir,
        "directory": s.directory,
        "environment": s.environment,
        "identifier": s.identifier,
        "logfile": s.logfile,
        "logfile_backups": int(s.logfile_backups),
        "logfile_maxbytes": int(s.logfile_maxbytes),
        "loglevel": s.loglevel,
        "minfds": int(s.minfds),
        "minprocs": int(s.minprocs),
        "nocleanup": s.nocleanup,
        "nodaemon": s.nodaemon,
        "pidfile": s.pidfile,
        "silent": s.silent,
        "strip_ansi": s.strip_ansi,
        "umask": octal(s.umask),
        "user": s.user,
    })
}

fn server(server: &Server) -> Value {
    match &server.at {
        ServerAt::Inet { host, port } => {
            json!({ "auth": server.auth, "inet": format!("{host}:{port}") })
        }
        ServerAt::Unix { file, mode, owner: of } => json!({
            "auth": server.auth,
            "unix": file,
            "chmod": octal(*mode),
            "chown": owner(of.as_ref()).unwrap_or_else(|| json!([-1, -1])),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::octal;

    #[test]
    fn a_mode_is_printed_as_by_python() {
        for (mode, want) in [(0o22, "022"), (-1, "-01"), (-0o100, "-100"), (0o1777, "1777")] {
            assert_eq!(octal(mode), want);
        }
    }
}
