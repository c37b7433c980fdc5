//! One entry of `programs`, before it is multiplied by `numprocs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use nix::sys::signal::Signal;
use palisade_types::{ByteSize, ProgramName, Span};

use super::section::{Field, Section, did_you_mean};
use crate::supervise::{
    AutoRestart, Limits, ListenAddr, ListenSocket, LogFile, LogPath, Probe, ProbeTarget, Ready,
};

/// Priority of a program that names none, as in Supervisor.
pub(super) const DEFAULT_PRIORITY: i32 = 999;

/// A text whose `%(…)s` are still to be filled in, with where it came from.
#[derive(Debug)]
pub(super) struct Template<'a> {
    pub(super) field: Field<'a>,
    pub(super) text: String,
}

/// A log file whose path is still to be filled in.
#[derive(Debug)]
pub(super) enum LogDraft<'a> {
    Fixed(LogFile),
    At { path: Template<'a>, maxbytes: ByteSize, backups: u32 },
}

/// A program as written, each value checked.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) command: Vec<Template<'a>>,
    pub(super) process_name: Option<Template<'a>>,
    pub(super) numprocs: u32,
    pub(super) numprocs_start: u32,
    pub(super) priority: Option<i32>,
    pub(super) directory: Option<Template<'a>>,
    pub(super) user: Option<String>,
    pub(super) environment: Vec<(String, Template<'a>)>,
    pub(super) umask: Option<u32>,
    pub(super) autostart: bool,
    pub(super) autorestart: AutoRestart,
    pub(super) startsecs: Duration,
    pub(super) startretries: u32,
    pub(super) exitcodes: BTreeSet<u8>,
    pub(super) stopsignal: Signal,
    pub(super) stopwaitsecs: Duration,
    pub(super) stopasgroup: bool,
    pub(super) killasgroup: bool,
    pub(super) sockets: Vec<ListenSocket>,
    pub(super) ready: Ready,
    pub(super) stdout: LogDraft<'a>,
    pub(super) stderr: LogDraft<'a>,
    pub(super) redirect_stderr: bool,
    pub(super) limits: Limits,
    /// Programs to wait for; whether they exist is checked once all are known.
    pub(super) after: Vec<(Field<'a>, ProgramName)>,
}

/// Reads one program; `None` if it has no command at all.
pub(super) fn program<'a>(field: &Field<'a>) -> Option<Program<'a>> {
    let mut s = field.section();
    s.refuse(&["health", "reload", "rolling"]);
    let stopasgroup = s.get("stopasgroup").and_then(|f| f.bool()).unwrap_or(false);
    let killasgroup = s.get("killasgroup");
    if stopasgroup
        && let Some(f) = &killasgroup
        && f.bool() == Some(false)
    {
        f.wrong("cannot be false while stopasgroup is true");
    }
    let command = s.need("command").map(|f| command(&f));
    let program = Program {
        command: command.unwrap_or_default(),
        process_name: s.get("process_name").and_then(template),
        numprocs: s.get("numprocs").and_then(|f| f.int(1..=1000)).unwrap_or(1),
        numprocs_start: s.get("numprocs_start").and_then(|f| f.int(0..=1_000_000)).unwrap_or(0),
        priority: s.get("priority").and_then(|f| f.int(-1_000_000..=1_000_000)),
        directory: s.get("directory").and_then(template),
        user: s.get("user").and_then(|f| f.word()),
        environment: s.get("environment").map(|f| environment(&f)).unwrap_or_default(),
        umask: s.get("umask").and_then(|f| umask(&f)),
        autostart: s.get("autostart").and_then(|f| f.bool()).unwrap_or(true),
        autorestart: s.get("autorestart").and_then(|f| autorestart(&f)).unwrap_or(UNEXPECTED),
        startsecs: span(&mut s, "startsecs").unwrap_or(Duration::from_secs(1)),
        startretries: s.get("startretries").and_then(|f| f.int(0..=1_000_000)).unwrap_or(3),
        exitcodes: s.get("exitcodes").map_or_else(|| [0].into(), |f| exitcodes(&f)),
        stopsignal: s.get("stopsignal").and_then(|f| signal(&f)).unwrap_or(Signal::SIGTERM),
        stopwaitsecs: span(&mut s, "stopwaitsecs").unwrap_or(Duration::from_secs(10)),
        stopasgroup,
        killasgroup: killasgroup.and_then(|f| f.bool()).unwrap_or(stopasgroup),
        sockets: s.get("sockets").map(|f| sockets(&f)).unwrap_or_default(),
        ready: s.get("ready").and_then(|f| ready(&f)).unwrap_or(Ready::Delay),
        stdout: {
            let keys = ["stdout_logfile", "stdout_logfile_maxbytes", "stdout_logfile_backups"];
            log_file(&mut s, keys)
        },
        stderr: {
            let keys = ["stderr_logfile", "stderr_logfile_maxbytes", "stderr_logfile_backups"];
            log_file(&mut s, keys)
        },
        redirect_stderr: s.get("redirect_stderr").and_then(|f| f.bool()).unwrap_or(false),
        limits: s.get("limits").map(|f| limits(f.section())).unwrap_or_default(),
        after: s.get("after").map(|f| after(&f)).unwrap_or_default(),
    };
    s.finish();
    (!program.command.is_empty()).then_some(program)
}

