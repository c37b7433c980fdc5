//! What chores need of the machine: time, files, and who we are. A chore is a short-lived program
//! of its own, so it may wait and look at the clock where the agent may not.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a chore measures real time and has no paused tests")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, for what two processes must agree on.
#[expect(clippy::disallowed_methods, reason = "the monotonic clock cannot be handed to another")]
pub(crate) fn unix_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits. Only between two looks at something real, or to let a measured span pass.
#[expect(clippy::disallowed_methods, reason = "chores run on plain threads")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Writes a file of a temporary world, or of the source tree by request.
#[expect(clippy::disallowed_methods, reason = "nothing here has to survive a power cut")]
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Looks again and again until `probe` has an answer, at most for `cap`. What it said last is the
/// reason when time runs out.
pub(crate) fn wait_until<T>(
    what: &str,
    cap: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let end = now() + cap;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(e) if now() >= end => {
                return Err(e.context(format!("{what}: not within {:.1} s", cap.as_secs_f64())));
            }
            Err(_) => pause(Duration::from_millis(2)),
        }
    }
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ends with a clear word where root is needed.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("{what} needs root (network namespaces, packages): run it as root, for example `sudo -E`")
}

/// The workspace's own directory.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The program that is running: it starts itself again inside a namespace to look out from there.
pub(crate) fn own_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find our own program")?;
    // Cargo may have built us anew meanwhile, as it does for our own tests: the new one is at the path.
    let path = program.to_string_lossy();
    match path.strip_suffix(" (deleted)") {
        Some(path) if !program.exists() => Ok(PathBuf::from(path)),
        _ => Ok(program),
    }
}

/// Whether any user may walk through every directory above `path`.
pub(crate) fn open_to_all(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter(|dir| !dir.as_os_str().is_empty())
        .all(|dir| fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// Copies a directory with all that is below it.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("copy to {}", target.display()))?;
        }
    }
    Ok(())
}

/// Every file below `dir`; none if it is not there.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("list {}", dir.display())),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_told_when_time_runs_out() {
        let mut looks = 0;
        let e = wait_until("five looks", Duration::from_millis(20), || -> Result<()> {
            looks += 1;
            bail!("look {looks}")
        })
        .unwrap_err();
        assert!(format!("{e:#}").starts_with("five looks: not within 0.0 s: look "), "{e:#}");
        assert!(looks > 1);
    }

    #[test]
    fn a_closed_directory_above_is_seen() {
        assert!(open_to_all(Path::new("/usr/bin/env")));
        let dir = std::env::temp_dir().join(format!("xtask-closed-{}", std::process::id()));
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!open_to_all(&dir.join("in/file")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
