//! A program's own log files.

use palisade_types::ByteSize;

use super::{section::Section, values::Template};
use crate::supervise::{LogFile, LogPath};

/// A log file whose path is still to be filled in.
#[derive(Debug)]
pub(super) enum LogDraft<'a> {
    Fixed(LogFile),
    At { path: Template<'a>, maxbytes: ByteSize, backups: u32 },
}

pub(super) fn log_file<'a>(
    s: &mut Section<'a>,
    [path, maxbytes, backups]: [&'static str; 3],
) -> LogDraft<'a> {
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
