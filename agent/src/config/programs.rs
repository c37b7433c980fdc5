//! One entry of `programs`, before it is multiplied by `numprocs`.

use std::{collections::BTreeSet, time::Duration};

use nix::sys::signal::Signal;
use palisade_types::ProgramName;

use super::{
    errand, kinds,
    program_logs::{LogDraft, STDERR, STDOUT, log_file},
    readiness::{ready, sockets},
    section::{Field, Section},
    upkeep,
    values::{Template, signal, span, template, umask},
};
use crate::supervise::{AutoRestart, Kind, Limits, ListenSocket, Ready};

/// Priority of a program that names none, as in Supervisor.
pub(super) const DEFAULT_PRIORITY: i32 = 999;

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
    pub(super) kind: kinds::Draft<'a>,
    pub(super) upkeep: upkeep::Draft,
    pub(super) errand: errand::Draft<'a>,
    /// Programs to wait for; whether they exist is checked once all are known.
    pub(super) after: Vec<(Field<'a>, ProgramName)>,
}

/// Reads one program; `None` if it has no command at all.
pub(super) fn program<'a>(field: &Field<'a>) -> Option<Program<'a>> {
    let mut s = field.section();
    let stopasgroup = s.get("stopasgroup").and_then(|f| f.bool()).unwrap_or(false);
    let killasgroup = s.get("killasgroup");
    if stopasgroup
        && let Some(f) = &killasgroup
        && f.bool() == Some(false)
    {
        f.wrong("cannot be false while stopasgroup is true");
    }
    let command = s.need("command").map(|f| command(&f));
    let mut program = Program {
        command: command.unwrap_or_default(),
        process_name: s.get("process_name").and_then(template),
        numprocs: s.get("numprocs").and_then(|f| f.int(1..=10_000)).unwrap_or(1),
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
        stdout: log_file(&mut s, &STDOUT),
        stderr: log_file(&mut s, &STDERR),
        redirect_stderr: s.get("redirect_stderr").and_then(|f| f.bool()).unwrap_or(false),
        limits: s.get("limits").map(|f| limits(f.section())).unwrap_or_default(),
        kind: kinds::kind(&mut s),
        upkeep: upkeep::upkeep(&mut s),
        errand: errand::errand(&mut s),
        after: s.get("after").map(|f| after(&f)).unwrap_or_default(),
    };
    if program.redirect_stderr && matches!(program.kind.kind, Kind::Listener(_)) {
        s.wrong("redirect_stderr cannot be true with events: standard output is the protocol");
    }
    let rolling = program.upkeep.rolling;
    upkeep::overlap_can_tell(&mut s, rolling, program.startsecs, &program.ready);
    s.finish();
    errand::settle(&mut program);
    (!program.command.is_empty()).then_some(program)
}

const UNEXPECTED: AutoRestart = AutoRestart::Unexpected;

/// A list is taken word for word; a string is split like a shell splits words, with no shell.
pub(super) fn command<'a>(field: &Field<'a>) -> Vec<Template<'a>> {
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
        nofile_min: s.get("nofile_min").and_then(|f| f.int(1..=1_048_576)),
    };
    if limits.nofile.is_some() && limits.nofile_min.is_some() {
        s.wrong("has nofile, which is the limit itself, and nofile_min; leave one of them out");
    }
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
