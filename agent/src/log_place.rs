//! Where the path of a log file leads: a file, or one of the agent's own streams.
//!
//! A log file may lie where its program can write, and the agent may be root. So a link is followed only
//! if nobody but root and the agent's user can have put it there, as `fs.protected_symlinks` has it; and
//! what is opened in the end is the very name that was looked at, whatever is renamed meanwhile.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat},
    sys::stat::{Mode, fstat, fstatat},
    unistd::geteuid,
};

/// As many links are followed from one to the next as by the kernel.
const MOST_LINKS: usize = 40;

/// Whatever was put in place of a log file, a link to another file is not followed and a pipe is not waited
/// for.
const WARY: OFlag =
    OFlag::O_NOCTTY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Who may write to a directory beside its owner.
const OTHERS_WRITE: u32 = 0o022;

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Found {
    /// One of the agent's own streams.
    Own(OwnStream),
    /// A name in a directory, which is no link. There may be nothing of that name yet.
    File(Place),
}

/// One of the agent's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnStream {
    Stdout,
    Stderr,
}

/// A name in a directory that is held open.
#[derive(Debug)]
pub(crate) struct Place {
    dir: OwnedFd,
    name: OsString,
}

/// Follows the links at the end of a path, if they may be followed.
///
/// # Errors
/// What the file system says; that somebody else may have put a link there.
pub(crate) fn find(path: &Path) -> io::Result<Found> {
    let mut at: Option<OwnedFd> = None;
    let mut path = path.to_owned();
    for _ in 0..=MOST_LINKS {
        if let Some(stream) = own_stream(&path) {
            return Ok(Found::Own(stream));
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let base = at.as_ref().map_or(AT_FDCWD, |dir| dir.as_fd());
        let dir = openat(base, parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        match readlinkat(&dir, name.as_os_str()) {
            Ok(target) => {
                // Nobody whom this finds harmless can have changed the link since it was read.
                may_follow(&dir, &name)?;
                path = PathBuf::from(target);
                at = Some(dir);
            }
            // No link, or nothing there yet.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(Found::File(Place { dir, name })),
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::ELOOP.into())
}

/// Opens a log file that is there, for whoever reads it or empties it.
///
/// # Errors
/// As [`find`]; what the file system says; that it is no regular file.
pub(crate) fn open_regular(path: &Path, is_written: bool) -> io::Result<fs::File> {
    let file = find_file(path)?.open(if is_written { OFlag::O_WRONLY } else { OFlag::O_RDONLY })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// The file that a path leads to.
///
/// # Errors
/// As [`find`]; that it is one of the agent's own streams.
pub(crate) fn find_file(path: &Path) -> io::Result<Place> {
    match find(path)? {
        Found::File(place) => Ok(place),
        Found::Own(_) => Err(io::Error::other("it is a stream of the agent, not a file")),
    }
}

fn may_follow(dir: &OwnedFd, link: &OsStr) -> io::Result<()> {
    let (dir, link) = (fstat(dir)?, fstatat(dir, link, AtFlags::AT_SYMLINK_NOFOLLOW)?);
    let is_ours = |uid: u32| uid == 0 || uid == geteuid().as_raw();
    if is_ours(dir.st_uid) && is_ours(link.st_uid) && dir.st_mode & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(io::Error::other(
        "it is a symbolic link that others could have made or could change: it is followed only if it \
         and its directory belong to root or the agent's user, and nobody else may write there",
    ))
}

/// The names that these streams have as files. Opened by name they would be refused: they may be sockets.
fn own_stream(path: &Path) -> Option<OwnStream> {
    match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(OwnStream::Stdout),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(OwnStream::Stderr),
        _ => None,
    }
}

impl Place {
    /// Opens it, and nothing else.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(&self, flags: OFlag) -> io::Result<fs::File> {
        let mode = Mode::from_bits_truncate(0o644);
        Ok(openat(&self.dir, self.name.as_os_str(), flags | WARY, mode)?.into())
    }

    /// Moves the backup of this number, or the file itself, to another number.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn renumber(&self, from: Option<u32>, to: u32) -> io::Result<()> {
        let from = from.map_or_else(|| self.name.clone(), |n| self.numbered(n));
        Ok(renameat(&self.dir, from.as_os_str(), &self.dir, self.numbered(to).as_os_str())?)
    }

    fn numbered(&self, n: u32) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{n}"));
        name
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    use super::*;

    #[test]
    fn the_agents_own_streams_are_known_by_their_names_and_by_links_to_them() {
        assert_eq!(own_stream(Path::new("/dev/stdout")), Some(OwnStream::Stdout));
        assert_eq!(own_stream(Path::new("/proc/self/fd/2")), Some(OwnStream::Stderr));
        assert_eq!(own_stream(Path::new("/dev/fd/3")), None);
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("app.log");
        symlink("/dev/stderr", &link).unwrap();
        assert!(matches!(find(&link).unwrap(), Found::Own(OwnStream::Stderr)));
        assert!(find_file(&link).is_err());
    }

    #[test]
    fn a_link_of_ones_own_is_followed_over_others_to_what_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("data")).unwrap();
        symlink("second", path("first")).unwrap();
        symlink("data/real", path("second")).unwrap();
        let place = find_file(&path("first")).unwrap();
        place.open(OFlag::O_WRONLY | OFlag::O_CREAT).unwrap();
        assert!(path("data/real").is_file());
        symlink("round", path("round")).unwrap();
        assert!(find(&path("round")).is_err());
    }

    #[test]
    fn a_link_that_others_may_have_made_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("x.log");
        symlink("secret", &link).unwrap();
        assert!(find(&link).is_ok());
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(find(&link).unwrap_err().to_string().contains("symbolic link"), "{mode:o}");
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if !geteuid().is_root() {
            #[expect(
                clippy::print_stderr,
                reason = "whoever runs the test is told why it did nothing"
            )]
            return eprintln!("skipped: only root can give a link away");
        }
        lchown(&link, Some(65534), Some(65534)).unwrap();
        assert!(find(&link).is_err());
    }
}
