//! Sections as groups of processes: those of `[group:x]` first, then every program, listener and FastCGI
//! program that is in no group.

use super::{
    model::{Group, GroupKind, Int, Process, Socket, SocketAddress},
    paths::{absolute, expand_user},
    percent::Value,
    program::{name, owner, processes, user},
    python::{self, repr},
    reader::{Extra, Reader, Refused, list},
};

/// The events that Supervisor 4.3 has.
pub(in crate::config) const EVENTS: [&str; 27] = [
    "EVENT",
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_GROUP",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
    "PROCESS_LOG",
    "PROCESS_LOG_STDERR",
    "PROCESS_LOG_STDOUT",
    "PROCESS_STATE",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_FATAL",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_UNKNOWN",
    "REMOTE_COMMUNICATION",
    "SUPERVISOR_STATE_CHANGE",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK",
    "TICK_3600",
    "TICK_5",
    "TICK_60",
];

/// What handles a listener's results unless the file names something of its own.
pub(super) const RESULT_HANDLER: &str = "supervisor.dispatchers:default_handler";

/// Every group, in Supervisor's order.
pub(super) fn groups(reader: &mut Reader<'_>) -> Result<Vec<Group>, Refused> {
    let sections: Vec<String> = reader.ini.sections().iter().map(|s| s.name.clone()).collect();
    let of = |kind: &'static str| {
        let all = sections.iter();
        all.filter_map(move |s| s.strip_prefix(kind)?.strip_prefix(':').map(|name| (s, name)))
    };
    let mut grouped: Vec<String> = Vec::new();
    let mut groups = Vec::new();
    for (section, written) in of("group") {
        groups.push(group(reader, section, written, &mut grouped)?);
    }
    for (section, written) in of("program") {
        if !grouped.contains(section) {
            groups.push(homogeneous(reader, section, written)?);
        }
    }
    for (section, pool) in of("eventlistener") {
        groups.push(listeners(reader, section, pool)?);
    }
    for (section, written) in of("fcgi-program") {
        if !grouped.contains(section) {
            groups.push(fast_cgi(reader, section, written)?);
        }
    }
    groups.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    Ok(groups)
}

fn here(reader: &Reader<'_>) -> Extra {
    Extra::from([("here".to_owned(), Value::Text(reader.here.clone()))])
}

fn group(
    reader: &mut Reader<'_>,
    section: &str,
    written: &str,
    grouped: &mut Vec<String>,
) -> Result<Group, Refused> {
    let extra = here(reader);
    let refused = |text: String| Refused::new(text, section, "programs");
    let group = name(written).map_err(|text| Refused::new(text, section, ""))?;
    let programs = reader.get(section, "programs", &extra)?.unwrap_or_default();
    let priority = reader.int(section, "priority", &extra, 999)?;
    let mut all = Vec::new();
    // Supervisor's words name the member before, once there is one.
    let mut told = section.to_owned();
    for program in list(&programs) {
        let plain = format!("program:{program}");
        let fcgi = format!("fcgi-program:{program}");
        let exists = |s: &str| reader.ini.section(s).is_some();
        told = match (exists(&plain), exists(&fcgi)) {
            (false, false) => {
                let what = format!("[{told}] names unknown program or fcgi-program {program}");
                return Err(refused(what));
            }
            (true, true) => {
                return Err(refused(format!(
                    "[{told}] name {program} is ambiguous (exists as program and fcgi-program)"
                )));
            }
            (true, false) => plain,
            (false, true) => fcgi,
        };
        all.extend(processes(reader, &told, &group)?);
        grouped.push(told.clone());
    }
    Ok(made(group, section, GroupKind::Programs, priority, all))
}

fn made(
    name: String,
    section: &str,
    kind: GroupKind,
    priority: Int,
    processes: Vec<Process>,
) -> Group {
    Group { name, kind, priority, processes, section: section.to_owned() }
}

fn homogeneous(reader: &mut Reader<'_>, section: &str, written: &str) -> Result<Group, Refused> {
    let group = name(written).map_err(|text| Refused::new(text, section, ""))?;
    let priority = reader.int(section, "priority", &here(reader), 999)?;
    let all = processes(reader, section, &group)?;
    Ok(made(group, section, GroupKind::Programs, priority, all))
}

