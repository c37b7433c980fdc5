//! A program's own log files.

use super::{section::Section, values::Template};
use crate::supervise::{LogFile, LogPath};

/// A log file whose path is still to be filled in.
#[derive(Debug)]
pub(super) struct LogDraft<'a> {
    /// A path that is written out, in place of the file's.
    pub(super) at: Option<Template<'a>>,
    pub(super) file: LogFile,
}

/// Names of the keys of one stream.
pub(super) struct Keys {
    logfile: &'static str,
    maxbytes: &'static str,
    backups: &'static str,
    syslog: &'static str,
    capture_maxbytes: &'static str,
    events_enabled: &'static str,
}

pub(super) const STDOUT: Keys = Keys {
    logfile: "stdout_logfile",
    maxbytes: "stdout_logfile_maxbytes",
    backups: "stdout_logfile_backups",
    syslog: "stdout_syslog",
    capture_maxbytes: "stdout_capture_maxbytes",
    events_enabled: "stdout_events_enabled",
};
pub(super) const STDERR: Keys = Keys {
    logfile: "stderr_logfile",
    maxbytes: "stderr_logfile_maxbytes",
    backups: "stderr_logfile_backups",
    syslog: "stderr_syslog",
    capture_maxbytes: "stderr_capture_maxbytes",
    events_enabled: "stderr_events_enabled",
};

pub(super) fn log_file<'a>(s: &mut Section<'a>, keys: &Keys) -> LogDraft<'a> {
    let mut flag = |key| s.get(key).and_then(|f| f.bool()).unwrap_or(false);
    let mut file = LogFile {
        syslog: flag(keys.syslog),
        events_enabled: flag(keys.events_enabled),
        ..LogFile::default()
    };
    let mut size = |key, default| s.get(key).and_then(|f| f.parse()).unwrap_or(default);
    file.maxbytes = size(keys.maxbytes, file.maxbytes);
    file.capture_maxbytes = size(keys.capture_maxbytes, file.capture_maxbytes);
    file.backups = s.get(keys.backups).and_then(|f| f.int(0..=1000)).unwrap_or(file.backups);
    let mut at = None;
    if let Some(field) = s.get(keys.logfile) {
        match field.text() {
            Some("AUTO") | None => {}
            Some("NONE") => file.path = LogPath::None,
            Some("syslog") => {
                file.path = LogPath::None;
                file.syslog = true;
            }
            Some(text) => at = Some(Template { text: text.to_owned(), field }),
        }
    }
    LogDraft { at, file }
}
