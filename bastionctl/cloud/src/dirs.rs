//! Where a login is kept, and how: files that only their user can read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

/// Of `bastionctl`, whose logins all of these tools share.
const NAME: &str = "bastionctl";

/// A directory that the environment names, if its path is absolute.
#[must_use]
pub fn env_dir(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.is_absolute().then_some(path)
}

/// Where things are kept that may be lost.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let base = env_dir("XDG_CACHE_HOME").or_else(|| Some(env_dir("HOME")?.join(".cache")))?;
    Some(base.join(NAME))
}

/// Makes `path` a directory that only its user can enter, parents too where they are missing.
///
/// # Errors
/// When it cannot be made, is a link, belongs to somebody else or is open to others.
pub fn private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let meta = fs::symlink_metadata(path)?;
    let mine = meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if mine {
        return Ok(());
    }
    let why = format!("{} must be a directory of mode 0700 that is yours", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// Writes a file of mode 0600 under a new name and moves it to `path`.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("new{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        fs::remove_file(&new).unwrap_or_default();
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_can_enter_or_that_is_a_link_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        private(&dir).unwrap();
        private(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(private(&dir).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(temp.path(), &link).unwrap();
        assert!(private(&link).is_err());
    }
}