fn listeners(reader: &mut Reader<'_>, section: &str, pool: &str) -> Result<Group, Refused> {
    let extra = here(reader);
    let refused = |text: String, option: &str| Refused::new(text, section, option);
    let priority = reader.int(section, "priority", &extra, -1)?;
    let buffer_size = reader.int(section, "buffer_size", &extra, 10)?;
    if buffer_size < 1 {
        let text = format!("[{section}] section sets invalid buffer_size ({buffer_size})");
        return Err(refused(text, "buffer_size"));
    }
    let result_handler =
        reader.get(section, "result_handler", &extra)?.unwrap_or_else(|| RESULT_HANDLER.to_owned());
    let written = reader.get(section, "events", &extra)?.unwrap_or_default();
    let mut events: Vec<String> = list(&written).iter().map(|e| e.to_uppercase()).collect();
    events.sort();
    events.dedup();
    if events.is_empty() {
        return Err(refused(format!("[{section}] section requires an \"events\" line"), "events"));
    }
    if let Some(unknown) = events.iter().find(|e| !EVENTS.contains(&e.as_str())) {
        let text = format!("Unknown event type {unknown} in [{section}] events");
        return Err(refused(text, "events"));
    }
    if reader.bool(section, "redirect_stderr", &extra, false)? {
        let text = format!(
            "[{section}] section sets redirect_stderr=true but this is not allowed because it will \
             interfere with the eventlistener protocol"
        );
        return Err(refused(text, "redirect_stderr"));
    }
    let all = processes(reader, section, pool)?;
    let kind = GroupKind::Listeners { events, buffer_size, result_handler };
    Ok(made(pool.to_owned(), section, kind, priority, all))
}

fn fast_cgi(reader: &mut Reader<'_>, section: &str, written: &str) -> Result<Group, Refused> {
    let mut extra = here(reader);
    let refused = |text: String, option: &str| Refused::new(text, section, option);
    let group = name(written).map_err(|text| refused(text, ""))?;
    let priority = reader.int(section, "priority", &extra, 999)?;
    let proc_user = match reader.get(section, "user", &extra)? {
        None => None,
        Some(text) => Some(user(&text).map_err(|e| refused(e, "user"))?),
    };
    let backlog = match reader.get(section, "socket_backlog", &extra)? {
        None => None,
        Some(text) => {
            let n = python::int(&text).map_err(|e| refused(e, "socket_backlog"))?;
            if !(1..=65535).contains(&n) {
                return Err(refused(format!("Invalid socket_backlog value {n}"), "socket_backlog"));
            }
            Some(n)
        }
    };
    let socket_owner = match reader.get(section, "socket_owner", &extra)? {
        None => None,
        Some(text) => Some(owner(&text).ok_or_else(|| {
            refused(format!("Invalid socket_owner value {text}"), "socket_owner")
        })?),
    };
    let mode = match reader.get(section, "socket_mode", &extra)? {
        None => None,
        Some(text) => Some(
            python::octal(&text)
                .map_err(|_| refused(format!("Invalid socket_mode value {text}"), "socket_mode"))?,
        ),
    };
    extra.insert("program_name".to_owned(), Value::Text(group.clone()));
    let socket = reader.get(section, "socket", &extra)?.unwrap_or_default();
    if socket.is_empty() {
        return Err(refused(format!("[{section}] section requires a \"socket\" line"), "socket"));
    }
    let address = address(reader, &socket, proc_user, socket_owner, mode)
        .map_err(|text| refused(format!("{text} in [{section}] socket"), "socket"))?;
    let all = processes(reader, section, &group)?;
    let kind = GroupKind::FastCgi(Socket { address, backlog });
    Ok(made(group, section, kind, priority, all))
}

fn address(
    reader: &Reader<'_>,
    socket: &str,
    proc_user: Option<String>,
    owner: Option<(String, Option<String>)>,
    mode: Option<Int>,
) -> Result<SocketAddress, String> {
    if let Some(path) = socket.strip_prefix("unix://") {
        if !path.starts_with('/') {
            return Err(format!("('Unix socket path %s is not an absolute path', {})", repr(path)));
        }
        let path = absolute(&expand_user(path, reader.world, reader.host), reader.world);
        // The socket belongs to the program's user, unless that is who Supervisor runs as.
        let users = proc_user.filter(|u| u != "root" && u != "0").map(|u| (u, None));
        return Ok(SocketAddress::Unix {
            path,
            mode: mode.unwrap_or(0o700),
            owner: owner.or(users),
        });
    }
    if owner.is_some() || mode.is_some() {
        return Err(
            "socket_owner and socket_mode params should only be used with a Unix domain socket"
                .to_owned(),
        );
    }
    let bad = || format!("('Bad socket format %s', {})", repr(socket));
    let rest = socket.strip_prefix("tcp://").ok_or_else(bad)?;
    let (host, port) = rest.split_once(':').ok_or_else(bad)?;
    let port = port.strip_suffix('\n').unwrap_or(port);
    let is_host = !host.is_empty() && !host.contains(python::is_space);
    if !is_host
        || port.is_empty()
        || port.contains(['_', '+', '-'])
        || port.contains(python::is_space)
    {
        return Err(bad());
    }
    let port = self::port(python::int(port).map_err(|_| bad())?)?;
    Ok(SocketAddress::Tcp { host: host.to_lowercase(), port })
}

/// A number of a port.
pub(super) fn port(number: Int) -> Result<Int, String> {
    match number {
        ..1 => Err(format!("{number} is below lower bound (1)")),
        1..=65535 => Ok(number),
        _ => Err(format!("{number} is above upper bound (65535)")),
    }
}