const UNEXPECTED: AutoRestart = AutoRestart::Unexpected;

fn template(field: Field<'_>) -> Option<Template<'_>> {
    let text = field.word()?;
    Some(Template { field, text })
}

fn span(s: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let field = s.get(key)?;
    let Span(d) = field.parse()?;
    if d > Duration::from_secs(7 * 86_400) {
        field.wrong("must be at most 7d");
    }
    Some(d)
}

/// A list is taken word for word; a string is split like a shell splits words, with no shell.
fn command<'a>(field: &Field<'a>) -> Vec<Template<'a>> {
    use super::raw::Value;
    let words: Vec<_> = if let Value::List(_) = field.node.value {
        field.items().into_iter().filter_map(template).collect()
    } else {
        let Some(line) = field.text() else { return Vec::new() };
        let Some(words) = shlex::split(line) else {
            field.wrong("has a quote or a backslash that is not closed");
            return Vec::new();
        };
        words.into_iter().map(|text| Template { field: field.clone(), text }).collect()
    };
    if words.iter().any(|w| w.text.contains('\0')) {
        field.wrong("must not hold a NUL character");
    }
    if words.first().is_none_or(|w| w.text.is_empty()) {
        field.wrong("must name a program");
        return Vec::new();
    }
    words
}

fn environment<'a>(field: &Field<'a>) -> Vec<(String, Template<'a>)> {
    let mut out = Vec::new();
    for (entry, field) in field.section().named() {
        let key = &entry.key;
        if key.is_empty() || key.contains(['=', '\0']) {
            field.wrong("is no name of a variable");
        }
        if let Some(value) = template(field) {
            if value.text.contains('\0') {
                value.field.wrong("must not hold a NUL character");
            }
            out.push((key.clone(), value));
        }
    }
    out
}

/// Octal, and in quotes: YAML reads a bare `022` as twenty-two.
fn umask(field: &Field<'_>) -> Option<u32> {
    let text = field.text()?;
    let mask = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
    if mask.is_none() {
        field.wrong(format!("{text:?} must be an octal mask such as \"022\""));
    }
    mask
}

fn autorestart(field: &Field<'_>) -> Option<AutoRestart> {
    field.one_of(&[
        ("unexpected", AutoRestart::Unexpected),
        ("true", AutoRestart::Always),
        ("false", AutoRestart::Never),
    ])
}

fn exitcodes(field: &Field<'_>) -> BTreeSet<u8> {
    field.items().iter().filter_map(|f| f.int(0..=255)).collect()
}

/// A name with or without `SIG`, or a number.
fn signal(field: &Field<'_>) -> Option<Signal> {
    let word = field.word()?;
    if let Ok(number) = word.parse::<i32>() {
        return Signal::try_from(number)
            .map_err(|_| field.wrong(format!("there is no signal {number}")))
            .ok();
    }
    let name = word.to_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    full.parse()
        .map_err(|_| {
            let all = Signal::iterator().map(Signal::as_str);
            field.wrong(format!("{word:?} is no signal{}", did_you_mean(&full, all)));
        })
        .ok()
}

fn sockets(field: &Field<'_>) -> Vec<ListenSocket> {
    let mut out: Vec<ListenSocket> = Vec::new();
    for item in field.items() {
        let mut s = item.section();
        let listen = s.need("listen").and_then(|f| listen(&f));
        let name = s.get("name").and_then(|f| {
            let name = f.text()?;
            let ok = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !ok {
                f.wrong("must be 1-64 of a-z A-Z 0-9 . _ -");
            }
            Some(name.to_owned())
        });
        s.finish();
        if let Some(listen) = listen {
            if out.iter().any(|s| s.listen == listen) {
                item.wrong("listens where another of this program's sockets does");
            }
            let name = name.unwrap_or_else(|| format!("socket{}", out.len()));
            out.push(ListenSocket { name, listen });
        }
    }
    out
}

/// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock` or `/run/app.sock`.
fn listen(field: &Field<'_>) -> Option<ListenAddr> {
    let text = field.text()?;
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        if path.len() > 107 {
            field.wrong("must be at most 107 bytes long");
        }
        return Some(ListenAddr::Unix(path.into()));
    }
    address(field, text).map(ListenAddr::Tcp)
}

fn address(field: &Field<'_>, text: &str) -> Option<SocketAddr> {
    let parsed = text.replace("localhost:", "127.0.0.1:").parse();
    if parsed.is_err() {
        field.wrong(format!("{text:?} must be an address and port such as 127.0.0.1:8000"));
    }
    parsed.ok()
}

