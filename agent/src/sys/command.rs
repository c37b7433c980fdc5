//! Which file a command of a program is.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::supervise::{ProcessSpec, SpawnError};

/// Where a program is looked for when `PATH` is set nowhere.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file to execute for the first word of a command: looked up in the program's own `PATH` if it has
/// one, else in `path`, which is the agent's.
///
/// # Errors
/// When there is no such file, or it may not be executed.
pub(super) fn find(
    command: &str,
    spec: &ProcessSpec,
    path: Option<&OsStr>,
) -> Result<PathBuf, SpawnError> {
    let file = Path::new(command);
    if command.is_empty() {
        let why = io::Error::other("command is empty");
        return Err(SpawnError::step("prepare", &why));
    }
    if command.contains('/') {
        let whole = match &spec.directory {
            Some(dir) if file.is_relative() => dir.join(file),
            _ => file.to_owned(),
        };
        return match fs::metadata(&whole) {
            Err(_) => Err(SpawnError::NoFile(command.to_owned())),
            Ok(m) if is_executable(&m) => Ok(whole),
            Ok(_) => Err(SpawnError::NotExecutable(command.to_owned())),
        };
    }
    let own = spec.environment.get("PATH").map(OsString::from);
    let dirs = own.or_else(|| path.map(OsStr::to_owned)).unwrap_or_else(|| DEFAULT_PATH.into());
    let candidates = || std::env::split_paths(&dirs).map(|d| d.join(file));
    let found = candidates().find(|p| fs::metadata(p).is_ok_and(|m| is_executable(&m)));
    found.ok_or_else(|| match candidates().find(|p| p.is_file()) {
        Some(_) => SpawnError::NotExecutable(command.to_owned()),
        None => SpawnError::NoFile(command.to_owned()),
    })
}

fn is_executable(m: &fs::Metadata) -> bool {
    m.is_file() && m.permissions().mode() & 0o111 != 0
}
