//! `[supervisord]` itself, and the addresses at which Supervisor would serve its interface.

use std::collections::BTreeMap;

use super::{
    groups::port,
    model::{Int, Server, ServerAt, Supervisord},
    paths::{absolute, expand_user},
    percent::Value,
    program::owner,
    python::{self, repr},
    reader::{Extra, Reader, Refused},
    words,
};

const SUPERVISORD: &str = "supervisord";

/// The section `[supervisord]`. Its environment is known to all that is read after it.
pub(super) fn supervisord(reader: &mut Reader<'_>) -> Result<Supervisord, Refused> {
    if reader.ini.section(SUPERVISORD).is_none() {
        let text = ".ini file does not include supervisord section";
        return Err(Refused::new(text, "", ""));
    }
    let extra = Extra::from([("here".to_owned(), Value::Text(reader.here.clone()))]);
    let r = &*reader;
    let text = |option: &str| r.get(SUPERVISORD, option, &extra);
    let int = |option: &str, default| r.int(SUPERVISORD, option, &extra, default);
    let bool = |option: &str| r.bool(SUPERVISORD, option, &extra, false);
    let path = |option: &str, default: &str| {
        let path = text(option)?.unwrap_or_else(|| default.to_owned());
        Ok(expand_user(&path, r.world, r.host))
    };
    let minfds = int("minfds", 1024)?;
    let minprocs = int("minprocs", 200)?;
    let directory = text("directory")?.map(|d| expand_user(&d, r.world, r.host));
    let user = text("user")?;
    let umask = r.mode(SUPERVISORD, "umask", &extra)?.unwrap_or(0o22);
    let logfile = path("logfile", "supervisord.log")?;
    let logfile_maxbytes = r.size(SUPERVISORD, "logfile_maxbytes", &extra, 50 << 20)?;
    let logfile_backups = int("logfile_backups", 10)?;
    let loglevel = match text("loglevel")? {
        None => 20,
        Some(t) => level(&t).map_err(|e| Refused::new(e, SUPERVISORD, "loglevel"))?,
    };
    let pidfile = path("pidfile", "supervisord.pid")?;
    let identifier = text("identifier")?.unwrap_or_else(|| "supervisor".to_owned());
    let nodaemon = bool("nodaemon")?;
    let silent = bool("silent")?;
    let childlogdir = path("childlogdir", "/tmp")?;
    let nocleanup = bool("nocleanup")?;
    let strip_ansi = bool("strip_ansi")?;
    let written = text("environment")?.unwrap_or_default();
    let mut more = extra.clone();
    more.insert("host_node_name".to_owned(), Value::Text(r.world.node.clone()));
    // Filled in for a second time, as Supervisor does.
    let environment: BTreeMap<String, String> = r
        .expand(&written, &more, "environment")
        .and_then(|text| words::pairs(&text))
        .map_err(|e| Refused::new(e, SUPERVISORD, "environment"))?
        .into_iter()
        .collect();
    let known =
        environment.iter().map(|(k, v)| (format!("ENV_{k}"), v.clone())).collect::<Vec<_>>();
    reader.environment.extend(known);
    Ok(Supervisord {
        minfds,
        minprocs,
        directory,
        user,
        umask,
        logfile,
        logfile_maxbytes,
        logfile_backups,
        loglevel,
        pidfile,
        identifier,
        nodaemon,
        silent,
        childlogdir,
        nocleanup,
        strip_ansi,
        environment,
    })
}

fn level(text: &str) -> Result<u8, String> {
    match text.to_lowercase().as_str() {
        "critical" => Ok(50),
        "error" => Ok(40),
        "warn" => Ok(30),
        "info" => Ok(20),
        "debug" => Ok(10),
        "trace" => Ok(5),
        "blather" => Ok(3),
        _ => Err(format!("bad logging level name {}", repr(text))),
    }
}

/// Plug-ins in Python: what matters of them is that they are named in full.
pub(super) fn plugins(reader: &Reader<'_>) -> Result<(), Refused> {
    const FACTORY: &str = "supervisor.rpcinterface_factory";
    let none = Extra::new();
    for section in reader.ini.sections() {
        let name = section.name.as_str();
        if !name.starts_with("rpcinterface:") {
            continue;
        }
        if reader.get(name, FACTORY, &none)?.is_none() {
            let text = format!("section [{name}] does not specify a {FACTORY}");
            return Err(Refused::new(text, name, FACTORY));
        }
        for option in section.options.keys().chain(reader.ini.defaults.keys()) {
            reader.get(name, option, &none)?;
        }
    }
    Ok(())
}

/// Every server, those on the network first.
pub(super) fn servers(reader: &Reader<'_>) -> Result<Vec<Server>, Refused> {
    let none = Extra::new();
    let named = |kind: &'static str| {
        reader.ini.sections().iter().map(|s| s.name.as_str()).filter(move |s| s.starts_with(kind))
    };
    let mut all = Vec::new();
    for section in named("inet_http_server") {
        let auth = auth(reader, section)?;
        let Some(port) = reader.get(section, "port", &none)? else {
            let text = format!("section [{section}] has no port value");
            return Err(Refused::new(text, section, "port"));
        };
        let (host, port) = inet(&port).map_err(|text| Refused::new(text, section, "port"))?;
        let at = ServerAt::Inet { host, port };
        all.push(Server { section: section.to_owned(), auth, at });
    }
    for section in named("unix_http_server") {
        let here = Extra::from([("here".to_owned(), Value::Text(reader.here.clone()))]);
        let Some(file) = reader.get(section, "file", &here)? else {
            let text = format!("section [{section}] has no file value");
            return Err(Refused::new(text, section, "file"));
        };
        let file = expand_user(python::strip(&file), reader.world, reader.host);
        let auth = auth(reader, section)?;
        let owner = match reader.get(section, "chown", &none)? {
            None => None,
            Some(text) => Some(owner(&text).ok_or_else(|| {
                Refused::new(format!("Invalid sockchown value {text}"), section, "chown")
            })?),
        };
        let mode = match reader.get(section, "chmod", &none)? {
            None => 0o700,
            Some(text) => python::octal(&text).map_err(|_| {
                Refused::new(format!("Invalid chmod value {text}"), section, "chmod")
            })?,
        };
        let at = ServerAt::Unix { file: absolute(&file, reader.world), mode, owner };
        all.push(Server { section: section.to_owned(), auth, at });
    }
    Ok(all)
}

fn auth(reader: &Reader<'_>, section: &str) -> Result<bool, Refused> {
    let none = Extra::new();
    let username = reader.get(section, "username", &none)?.is_some();
    let password = reader.get(section, "password", &none)?.is_some();
    if username != password {
        let text = format!(
            "Section [{section}] contains incomplete authentication: If a username or a password is \
             specified, both the username and password must be specified"
        );
        return Err(Refused::new(text, section, if username { "username" } else { "password" }));
    }
    Ok(username)
}

/// `host:port`, `*:port` or a bare port.
fn inet(text: &str) -> Result<(String, Int), String> {
    match text.rsplit_once(':') {
        Some((_, "")) => Err(format!("no port number specified in {}", repr(text))),
        Some((host, number)) => {
            let port = port(python::int(number)?)?;
            let host = host.to_lowercase();
            Ok((if host == "*" { String::new() } else { host }, port))
        }
        None => {
            let number = python::int(text).and_then(port);
            let number = number.map_err(|_| format!("not a valid port number: {} ", repr(text)))?;
            Ok((String::new(), number))
        }
    }
}
