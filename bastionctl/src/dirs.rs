//! Directories of this tool, and files in them that only their user can read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use palisade_cloud::dirs::env_dir;
pub(crate) use palisade_cloud::dirs::{cache, private, write_private};

const NAME: &str = "bastionctl";

/// Where the configuration file is.
pub(crate) fn config() -> Option<PathBuf> {
    let base = env_dir("XDG_CONFIG_HOME").or_else(|| Some(env_dir("HOME")?.join(".config")))?;
    Some(base.join(NAME))
}

/// Where sockets are, as written in an ssh_config too: gone at log-out where the system does that.
pub(crate) fn runtime() -> Option<PathBuf> {
    match env_dir("XDG_RUNTIME_DIR") {
        Some(dir) => Some(dir.join(NAME)),
        None => Some(cache()?.join("run")),
    }
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
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

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
