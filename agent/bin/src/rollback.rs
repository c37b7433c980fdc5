//! The way back from a new binary that does not come up.
//!
//! Before an upgrade the agent puts a copy of the binary it runs beside its state, and a note of which
//! binary is about to be tried. The new one takes the note away when it is READY. If it fails before
//! that, the copy takes over: at once where the new one can still say that it failed, else when systemd
//! starts the unit again, whose `launch` script compares the note with the binary at the path. The note
//! stays while the copy runs, so the same binary is not tried again at each start; a package that brings
//! another one no longer fits the note.
//!
//! ```text
//! old ── note, copy, exec ──> new ── READY: no note
//!                              └─ failed or died ──> copy (knows why, says so in `status`)
//! ```

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use palisade_agent::sys::files;

use crate::version::version;

/// The path of the binary that the copy stands in for.
pub(crate) const STANDS_FOR: &str = "PALISADE_BINARY";
/// Why it does.
pub(crate) const BECAUSE: &str = "PALISADE_ROLLED_BACK";
/// Tells a new binary where the way back is, until it is ready.
const ON_TRIAL: &str = "PALISADE_ON_TRIAL";
/// What is said anew at each exec.
pub(crate) const SAID: [&str; 3] = [STANDS_FOR, BECAUSE, ON_TRIAL];

/// The note and the copy of one agent.
#[derive(Clone, Debug)]
pub(crate) struct WayBack {
    dir: PathBuf,
}

impl WayBack {
    /// Below this directory: where `launch` looks, whatever the configuration says.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("upgrade") }
    }

    /// That of a new binary which is not ready yet, if this process is one.
    pub(crate) fn on_trial() -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os(ON_TRIAL)?);
        Some(Self { dir }).filter(|way| way.previous().is_file())
    }

    /// Says to the new binary that it is on trial.
    pub(crate) fn trial(&self) -> (OsString, OsString) {
        (ON_TRIAL.into(), self.dir.clone().into())
    }

    fn note(&self) -> PathBuf {
        self.dir.join("pending")
    }

    /// The copy.
    pub(crate) fn previous(&self) -> PathBuf {
        self.dir.join("previous")
    }

    /// Puts the running binary aside. It may be deleted at its path already: the kernel still has it.
    pub(crate) fn keep(&self) -> io::Result<()> {
        files::ensure_dir(&self.dir, 0o700)?;
        let new = self.unfinished();
        let kept = fs::copy("/proc/self/exe", &new)
            .and_then(|_| fs::set_permissions(&new, fs::Permissions::from_mode(0o700)))
            .and_then(|()| fs::File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, self.previous()));
        if kept.is_err() {
            // A disk that is too full for it needs the room.
            fs::remove_file(&new).unwrap_or_default();
        }
        kept
    }

    fn unfinished(&self) -> PathBuf {
        self.dir.join("previous.new")
    }

    /// Notes that the binary at this path is about to be tried.
    pub(crate) fn will_try(&self, binary: &Path) -> io::Result<()> {
        files::write_atomic(&self.note(), identity(binary)?.as_bytes(), 0o600)
    }

    /// Nobody will go this way: the binary at the path runs. The copy leaves all as it is, or the next
    /// start would try the bad binary again.
    pub(crate) fn is_not_needed(&self) {
        if because().is_some() {
            return;
        }
        for gone in [self.note(), self.previous(), self.unfinished()] {
            if let Err(e) = fs::remove_file(&gone)
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(error = %e, path = %gone.display(), "left over from an upgrade");
            }
        }
    }
}

/// Tells one binary at a path from another. `launch` prints the same by `stat -L -c %i-%Y-%s`.
fn identity(binary: &Path) -> io::Result<String> {
    let meta = fs::metadata(binary)?;
    Ok(format!("{}-{}-{}", meta.ino(), meta.mtime(), meta.size()))
}

/// What the copy is told in its environment.
pub(crate) fn told(binary: &Path, why: &str) -> [(OsString, OsString); 2] {
    [(STANDS_FOR.into(), binary.into()), (BECAUSE.into(), why.into())]
}

/// Why the running program is the copy, if it is.
pub(crate) fn because() -> Option<String> {
    let binary = std::env::var_os(STANDS_FOR)?;
    let why = std::env::var(BECAUSE).unwrap_or_else(|_| "it ended before it was ready".to_owned());
    let path = Path::new(&binary).display();
    let version = version();
    Some(format!("{path} did not come up, palisade {version} runs in its place: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_what_the_launch_script_compares_and_goes_when_the_new_binary_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let way = WayBack::new(dir.path());
        let binary = dir.path().join("palisade");
        fs::copy("/bin/true", &binary).unwrap();
        way.keep().unwrap();
        way.will_try(&binary).unwrap();
        assert!(fs::read(way.previous()).unwrap() == fs::read("/proc/self/exe").unwrap());
        #[expect(clippy::disallowed_methods, reason = "what the script runs")]
        let mut stat = std::process::Command::new("stat");
        let stat = stat.args(["-L", "-c", "%i-%Y-%s"]).arg(&binary).output().unwrap();
        let printed = String::from_utf8(stat.stdout).unwrap();
        assert_eq!(fs::read_to_string(way.note()).unwrap(), printed.trim());
        way.is_not_needed();
        assert!(!way.note().exists() && !way.previous().exists());
    }
}
