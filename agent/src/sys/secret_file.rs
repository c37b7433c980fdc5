//! Secrets in files: only if nobody else can read or have written them.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::unistd::Uid;
use zeroize::Zeroizing;

/// Opens a file of at most `max` bytes that is root's or ours and that others may not use.
///
/// # Errors
/// When it cannot be opened, is no such file, or is open to others.
pub(crate) fn open(path: &Path, max: u64) -> io::Result<(File, Metadata)> {
    // A pipe in its place is not waited for.
    let mut open = OpenOptions::new();
    let file = open.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > max {
        return Err(io::Error::other(format!("it is no file of at most {max} bytes")));
    }
    if meta.mode() & 0o007 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(io::Error::other(format!("everybody may use it (mode {mode:o})")));
    }
    if meta.uid() != 0 && meta.uid() != Uid::effective().as_raw() {
        return Err(io::Error::other("it belongs neither to root nor to the agent's user"));
    }
    Ok((file, meta))
}

/// The one line of such a file.
///
/// # Errors
/// As for opening it, and when it has no line or several.
pub fn line(path: &Path) -> io::Result<Zeroizing<String>> {
    const MAX: u64 = 4096;
    let (file, _) = open(path, MAX)?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(MAX).read_to_string(&mut text)?;
    let line = text.trim();
    if line.is_empty() || line.contains(char::is_whitespace) {
        return Err(io::Error::other("it must hold one word"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test writes its files")]
    fn one_word_of_a_file_that_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let put = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            line(&path)
        };
        assert_eq!(put("abc123\n", 0o600).unwrap().as_str(), "abc123");
        for (text, mode) in [("abc\n", 0o644), ("", 0o600), ("two words", 0o600), ("a\nb\n", 0o600)]
        {
            assert!(put(text, mode).is_err(), "{text:?} {mode:o}");
        }
        assert!(put(&"x".repeat(5000), 0o600).is_err());
        assert!(line(dir.path()).is_err());
    }
}
