//! Directories of this tool, and files in them that only their user can read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

const NAME: &str = "bastionctl";

fn env_dir(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name)?);
    path.is_absolute().then_some(path)
}

/// Where the configuration file is.
pub(crate) fn config() -> Option<PathBuf> {
    let base = env_dir("XDG_CONFIG_HOME").or_else(|| Some(env_dir("HOME")?.join(".config")))?;
    Some(base.join(NAME))
}

/// Where things are kept that may be lost.
pub(crate) fn cache() -> Option<PathBuf> {
    let base = env_dir("XDG_CACHE_HOME").or_else(|| Some(env_dir("HOME")?.join(".cache")))?;
    Some(base.join(NAME))
}

/// Where sockets are, as written in an ssh_config too: gone at log-out where the system does that.
pub(crate) fn runtime() -> Option<PathBuf> {
    match env_dir("XDG_RUNTIME_DIR") {
        Some(dir) => Some(dir.join(NAME)),
        None => Some(cache()?.join("run")),
    }
}

/// Makes `path` a directory that only its user can enter, parents too where they are missing.
///
/// # Errors
/// When it cannot be made, is a link, belongs to somebody else or is open to others.
pub(crate) fn private(path: &Path) -> io::Result<()> {
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
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

/// A directory for one run, removed at its end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one, in the runtime directory if there is one, else in the temporary one.
    ///
    /// # Errors
    /// When none can be made.
    pub(crate) fn new() -> io::Result<Self> {
        let base = match env_dir("XDG_RUNTIME_DIR").map(|d| d.join(NAME)) {
            Some(dir) if private(&dir).is_ok() => dir,
            Some(_) | None => std::env::temp_dir(),
        };
        let template = base.join("run-XXXXXX");
        let path = nix::unistd::mkdtemp(&template).map_err(io::Error::from)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
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

    #[test]
    fn a_private_file_is_replaced_whole_and_a_scratch_directory_goes_at_its_end() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("f");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        let kept = scratch.path().to_owned();
        drop(scratch);
        assert!(!kept.exists());
    }
}
