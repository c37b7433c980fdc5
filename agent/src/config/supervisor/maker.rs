//! One process of Supervisor's as one of Palisade's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_types::ByteSize;

use super::{
    Host, World,
    model::{Config, Group, GroupKind, Int, Log, LogTo, Process, Remark, Restart},
    paths, signals, sockets,
};
use crate::supervise::{
    AutoRestart, Kind, Limits, ListenAddr, Listener, LogFile, LogPath, ProcessSpec, Stdin,
};

/// Longest span, as in `palisade.yaml`.
const MAX_SPAN: Int = 7 * 86_400;
/// Most tries to start, as in `palisade.yaml`.
const MAX_RETRIES: Int = 1_000_000;
/// Most rotated files kept, as in `palisade.yaml`.
const MAX_BACKUPS: Int = 1000;
/// Furthest priority, as in `palisade.yaml`.
const MAX_PRIORITY: Int = 1_000_000;
/// Most open files, as in `palisade.yaml`.
const MAX_FILES: Int = 1_048_576;
/// What Supervisor makes of `minfds` unless told otherwise, and what hosts give anyway.
const USUAL_FILES: Int = 1024;

/// A process that is being made, and what it is made from.
pub(super) struct Maker<'a> {
    pub(super) config: &'a Config,
    /// The number of that among all.
    pub(super) number: usize,
    pub(super) group: &'a Group,
    pub(super) process: &'a Process,
    pub(super) host: &'a dyn Host,
    pub(super) world: &'a World,
}

