//! What Supervisor says nothing about and a person should know: options that it never read, sections that
//! it took for nothing, what is not carried over, and programs that are about to lose their work.

use std::{collections::BTreeSet, path::Path};

use super::{
    Host,
    groups::RESULT_HANDLER,
    model::{Config, GroupKind, LogTo, Process, Remark, ServerAt},
    paths, traps,
};
use crate::config::section::did_you_mean;

const OF_ALL: [&str; 33] = [
    "autorestart",
    "autostart",
    "command",
    "directory",
    "environment",
    "exitcodes",
    "killasgroup",
    "numprocs",
    "numprocs_start",
    "priority",
    "process_name",
    "redirect_stderr",
    "serverurl",
    "startretries",
    "startsecs",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_syslog",
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdout_syslog",
    "stopasgroup",
    "stopsignal",
    "stopwaitsecs",
    "umask",
    "user",
    // Known to some plug-ins, and to nobody's harm.
    "description",
];
const OF_LISTENERS: [&str; 3] = ["buffer_size", "events", "result_handler"];
const OF_FAST_CGI: [&str; 4] = ["socket", "socket_backlog", "socket_mode", "socket_owner"];
const OF_GROUPS: [&str; 2] = ["priority", "programs"];
const OF_SUPERVISORD: [&str; 18] = [
    "childlogdir",
    "directory",
    "environment",
    "identifier",
    "logfile",
    "logfile_backups",
    "logfile_maxbytes",
    "loglevel",
    "minfds",
    "minprocs",
    "nocleanup",
    "nodaemon",
    "pidfile",
    "profile_options",
    "silent",
    "strip_ansi",
    "umask",
    "user",
];
/// Of these the agent has its own, or no need.
const THE_AGENTS_OWN: [&str; 9] = [
    "logfile",
    "logfile_backups",
    "logfile_maxbytes",
    "loglevel",
    "minprocs",
    "nocleanup",
    "nodaemon",
    "pidfile",
    "silent",
];
const SECTIONS: [&str; 10] = [
    "program:",
    "group:",
    "eventlistener:",
    "fcgi-program:",
    "rpcinterface:",
    "ctlplugin:",
    "supervisord",
    "supervisorctl",
    "unix_http_server",
    "inet_http_server",
];

/// Adds what is worth knowing.
pub(super) fn advise(config: &Config, host: &dyn Host, remarks: &mut Vec<Remark>) {
    sections(config, remarks);
    supervisord(config, remarks);
    servers(config, remarks);
    for group in &config.groups {
        if let GroupKind::Listeners { result_handler, .. } = &group.kind
            && result_handler != RESULT_HANDLER
        {
            let text = format!(
                "{result_handler} is Python inside of supervisord and is not run: a result counts as \
                 done if it is OK"
            );
            remarks.push(config.about(&group.section, "result_handler", text));
        }
        if group.processes.is_empty() {
            let text = "there is no process in it, and it is left out";
            remarks.push(config.about(&group.section, "", text));
        }
        for process in &group.processes {
            let is_grouped = group.section != process.section;
            if is_grouped && process.section.starts_with("fcgi-program:") {
                let text = "in a group a FastCGI program is an ordinary one to Supervisor: its socket \
                            is not opened";
                remarks.push(config.about(&process.section, "socket", text));
            }
            missing(config, process, host, remarks);
            traps::traps(config, process, remarks);
        }
    }
}

fn options_of(section: &str) -> Option<Vec<&'static str>> {
    let more: &[&str] = match section.split(':').next().unwrap_or_default() {
        "program" if section.contains(':') => &[],
        "eventlistener" if section.contains(':') => &OF_LISTENERS,
        "fcgi-program" if section.contains(':') => &OF_FAST_CGI,
        "group" if section.contains(':') => return Some(OF_GROUPS.to_vec()),
        "supervisord" => return Some(OF_SUPERVISORD.to_vec()),
        _ => return None,
    };
    Some(OF_ALL.iter().chain(more).copied().collect())
}