fn ready(field: &Field<'_>) -> Option<Ready> {
    use super::raw::Value;
    if let Value::Text(word) = &field.node.value {
        return match word.as_str() {
            "delay" => Some(Ready::Delay),
            "notify" => Some(Ready::Notify { timeout: READY_TIMEOUT }),
            other => {
                field.wrong(format!(
                    "{other:?} must be delay, notify, or a map with http, tcp, unix or notify"
                ));
                None
            }
        };
    }
    let mut s = field.section();
    let mut found: Vec<Ready> = Vec::new();
    if let Some(f) = s.get("notify") {
        let mut s = f.section();
        let timeout = span(&mut s, "timeout").unwrap_or(READY_TIMEOUT);
        s.finish();
        found.push(Ready::Notify { timeout });
    }
    found.extend(probe(s.get("http"), "url", http_target));
    found.extend(probe(s.get("tcp"), "address", |f| {
        f.text().and_then(|t| address(f, t)).map(ProbeTarget::Tcp)
    }));
    found.extend(probe(s.get("unix"), "path", |f| f.abs_path().map(ProbeTarget::Unix)));
    if found.len() > 1 {
        s.wrong("has more than one way to be ready; keep one");
    }
    s.finish();
    found.pop()
}

const READY_TIMEOUT: Duration = Duration::from_secs(30);

fn probe(
    field: Option<Field<'_>>,
    target_key: &'static str,
    target: impl Fn(&Field<'_>) -> Option<ProbeTarget>,
) -> Option<Ready> {
    let mut s = field?.section();
    let target = s.need(target_key).and_then(|f| target(&f));
    let every = span(&mut s, "every").unwrap_or(Duration::from_millis(500));
    let timeout = span(&mut s, "timeout").unwrap_or(READY_TIMEOUT);
    if every < Duration::from_millis(10) {
        s.wrong("every must be at least 10ms");
    }
    s.finish();
    Some(Ready::Probe(Probe { target: target?, every, timeout }))
}

/// `http://127.0.0.1:8000/health`. Probes are for the host itself, so no names and no TLS.
fn http_target(field: &Field<'_>) -> Option<ProbeTarget> {
    let text = field.text()?;
    let parsed = text.strip_prefix("http://").and_then(|rest| {
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let with_port = if host.ends_with(']') || !host.contains(':') {
            format!("{host}:80")
        } else {
            host.to_owned()
        };
        let addr = with_port.replace("localhost:", "127.0.0.1:").parse().ok()?;
        let clean = path.bytes().all(|b| b.is_ascii_graphic());
        clean.then(|| ProbeTarget::Http { addr, host: host.to_owned(), path: path.to_owned() })
    });
    if parsed.is_none() {
        field.wrong(format!(
            "{text:?} must be http:// with an address, such as http://127.0.0.1:8000/health"
        ));
    }
    parsed
}

fn log_file<'a>(s: &mut Section<'a>, [path, maxbytes, backups]: [&'static str; 3]) -> LogDraft<'a> {
    let maxbytes = s.get(maxbytes).and_then(|f| f.parse()).unwrap_or(ByteSize::mib(50));
    let backups = s.get(backups).and_then(|f| f.int(0..=1000)).unwrap_or(10);
    let Some(field) = s.get(path) else {
        return LogDraft::Fixed(LogFile { maxbytes, backups, ..LogFile::default() });
    };
    let fixed = |path| LogDraft::Fixed(LogFile { path, maxbytes, backups, ..LogFile::default() });
    match field.text() {
        Some("AUTO") | None => fixed(LogPath::Auto),
        Some("NONE") => fixed(LogPath::None),
        Some("syslog") => {
            field.wrong("syslog is not supported by this version of palisade");
            fixed(LogPath::None)
        }
        Some(text) => {
            let path = Template { text: text.to_owned(), field };
            LogDraft::At { path, maxbytes, backups }
        }
    }
}

fn limits(mut s: Section<'_>) -> Limits {
    let limits = Limits {
        memory: s.get("memory").and_then(|f| f.parse()),
        cpu_percent: s.get("cpu").and_then(|f| {
            let text = f.text()?;
            let percent = text.strip_suffix('%').and_then(|n| n.parse().ok()).filter(|n| *n > 0);
            if percent.is_none() {
                f.wrong(format!("{text:?} must be a whole percentage of one CPU, such as 150%"));
            }
            percent
        }),
        pids: s.get("pids").and_then(|f| f.int(1..=4_194_304)),
        nofile: s.get("nofile").and_then(|f| f.int(1..=1_048_576)),
    };
    s.finish();
    limits
}

fn after<'a>(field: &Field<'a>) -> Vec<(Field<'a>, ProgramName)> {
    let one = |f: Field<'a>| {
        let name = f.parse()?;
        Some((f, name))
    };
    field.items().into_iter().filter_map(one).collect()
}

/// The variables that `%(…)s` may name, for the message that lists them.
pub(super) type Known = BTreeMap<&'static str, super::expand::Known>;

/// A path that must be absolute once its variables are filled in.
pub(super) fn absolute(field: &Field<'_>, text: String) -> Option<PathBuf> {
    if text.starts_with('/') {
        return Some(text.into());
    }
    field.wrong(format!("{text:?} must be an absolute path"));
    None
}