impl Maker<'_> {
    /// The process under these names: its own, its program's and its group's. None if one of them is none.
    pub(super) fn spec(&self, names: [&str; 3], remarks: &mut Vec<Remark>) -> Option<ProcessSpec> {
        let p = self.process;
        let [name, program, group] = names;
        let names = (name.parse().ok()?, program.parse().ok()?, group.parse().ok()?);
        let argv = self.argv(remarks);
        let (kind, stdin) = self.kind(remarks);
        let supervisord = &self.config.supervisord;
        let mut note = |option: &str, text: String| {
            remarks.push(self.config.about(&p.section, option, text));
        };
        let stopsignal = i32::try_from(p.stopsignal).ok().and_then(|n| Signal::try_from(n).ok());
        if stopsignal.is_none() {
            let name = signals::name(p.stopsignal);
            note("stopsignal", format!("palisade cannot send {name}; it sends TERM instead"));
        }
        let priority = within(p.priority, -MAX_PRIORITY..=MAX_PRIORITY, "priority", &mut note);
        let startsecs = span(p.startsecs, "startsecs", &mut note);
        let startretries = within(p.startretries, 0..=MAX_RETRIES, "startretries", &mut note);
        let stopwaitsecs = span(p.stopwaitsecs, "stopwaitsecs", &mut note);
        let group_priority = self.group.priority.clamp(-MAX_PRIORITY, MAX_PRIORITY);
        let mut environment = BTreeMap::new();
        for (key, value) in &p.environment {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                note("environment", format!("{key:?} can be no variable, and is left out"));
            } else {
                environment.insert(key.clone(), value.clone());
            }
        }
        let directory = p.directory.as_ref().or(supervisord.directory.as_ref());
        let directory = directory.map(|dir| self.absolute(dir, "directory", &mut note));
        let (name, program, group) = names;
        let stdout = self.log(&p.stdout, "stdout", &mut note);
        let stderr = self.log(&p.stderr, "stderr", &mut note);
        Some(ProcessSpec {
            label: p.name.clone(),
            kind,
            group_priority: i32::try_from(group_priority).unwrap_or_default(),
            priority,
            directory,
            user: p.user.clone().or_else(|| self.own_user()),
            environment,
            umask: p.umask.or(self.own_umask()).map(mode),
            stdin,
            serverurl: p.serverurl.clone(),
            autostart: p.autostart,
            autorestart: match p.autorestart {
                Restart::Always => AutoRestart::Always,
                Restart::Unexpected => AutoRestart::Unexpected,
                Restart::Never => AutoRestart::Never,
            },
            startsecs,
            startretries,
            exitcodes: p.exitcodes.iter().filter_map(|c| u8::try_from(*c).ok()).collect(),
            stopsignal: stopsignal.unwrap_or(Signal::SIGTERM),
            stopwaitsecs,
            stopasgroup: p.stopasgroup,
            killasgroup: p.killasgroup,
            stdout,
            stderr,
            redirect_stderr: p.redirect_stderr,
            limits: Limits { nofile_min: self.open_files(), ..Limits::default() },
            ..ProcessSpec::new(name, program, group, argv)
        })
    }

    fn remark(&self, option: &str, text: String, remarks: &mut Vec<Remark>) {
        remarks.push(self.config.about(&self.process.section, option, text));
    }

    /// No words at all where a start must fail, as it does in Supervisor.
    fn argv(&self, remarks: &mut Vec<Remark>) -> Vec<String> {
        let why = match &self.process.argv {
            Err(why) => format!("its command cannot be split into words ({why})"),
            Ok(words) if words.first().is_none_or(String::is_empty) => {
                "its command is empty".into()
            }
            Ok(words) if words.iter().any(|w| w.contains('\0')) => {
                "its command holds a NUL character".into()
            }
            Ok(words) => return words.clone(),
        };
        self.remark("command", format!("{} cannot start: {why}", self.process.name), remarks);
        Vec::new()
    }

    fn kind(&self, remarks: &mut Vec<Remark>) -> (Kind, Stdin) {
        match &self.group.kind {
            GroupKind::Programs => (Kind::Program, Stdin::Pipe),
            GroupKind::Listeners { events, buffer_size, .. } => {
                let events = events.iter().cloned().collect();
                let buffer_size = u32::try_from(*buffer_size).unwrap_or(u32::MAX).min(MAX_EVENTS);
                let server = self.config.supervisord.identifier.clone();
                (Kind::Listener(Listener { events, buffer_size, server }), Stdin::Pipe)
            }
            GroupKind::FastCgi(socket) => {
                let socket = sockets::shared(socket, self.host);
                if let ListenAddr::Nowhere { why, .. } = &socket.listen {
                    let text = format!("{} cannot start: {why}", self.process.name);
                    self.remark("socket", text, remarks);
                }
                (Kind::FastCgi, Stdin::Socket(socket))
            }
        }
    }

    /// Who `[supervisord]` runs as, if not root: its programs have no other choice.
    fn own_user(&self) -> Option<String> {
        self.config.supervisord.user.clone().filter(|u| u != "root" && u != "0")
    }

    /// A mask that `[supervisord]` was given, which its programs inherit.
    fn own_umask(&self) -> Option<Int> {
        self.config.ini.entry("supervisord", "umask").map(|_| self.config.supervisord.umask)
    }

    /// `minfds` is the least that there must be; what hosts give anyway is not said.
    fn open_files(&self) -> Option<u64> {
        let wanted = self.config.supervisord.minfds;
        (wanted > USUAL_FILES).then(|| u64::try_from(wanted.min(MAX_FILES)).unwrap_or_default())
    }

    /// Where Supervisor would be: the folder that it is told to go to, else that of its file.
    fn absolute(&self, path: &str, option: &str, note: &mut dyn FnMut(&str, String)) -> PathBuf {
        if path.starts_with('/') {
            return path.into();
        }
        let base = match &self.config.supervisord.directory {
            Some(dir) => Path::new(&self.config.here).join(dir),
            None => PathBuf::from(&self.config.here),
        };
        let whole = base.join(path).display().to_string();
        let whole = paths::absolute(&whole, self.world);
        note(
            option,
            format!(
                "{path:?} is relative to where supervisord was started; palisade takes {whole}"
            ),
        );
        whole.into()
    }

    /// Below `childlogdir` if there is one. Not below the `/tmp` that Supervisor takes unasked: there,
    /// anybody could have put a file under that name. Named by group and process, and not by the name that
    /// is unique on this host: that one depends on what else is in the files.
    fn automatic(&self, stream: &str, note: &mut dyn FnMut(&str, String)) -> LogPath {
        if self.config.ini.entry("supervisord", "childlogdir").is_none() {
            return LogPath::Auto;
        }
        let supervisord = &self.config.supervisord;
        let dir = self.absolute(&supervisord.childlogdir, "childlogdir", note);
        let (group, label) = (&self.group.name, &self.process.name);
        let mut name = if group == label { label.clone() } else { format!("{group}:{label}") };
        if self.number > 0 {
            // Of a second supervisor, which may have the same names and the same folder.
            name = format!("{}:{name}", self.number);
        }
        LogPath::automatic(&dir, &name, stream, &supervisord.identifier)
    }

    fn log(&self, log: &Log, stream: &str, note: &mut dyn FnMut(&str, String)) -> LogFile {
        let option = |end: &str| format!("{stream}_{end}");
        let path = match &log.file {
            LogTo::Auto => self.automatic(stream, note),
            LogTo::None => LogPath::None,
            LogTo::File(path) if path.is_empty() => LogPath::None,
            LogTo::File(path) => LogPath::At(self.absolute(path, &option("logfile"), note)),
        };
        let bytes = |n: Int| ByteSize::new(u64::try_from(n.max(0)).unwrap_or(u64::MAX));
        // Less than none is none, without a word.
        let backups = log.backups.max(0);
        LogFile {
            path,
            maxbytes: bytes(log.maxbytes),
            backups: within(backups, 0..=MAX_BACKUPS, &option("logfile_backups"), note),
            syslog: log.syslog,
            capture_maxbytes: bytes(log.capture_maxbytes),
            events_enabled: log.events_enabled,
        }
    }
}

/// Most events that may wait, as in `palisade.yaml`.
const MAX_EVENTS: u32 = 1_000_000;

fn mode(mask: Int) -> u32 {
    u32::try_from(mask & 0o777).unwrap_or_default()
}

fn within<T: TryFrom<Int> + Default>(
    n: Int,
    range: std::ops::RangeInclusive<Int>,
    option: &str,
    note: &mut dyn FnMut(&str, String),
) -> T {
    let near = n.clamp(*range.start(), *range.end());
    // Supervisor takes less than nothing for nothing.
    if near != n && !(near == 0 && n < 0) {
        note(option, format!("{n} is more than palisade takes; it takes {near}"));
    }
    T::try_from(near).unwrap_or_default()
}

fn span(seconds: Int, option: &str, note: &mut dyn FnMut(&str, String)) -> Duration {
    Duration::from_secs(within(seconds, 0..=MAX_SPAN, option, note))
}
