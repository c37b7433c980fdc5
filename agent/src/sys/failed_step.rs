//! A step of a start that failed in the child, in words: the kernel's answer is a number that says less
//! than the host knows.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::supervise::SpawnError;

/// The longest first line of a script that the kernel reads.
const FIRST_LINE: u64 = 256;

/// What a start was about.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    /// The command, as written in the settings.
    pub(super) command: String,
    /// The file that was to be executed.
    pub(super) file: PathBuf,
    pub(super) directory: Option<PathBuf>,
}

impl About {
    /// Why the start failed.
    pub(super) fn failed(&self, step: &str, error: &io::Error) -> SpawnError {
        match (step, error.raw_os_error(), &self.directory) {
            ("execute", Some(libc::ENOENT), _) => match missing_interpreter(&self.file) {
                None => SpawnError::NoFile(self.command.clone()),
                Some(missing) => {
                    let step = format!("execute {}", self.command);
                    SpawnError::Step { step, why: format!("there is no {missing}, which runs it") }
                }
            },
            ("execute", Some(libc::EACCES | libc::ENOEXEC), _) => {
                SpawnError::NotExecutable(self.command.clone())
            }
            ("change directory", _, Some(dir)) => {
                SpawnError::step(format!("change directory to {}", dir.display()), error)
            }
            _ => SpawnError::step(step, error),
        }
    }
}

/// What a file that is there wants to be run by, and is not there: the kernel says of the file itself that
/// it is missing.
fn missing_interpreter(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(file).ok()?.take(FIRST_LINE).read_to_end(&mut start).ok()?;
    let Some(line) = start.strip_prefix(b"#!") else { return Some("loader".to_owned()) };
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
    // As the kernel does: a carriage return is a part of the name, and makes it another one.
    let mut words = line.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
    let name = words.next().unwrap_or_default();
    Some(format!("{:?}", String::from_utf8_lossy(name)))
}

#[cfg(test)]
mod tests {
    use super::{super::files::write_atomic, *};

    #[test]
    fn a_script_without_its_interpreter_is_not_called_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run");
        let about = |command: &str| About {
            command: command.to_owned(),
            file: file.clone(),
            directory: Some("/srv".into()),
        };
        let no_entry = io::Error::from_raw_os_error(libc::ENOENT);
        let said = || about("run").failed("execute", &no_entry).to_string();
        assert_eq!(said(), "can't find command 'run'");
        write_atomic(&file, b"#! /opt/old/python -u\r\nprint()\n", 0o755).unwrap();
        assert_eq!(said(), "execute run: there is no \"/opt/old/python\", which runs it");
        write_atomic(&file, b"#!/bin/sh\r\nexit\n", 0o755).unwrap();
        assert_eq!(said(), "execute run: there is no \"/bin/sh\\r\", which runs it");
        write_atomic(&file, b"\x7fELF", 0o755).unwrap();
        assert_eq!(said(), "execute run: there is no loader, which runs it");
        let said = about("run").failed("change directory", &no_entry).to_string();
        assert_eq!(said, "change directory to /srv: No such file or directory (os error 2)");
    }
}