fn sections(config: &Config, remarks: &mut Vec<Remark>) {
    for section in config.ini.sections() {
        let name = section.name.as_str();
        if let Some(known) = options_of(name) {
            for option in section.options.keys().filter(|o| !known.contains(&o.as_str())) {
                // What [DEFAULT] says is said to every section, whoever it is for.
                if !config.ini.defaults.contains_key(option) {
                    remarks.push(config.about(name, option, unknown(name, option, &known)));
                }
            }
        } else if name == "include" {
            let is_main = config.has_main && section.place.file.as_os_str() == config.main.as_str();
            if !is_main {
                let text = "not followed: Supervisor reads [include] in its main file only";
                remarks.push(config.about(name, "files", text));
            }
        } else if let Some(factory) = name
            .starts_with("rpcinterface:")
            .then(|| config.ini.entry(name, "supervisor.rpcinterface_factory"))
            .flatten()
        {
            const OWN: &str = "supervisor.rpcinterface:make_main_rpcinterface";
            if factory.value != OWN {
                let text = format!(
                    "the plug-in {} is Python inside of supervisord and is not run",
                    factory.value
                );
                remarks.push(config.about(name, "supervisor.rpcinterface_factory", text));
            }
        } else if !SECTIONS.iter().any(|s| name.starts_with(s)) {
            remarks.push(config.about(name, "", misspelt(name)));
        }
    }
}

fn unknown(section: &str, option: &str, known: &[&'static str]) -> String {
    let is_program = section.starts_with("program:") || section.starts_with("fcgi-program:");
    match option {
        "group" if is_program => {
            "Supervisor has no option group here and ignores it: the process has \
                                  the groups of its user; a [group:x] is what groups programs"
                .to_owned()
        }
        "log_stdout" | "log_stderr" | "logfile" if is_program => {
            format!("Supervisor has no option {option} and ignores it; stdout_logfile is the one")
        }
        _ => format!(
            "Supervisor has no option {option} here and ignores it{}",
            did_you_mean(option, known.iter().copied())
        ),
    }
}

fn misspelt(section: &str) -> String {
    let plain = section.trim().to_lowercase();
    let hint = match SECTIONS.iter().find(|s| plain.starts_with(**s) && plain != section) {
        Some(_) => format!("; did you mean [{plain}]?"),
        None => {
            let kind = plain.split(':').next().unwrap_or_default();
            did_you_mean(kind, SECTIONS.iter().map(|s| s.trim_end_matches(':')))
        }
    };
    format!("Supervisor knows no section [{section}] and ignores it with all that is in it{hint}")
}

fn supervisord(config: &Config, remarks: &mut Vec<Remark>) {
    const NAME: &str = "supervisord";
    let Some(section) = config.ini.section(NAME) else { return };
    let has = |option: &str| section.options.contains_key(option);
    let own: Vec<_> = THE_AGENTS_OWN.into_iter().filter(|o| has(o)).collect();
    if !own.is_empty() {
        let text = format!("the agent has its own instead of, or no need of: {}", own.join(", "));
        remarks.push(config.about(NAME, "", text));
    }
    let s = &config.supervisord;
    if let Some(user) = s.user.as_ref().filter(|u| *u != "root" && *u != "0") {
        let text = format!(
            "the agent runs as its unit says; every program that names no user runs as {user}"
        );
        remarks.push(config.about(NAME, "user", text));
    }
    if s.strip_ansi {
        let text = "colours are kept in the log files";
        remarks.push(config.about(NAME, "strip_ansi", text));
    }
}

fn servers(config: &Config, remarks: &mut Vec<Remark>) {
    for server in &config.servers {
        let password = if server.auth { "; user name and password are not asked for" } else { "" };
        let (option, text) = match &server.at {
            ServerAt::Inet { host, port } => {
                ("port", format!("nothing is served on the network: {host}:{port} is not opened"))
            }
            ServerAt::Unix { file, .. } => (
                "file",
                format!(
                    "supervisorctl finds the agent where control.supervisor_socket says, not at \
                     {file}{password}"
                ),
            ),
        };
        remarks.push(config.about(&server.section, option, text));
    }
}

/// What a program names and this host has not. Supervisor would not even start.
fn missing(config: &Config, process: &Process, host: &dyn Host, remarks: &mut Vec<Remark>) {
    let section = &process.section;
    if let Some(user) = &process.user
        && host.home(user).is_none()
    {
        let text = format!("there is no user {user} on this host");
        remarks.push(config.about(section, "user", text));
    }
    if let Some(directory) = process.directory.as_ref().filter(|d| d.starts_with('/'))
        && host.at(Path::new(directory)).is_none()
    {
        let text = format!("there is no folder {directory} on this host");
        remarks.push(config.about(section, "directory", text));
    }
    let mut seen = BTreeSet::new();
    for (log, option) in [(&process.stdout, "stdout_logfile"), (&process.stderr, "stderr_logfile")]
    {
        if let LogTo::File(path) = &log.file {
            let folder = paths::folder(path);
            if folder.starts_with('/')
                && host.at(Path::new(folder)).is_none()
                && seen.insert(folder)
            {
                let text = format!("there is no folder {folder} for this log on this host");
                remarks.push(config.about(section, option, text));
            }
        }
    }
}
