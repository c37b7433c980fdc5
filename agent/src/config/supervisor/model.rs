//! What a `supervisord.conf` says, in Supervisor's own terms: every default filled in, every copy of a
//! program listed, nothing judged yet by what Palisade can do with it.

use std::collections::BTreeMap;

use super::ini::Ini;
pub(crate) use super::python::Int;
use crate::config::Place;

/// All that the files say.
#[derive(Debug)]
pub struct Config {
    /// In Supervisor's order: priority, then name.
    pub(crate) groups: Vec<Group>,
    pub(crate) supervisord: Supervisord,
    pub(crate) servers: Vec<Server>,
    /// What Supervisor itself warns of, in its words.
    pub(crate) warnings: Vec<String>,
    /// Included files in the order in which they were read.
    pub(crate) included: Vec<String>,
    /// Files that were to be included and could not be read.
    pub(crate) unread: Vec<String>,
    /// What a person should know who moves these programs, by place.
    pub(crate) remarks: Vec<Remark>,
    /// The folder of the main file.
    pub(crate) here: String,
    /// The main file, or the first of files that have none.
    pub(crate) main: String,
    /// Whether there is a main file.
    pub(crate) has_main: bool,
    /// The text that it all comes from, for the place of everything.
    pub(super) ini: Ini,
}

impl Config {
    /// Where an option stands; the section's first line if it stands nowhere.
    pub(super) fn place(&self, section: &str, option: &str) -> Place {
        self.ini.place(section, option).unwrap_or_else(|| Place::whole(self.main.as_ref()))
    }

    /// A remark about an option.
    pub(super) fn about(&self, section: &str, option: &str, text: impl Into<String>) -> Remark {
        Remark {
            place: self.place(section, option),
            section: section.to_owned(),
            option: option.to_owned(),
            text: text.into(),
        }
    }
}

/// Something worth knowing about one place of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub(crate) place: Place,
    /// The section, as `program:web`; empty where a file as a whole is meant.
    pub(crate) section: String,
    /// The option, where it is about one.
    pub(crate) option: String,
    /// What, for a person.
    pub(crate) text: String,
}

/// Programs that Supervisor treats as one.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) kind: GroupKind,
    pub(crate) priority: Int,
    pub(crate) processes: Vec<Process>,
    /// The section that makes it a group.
    pub(crate) section: String,
}

/// What sort of group.
#[derive(Clone, Debug)]
pub(crate) enum GroupKind {
    Programs,
    Listeners {
        /// In upper case and in order.
        events: Vec<String>,
        buffer_size: Int,
        result_handler: String,
    },
    FastCgi(Socket),
}

/// The socket of a FastCGI program.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) address: SocketAddress,
    pub(crate) backlog: Option<Int>,
}

/// Where it listens.
#[derive(Clone, Debug)]
pub(crate) enum SocketAddress {
    Tcp {
        host: String,
        port: Int,
    },
    Unix {
        path: String,
        mode: Int,
        /// User and group as written.
        owner: Option<(String, Option<String>)>,
    },
}

/// One process to be.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// The section it comes from, as `program:web`.
    pub(crate) section: String,
    /// The part of it after the colon.
    pub(crate) program: String,
    /// Its number among the copies.
    pub(crate) number: Int,
    pub(crate) command: String,
    /// The command's words; the error where it has none that could be started.
    pub(crate) argv: Result<Vec<String>, String>,
    pub(crate) directory: Option<String>,
    pub(crate) umask: Option<Int>,
    pub(crate) priority: Int,
    pub(crate) autostart: bool,
    pub(crate) autorestart: Restart,
    pub(crate) startsecs: Int,
    pub(crate) startretries: Int,
    pub(crate) exitcodes: Vec<Int>,
    pub(crate) stopsignal: Int,
    pub(crate) stopwaitsecs: Int,
    pub(crate) stopasgroup: bool,
    pub(crate) killasgroup: bool,
    pub(crate) user: Option<String>,
    pub(crate) redirect_stderr: bool,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) serverurl: Option<String>,
    pub(crate) stdout: Log,
    pub(crate) stderr: Log,
}

/// Whether a process that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    Unexpected,
    Never,
}

/// Where the output of a process goes.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) file: LogTo,
    pub(crate) maxbytes: Int,
    pub(crate) backups: Int,
    pub(crate) capture_maxbytes: Int,
    pub(crate) events_enabled: bool,
    pub(crate) syslog: bool,
}

/// The file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    Auto,
    None,
    /// As written, `~` expanded; empty where the value is, which is no file either.
    File(String),
}

/// The section `[supervisord]`.
#[derive(Clone, Debug)]
pub(crate) struct Supervisord {
    pub(crate) minfds: Int,
    pub(crate) minprocs: Int,
    pub(crate) directory: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) umask: Int,
    pub(crate) logfile: String,
    pub(crate) logfile_maxbytes: Int,
    pub(crate) logfile_backups: Int,
    pub(crate) loglevel: u8,
    pub(crate) pidfile: String,
    pub(crate) identifier: String,
    pub(crate) nodaemon: bool,
    pub(crate) silent: bool,
    pub(crate) childlogdir: String,
    pub(crate) nocleanup: bool,
    pub(crate) strip_ansi: bool,
    pub(crate) environment: BTreeMap<String, String>,
}

/// Where Supervisor would serve its interface.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) section: String,
    pub(crate) auth: bool,
    pub(crate) at: ServerAt,
}

/// The address of a server.
#[derive(Clone, Debug)]
pub(crate) enum ServerAt {
    Inet {
        /// Empty for every address.
        host: String,
        port: Int,
    },
    Unix {
        file: String,
        mode: Int,
        owner: Option<(String, Option<String>)>,
    },
}

/// Why Supervisor would not start with these files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where, as far as it can be told.
    pub(crate) place: Place,
    /// Section and option, as `program:web.startsecs`.
    pub(crate) key: String,
    /// Supervisor's own words, unless it is ours.
    pub(crate) text: String,
    /// Whether Supervisor would have taken it, or nobody could read it.
    pub(crate) is_ours: bool,
}

impl Refusal {
    /// Whether it is for want of a variable of the environment.
    #[must_use]
    pub fn names_unset_variable(&self) -> bool {
        self.text.contains("contains names ('ENV_")
    }

    /// Whether it is not the content that Supervisor would refuse.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.place)?;
        match (self.section.as_str(), self.option.as_str()) {
            ("", _) => {}
            (section, "") => write!(f, "{section}: ")?,
            (section, option) => write!(f, "{section}.{option}: ")?,
        }
        f.write_str(&self.text)
    }
}
