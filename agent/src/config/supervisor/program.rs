//! A section of a program as the processes that it stands for.

use std::collections::BTreeMap;

use super::{
    model::{Int, Log, LogTo, Process, Restart},
    paths::expand_user,
    percent::Value,
    python::{self, repr},
    reader::{Extra, Reader, Refused, truth},
    signals, words,
};

/// More copies of one program than any host runs, as in `palisade.yaml`; Supervisor would try.
const MAX_COPIES: Int = 10_000;

/// A name of a program, process or group.
pub(super) fn name(text: &str) -> Result<String, String> {
    let stripped = python::strip(text);
    match [' ', ':', '/'].into_iter().find(|c| stripped.contains(*c)) {
        None => Ok(stripped.to_owned()),
        Some(c) => Err(format!("Invalid name: {} because of character: '{c}'", repr(text))),
    }
}

/// A user, by name or number. Whether there is one is not asked: the host that imports a file need not be
/// the one that runs it.
pub(super) fn user(text: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("Invalid user name {text}")) } else { Ok(text.to_owned()) }
}

/// `user` or `user:group`.
pub(super) fn owner(text: &str) -> Option<(String, Option<String>)> {
    match text.split_once(':') {
        None => (!text.is_empty()).then(|| (text.to_owned(), None)),
        Some((user, group)) => (!user.is_empty() && !group.is_empty())
            .then(|| (user.to_owned(), Some(group.to_owned()))),
    }
}

/// Every process of a section, in Supervisor's order.
pub(super) fn processes(
    reader: &mut Reader<'_>,
    section: &str,
    group: &str,
) -> Result<Vec<Process>, Refused> {
    let file = reader.opened_by.get(section).unwrap_or(&reader.main).clone();
    read(reader, section, group).map_err(|refused| Refused {
        text: format!("{} in section {} (file: {})", refused.text, repr(section), repr(&file)),
        ..refused
    })
}

/// What all copies of a program have in common.
struct Common {
    program: String,
    priority: Int,
    autostart: bool,
    autorestart: Restart,
    startsecs: Int,
    startretries: Int,
    stopsignal: Int,
    stopwaitsecs: Int,
    stopasgroup: bool,
    killasgroup: bool,
    exitcodes: Vec<Int>,
    redirect_stderr: bool,
    capture: [Int; 2],
    events: [bool; 2],
    serverurl: Option<String>,
    user: Option<String>,
    umask: Option<Int>,
    process_name: String,
}

