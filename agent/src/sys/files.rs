//! Files that are whole or absent, whatever happens in between.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::{Gid, fchown};

/// Writes a file under a new name, syncs it, and renames it into place, so that a reader meets the
/// old content or the new one and never a part of either. The mode is set before the content.
///
/// # Errors
/// Whatever the file system says; the old file then still stands.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace(path, content, mode, None, Sync::Yes)
}

/// As [`write_atomic`], for a group: it has `mode` and that group before it has content.
///
/// # Errors
/// Whatever the file system says; the old file then still stands.
pub fn write_atomic_for(path: &Path, content: &[u8], mode: u32, group: Gid) -> io::Result<()> {
    replace(path, content, mode, Some(group), Sync::Yes)
}

/// As [`write_atomic`] but without waiting for the disk: for files under `/run`, which must survive
/// the death of the process and not that of the machine.
///
/// # Errors
/// Whatever the file system says; the old file then still stands.
pub fn write_atomic_volatile(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace(path, content, mode, None, Sync::No)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Yes,
    No,
}

fn replace(
    path: &Path,
    content: &[u8],
    mode: u32,
    group: Option<Gid>,
    sync: Sync,
) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("path has no parent directory"))?;
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::other("path has no file name"))?);
    name.push(format!(".{}.new", std::process::id()));
    let new = dir.join(name);
    let written = (|| {
        let mut f =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        if let Some(group) = group {
            fchown(&f, None, Some(group))?;
            // What the umask took away.
            f.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        f.write_all(content)?;
        if sync == Sync::Yes {
            f.sync_all()?;
        }
        fs::rename(&new, path)
    })();
    if let Err(e) = written {
        // The half-written file is of no use; the first error is the one to tell.
        fs::remove_file(&new).unwrap_or_default();
        return Err(e);
    }
    if sync == Sync::Yes {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Makes a directory and its parents; those it makes get `mode`, those that exist stay as they are.
///
/// # Errors
/// Whatever the file system says.
pub fn ensure_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"old", 0o600).unwrap();
        write_atomic(&path, b"new", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"new", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
