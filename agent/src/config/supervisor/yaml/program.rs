//! One entry of `programs`: what is not the default, in the order in which a person would say it.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::format_duration;

use super::{
    super::{model::Remark, specs::Imported},
    about, comment,
    copies::{Entry, entry},
    scalar::{self, list},
};
use crate::supervise::{
    AutoRestart, Kind, ListenAddr, LogFile, LogPath, ProcessSpec, SharedSocket, Stdin,
};

/// Remarks that no one has seen yet.
pub(super) struct Remarks<'a> {
    left: Vec<&'a Remark>,
}

impl<'a> Remarks<'a> {
    pub(super) fn new(all: &'a [Remark]) -> Self {
        Self { left: all.iter().collect() }
    }

    /// Those that are meant, and are not left then.
    pub(super) fn take(&mut self, meant: impl Fn(&Remark) -> bool) -> Vec<&'a Remark> {
        let (taken, left) = std::mem::take(&mut self.left).into_iter().partition(|r| meant(r));
        self.left = left;
        taken
    }
}

/// An entry as text.
pub(super) struct Written {
    pub(super) text: String,
    /// Whether it needs no group but the one that every program is by itself.
    pub(super) is_alone: bool,
}

const DEFAULT: i32 = 999;

/// The keys of an entry, in their order.
#[derive(Default)]
struct Keys(Vec<(&'static str, String)>);

impl Keys {
    fn put(&mut self, key: &'static str, value: impl ToString) {
        self.0.push((key, value.to_string()));
    }

    fn put_if(&mut self, wanted: bool, key: &'static str, value: impl ToString) {
        if wanted {
            self.put(key, value);
        }
    }
}

/// Writes the entry of these copies.
pub(super) fn program(key: &str, copies: &[&Imported], remarks: &mut Remarks<'_>) -> Written {
    const INDENT: &str = "    ";
    let Some((entry, first)) = entry(copies).zip(copies.first()) else {
        return Written { text: String::new(), is_alone: true };
    };
    let spec = &entry.spec;
    let usual = match spec.kind {
        Kind::Listener(_) => -1,
        Kind::Program | Kind::FastCgi => DEFAULT,
    };
    // A priority that is written is the group's too, where the program is a group by itself.
    let is_group = spec.group.as_str() == key;
    let said = spec.priority != DEFAULT
        || (is_group && spec.group_priority == DEFAULT && usual != DEFAULT);
    let is_alone = is_group && spec.group_priority == if said { spec.priority } else { usual };
    let mut keys = Keys::default();
    keys.put("command", scalar::command(&spec.argv, INDENT));
    who(key, &entry, &mut keys);
    keys.put_if(said, "priority", spec.priority);
    kind(&entry, &mut keys);
    life(spec, &mut keys);
    logs(&entry, &mut keys);
    if let Some(least) = spec.limits.nofile_min {
        keys.put("limits", format!("{{ nofile_min: {least} }}"));
    }
    let mut text = String::new();
    let has = |option: &str| keys.0.iter().any(|(key, _)| *key == option);
    let section = first.section.as_str();
    for remark in remarks.take(|r| r.section == section && !has(key_of(&r.option))) {
        comment(&mut text, "  ", &about(remark));
    }
    text += &format!("  {}:\n", scalar::text(key));
    for (key, value) in &keys.0 {
        for remark in remarks.take(|r| r.section == section && key_of(&r.option) == *key) {
            comment(&mut text, INDENT, &remark.text);
        }
        let gap = if value.starts_with('\n') { "" } else { " " };
        text += &format!("{INDENT}{key}:{gap}{value}\n");
    }
    Written { text, is_alone }
}

/// The key of `palisade.yaml` for an option of Supervisor's.
fn key_of(option: &str) -> &str {
    match option {
        "socket" | "socket_backlog" | "socket_owner" | "socket_mode" => "fcgi_socket",
        other => other,
    }
}

fn who(key: &str, entry: &Entry, keys: &mut Keys) {
    let spec = &entry.spec;
    let usual =
        if entry.numprocs > 1 { format!("{key}_%(process_num)02d") } else { key.to_owned() };
    keys.put_if(entry.name != usual, "process_name", scalar::text(&entry.name));
    keys.put_if(entry.numprocs > 1, "numprocs", entry.numprocs);
    keys.put_if(entry.start != 0, "numprocs_start", entry.start);
    if let Some(directory) = &entry.directory {
        keys.put("directory", scalar::text(directory));
    }
    if let Some(user) = &spec.user {
        keys.put("user", scalar::text(user));
    }
    if !spec.environment.is_empty() {
        let one = |(key, value): (&String, &String)| {
            format!("\n      {}: {}", scalar::text(key), scalar::text(value))
        };
        keys.put("environment", spec.environment.iter().map(one).collect::<String>());
    }
    if let Some(mask) = spec.umask {
        keys.put("umask", format!("\"{mask:03o}\""));
    }
    if let Some(url) = &entry.serverurl {
        keys.put("serverurl", scalar::text(url));
    }
}

fn kind(entry: &Entry, keys: &mut Keys) {
    match &entry.spec.kind {
        Kind::Program => keys.put_if(entry.spec.stdin == Stdin::Pipe, "stdin", "pipe"),
        Kind::Listener(listener) => {
            keys.put("events", list(listener.events.iter().map(String::as_str)));
            keys.put_if(listener.buffer_size != 10, "buffer_size", listener.buffer_size);
        }
        Kind::FastCgi => {
            if let Stdin::Socket(socket) = &entry.spec.stdin {
                keys.put("fcgi_socket", fcgi_socket(socket));
            }
        }
    }
}

fn fcgi_socket(socket: &SharedSocket) -> String {
    let mut out = match &socket.listen {
        ListenAddr::Tcp(address) => format!("{{ listen: \"{address}\""),
        ListenAddr::Unix(path) => {
            format!("{{ listen: {}", scalar::text(&path.display().to_string()))
        }
        ListenAddr::Nowhere { address, .. } => format!("{{ listen: {}", scalar::text(address)),
    };
    if let Some(backlog) = socket.backlog {
        out += &format!(", backlog: {backlog}");
    }
    if socket.mode != 0o700 {
        out += &format!(", mode: \"{:03o}\"", socket.mode);
    }
    if let Some(owner) = &socket.owner {
        out += &format!(", owner: {}", scalar::text(owner));
    }
    out + " }"
}

fn life(spec: &ProcessSpec, keys: &mut Keys) {
    let seconds = |s| Duration::from_secs(s);
    keys.put_if(!spec.autostart, "autostart", false);
    match spec.autorestart {
        AutoRestart::Unexpected => {}
        AutoRestart::Always => keys.put("autorestart", true),
        AutoRestart::Never => keys.put("autorestart", false),
    }
    keys.put_if(spec.startsecs != seconds(1), "startsecs", format_duration(spec.startsecs));
    keys.put_if(spec.startretries != 3, "startretries", spec.startretries);
    if !spec.exitcodes.iter().eq([&0]) {
        let codes: Vec<_> = spec.exitcodes.iter().map(ToString::to_string).collect();
        keys.put("exitcodes", format!("[{}]", codes.join(", ")));
    }
    if spec.stopsignal != Signal::SIGTERM {
        keys.put("stopsignal", spec.stopsignal.as_str().trim_start_matches("SIG"));
    }
    keys.put_if(
        spec.stopwaitsecs != seconds(10),
        "stopwaitsecs",
        format_duration(spec.stopwaitsecs),
    );
    keys.put_if(spec.stopasgroup, "stopasgroup", true);
    keys.put_if(spec.killasgroup != spec.stopasgroup, "killasgroup", spec.killasgroup);
}

fn logs(entry: &Entry, keys: &mut Keys) {
    let spec = &entry.spec;
    keys.put_if(spec.redirect_stderr, "redirect_stderr", true);
    log(&spec.stdout, entry.stdout.as_deref(), &STDOUT, false, keys);
    log(&spec.stderr, entry.stderr.as_deref(), &STDERR, spec.redirect_stderr, keys);
}

const STDOUT: [&str; 6] = [
    "stdout_logfile",
    "stdout_logfile_maxbytes",
    "stdout_logfile_backups",
    "stdout_syslog",
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
];
const STDERR: [&str; 6] = [
    "stderr_logfile",
    "stderr_logfile_maxbytes",
    "stderr_logfile_backups",
    "stderr_syslog",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
];

fn log(
    log: &LogFile,
    path: Option<&str>,
    [logfile, maxbytes, backups, syslog, capture, events]: &[&'static str; 6],
    is_elsewhere: bool,
    keys: &mut Keys,
) {
    let usual = LogFile::default();
    match (&log.path, path) {
        (LogPath::Auto, _) => {}
        (LogPath::None, _) => keys.put_if(!is_elsewhere, logfile, "NONE"),
        (LogPath::At(_), path) => keys.put(logfile, scalar::text(path.unwrap_or_default())),
    }
    keys.put_if(log.maxbytes != usual.maxbytes, maxbytes, log.maxbytes);
    keys.put_if(log.backups != usual.backups, backups, log.backups);
    keys.put_if(log.syslog, syslog, true);
    keys.put_if(log.capture_maxbytes != usual.capture_maxbytes, capture, log.capture_maxbytes);
    keys.put_if(log.events_enabled, events, true);
}