fn read(reader: &mut Reader<'_>, section: &str, group: &str) -> Result<Vec<Process>, Refused> {
    let refused = |text: String, option: &str| Refused::new(text, section, option);
    let after_colon = section.split_once(':').map_or("", |(_, name)| name);
    let program = name(after_colon).map_err(|e| refused(e, ""))?;
    let mut extra = Extra::from([
        ("here".to_owned(), Value::Text(reader.here.clone())),
        ("program_name".to_owned(), Value::Text(program.clone())),
        ("host_node_name".to_owned(), Value::Text(reader.world.node.clone())),
        ("group_name".to_owned(), Value::Text(group.to_owned())),
    ]);
    let r = &*reader;
    let text = |option: &str| r.get(section, option, &extra);
    let priority = r.int(section, "priority", &extra, 999)?;
    let autostart = r.bool(section, "autostart", &extra, true)?;
    let autorestart = match text("autorestart")? {
        None => Restart::Unexpected,
        Some(t) => autorestart(&t).map_err(|e| refused(e, "autorestart"))?,
    };
    let startsecs = r.int(section, "startsecs", &extra, 1)?;
    let startretries = r.int(section, "startretries", &extra, 3)?;
    let stopsignal = match text("stopsignal")? {
        None => signals::TERM,
        Some(t) => signals::number(&t).map_err(|e| refused(e, "stopsignal"))?,
    };
    let stopwaitsecs = r.int(section, "stopwaitsecs", &extra, 10)?;
    let stopasgroup = r.bool(section, "stopasgroup", &extra, false)?;
    let killasgroup = r.bool(section, "killasgroup", &extra, stopasgroup)?;
    let exitcodes = match text("exitcodes")? {
        None => vec![0],
        Some(t) => exitcodes(&t).map_err(|e| refused(e, "exitcodes"))?,
    };
    let redirect_stderr = r.bool(section, "redirect_stderr", &extra, false)?;
    let numprocs = r.int(section, "numprocs", &extra, 1)?;
    let numprocs_start = r.int(section, "numprocs_start", &extra, 0)?;
    let out_capture = r.size(section, "stdout_capture_maxbytes", &extra, 0)?;
    let out_events = r.bool(section, "stdout_events_enabled", &extra, false)?;
    let err_capture = r.size(section, "stderr_capture_maxbytes", &extra, 0)?;
    let err_events = r.bool(section, "stderr_events_enabled", &extra, false)?;
    let serverurl = text("serverurl")?;
    let is_auto = |url: &String| python::strip(url).eq_ignore_ascii_case("auto");
    let user = match text("user")? {
        None => None,
        Some(t) => Some(self::user(&t).map_err(|e| refused(e, "user"))?),
    };
    let umask = r.mode(section, "umask", &extra)?;
    let process_name = name(r.raw(section, "process_name").unwrap_or("%(program_name)s"))
        .map_err(|e| refused(e, "process_name"))?;
    if numprocs > 1 && !process_name.contains("%(process_num)") {
        let text = "%(process_num) must be present within process_name when numprocs > 1";
        return Err(refused(text.to_owned(), "process_name"));
    }
    if stopasgroup && !killasgroup {
        let text = "Cannot set stopasgroup=true and killasgroup=false";
        return Err(refused(text.to_owned(), "killasgroup"));
    }
    if numprocs > MAX_COPIES {
        let text = format!("numprocs={numprocs} is more than the {MAX_COPIES} that are taken");
        return Err(refused(text, "numprocs").ours());
    }
    let common = Common {
        program,
        priority,
        autostart,
        autorestart,
        startsecs,
        startretries,
        stopsignal,
        stopwaitsecs,
        stopasgroup,
        killasgroup,
        exitcodes,
        redirect_stderr,
        capture: [out_capture, err_capture],
        events: [out_events, err_events],
        serverurl: serverurl.filter(|url| !is_auto(url)),
        user,
        umask,
        process_name,
    };
    let mut all = Vec::new();
    for number in numprocs_start..numprocs_start.saturating_add(numprocs) {
        extra.insert("process_num".to_owned(), Value::Int(number));
        extra.insert("numprocs".to_owned(), Value::Int(numprocs));
        all.push(copy(reader, section, &common, number, &mut extra)?);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// One copy. `extra` is left with its environment in it, as Supervisor leaves it: a variable that only one
/// copy sets is known to those after it.
fn copy(
    reader: &mut Reader<'_>,
    section: &str,
    common: &Common,
    number: Int,
    extra: &mut Extra,
) -> Result<Process, Refused> {
    let outer = reader.environment.iter().map(|(k, v)| (k.clone(), Value::Text(v.clone())));
    extra.extend(outer);
    let written = reader.raw(section, "environment").unwrap_or_default();
    let environment: BTreeMap<String, String> = reader
        .expand(written, extra, "environment")
        .and_then(|text| words::pairs(&text))
        .map_err(|text| Refused::new(text, section, "environment"))?
        .into_iter()
        .collect();
    for (key, value) in &environment {
        extra.insert(format!("ENV_{key}"), Value::Text(value.clone()));
    }
    let directory = reader.get(section, "directory", extra)?;
    let mut stdout = log(reader, section, "stdout", common, extra)?;
    let mut stderr = log(reader, section, "stderr", common, extra)?;
    if common.redirect_stderr {
        if matches!(stderr.file, LogTo::File(_)) {
            warn(
                reader,
                section,
                "stderr_logfile",
                format!(
                    "For [{section}], redirect_stderr=true but stderr_logfile has also been set to a \
                     filename, the filename has been ignored"
                ),
            );
        }
        stderr.file = LogTo::None;
    }
    stdout.capture_maxbytes = common.capture[0];
    stderr.capture_maxbytes = common.capture[1];
    let Some(command) = reader.get(section, "command", extra)? else {
        let text = format!("program section {section} does not specify a command");
        return Err(Refused::new(text, section, "command"));
    };
    let name = reader
        .expand(&common.process_name, extra, "process_name")
        .map_err(|text| Refused::new(text, section, "process_name"))?;
    Ok(Process {
        name,
        section: section.to_owned(),
        program: common.program.clone(),
        number,
        argv: words::words(&command),
        command,
        directory,
        umask: common.umask,
        priority: common.priority,
        autostart: common.autostart,
        autorestart: common.autorestart,
        startsecs: common.startsecs,
        startretries: common.startretries,
        exitcodes: common.exitcodes.clone(),
        stopsignal: common.stopsignal,
        stopwaitsecs: common.stopwaitsecs,
        stopasgroup: common.stopasgroup,
        killasgroup: common.killasgroup,
        user: common.user.clone(),
        redirect_stderr: common.redirect_stderr,
        environment,
        serverurl: common.serverurl.clone(),
        stdout,
        stderr,
    })
}

fn log(
    reader: &mut Reader<'_>,
    section: &str,
    stream: &str,
    common: &Common,
    extra: &Extra,
) -> Result<Log, Refused> {
    let option = format!("{stream}_logfile");
    let text = match reader.get(section, &option, extra)? {
        None => None,
        // Supervisor fills in this one twice.
        Some(text) => Some(
            reader
                .expand(&text, extra, &option)
                .map_err(|text| Refused::new(text, section, &option))?,
        ),
    };
    let backups = reader.int(section, &format!("{stream}_logfile_backups"), extra, 10)?;
    let maxbytes = reader.size(section, &format!("{stream}_logfile_maxbytes"), extra, 50 << 20)?;
    let mut syslog = reader.bool(section, &format!("{stream}_syslog"), extra, false)?;
    let file = match text.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("auto") => LogTo::Auto,
        Some("none" | "off") => LogTo::None,
        Some("syslog") => {
            syslog = true;
            warn(
                reader,
                section,
                &option,
                format!(
                    "For [{section}], {option}=syslog but this is deprecated and will be removed.  Use \
                     {stream}_syslog=true to enable syslog instead."
                ),
            );
            LogTo::None
        }
        Some(_) => {
            let path = text.as_deref().unwrap_or_default();
            LogTo::File(expand_user(path, reader.world, reader.host))
        }
    };
    if file == LogTo::Auto && maxbytes == 0 {
        warn(
            reader,
            section,
            &option,
            format!(
                "For [{section}], AUTO logging used for {option} without rollover, set maxbytes > 0 to \
                 avoid filling up filesystem unintentionally"
            ),
        );
    }
    let events_enabled = common.events[usize::from(stream == "stderr")];
    Ok(Log { file, maxbytes, backups, capture_maxbytes: 0, events_enabled, syslog })
}

/// A warning of Supervisor's own.
fn warn(reader: &mut Reader<'_>, section: &str, option: &str, text: String) {
    reader.remark(section, option, text.clone());
    reader.warnings.push(text);
}

fn autorestart(text: &str) -> Result<Restart, String> {
    let lower = text.to_lowercase();
    match (truth(&lower), lower.as_str()) {
        (Some(true), _) => Ok(Restart::Always),
        (Some(false), _) => Ok(Restart::Never),
        (None, "unexpected") => Ok(Restart::Unexpected),
        (None, other) => Err(format!("invalid 'autorestart' value {}", repr(other))),
    }
}

fn exitcodes(text: &str) -> Result<Vec<Int>, String> {
    let bad = || format!("not a valid list of exit codes: {}", repr(text));
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let one = |word| python::int(word).ok().filter(|code| (0..=255).contains(code));
    text.split(',').map(one).collect::<Option<_>>().ok_or_else(bad)
}
