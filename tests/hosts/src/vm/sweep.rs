//! Guests whose owner was killed: their QEMU and their folder go before the next guest comes.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A guest's folder is this, its owner's pid, `-` and something.
pub(super) const PREFIX: &str = "palisade-vm-";

/// Best effort: what cannot be removed now is tried again by the next.
pub(super) fn dead_owners(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        let dir = entry.path();
        if let Some(pid) = qemu_of(&dir) {
            // It may end by itself this instant.
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
        }
        drop(fs::remove_dir_all(&dir));
    }
}

/// The pid that the folder names, if that process works in this folder.
fn qemu_of(dir: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains(dir.to_str()?).then_some(pid)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes files and starts programs")]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_owner_left_goes_and_what_a_living_one_has_stays() {
        let place = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let dead = place.path().join(format!("{PREFIX}{}-x", ended.id()));
        let living = place.path().join(format!("{PREFIX}{}-x", std::process::id()));
        fs::create_dir_all(&dead).unwrap();
        fs::create_dir_all(&living).unwrap();
        let marker = dead.join("sleeps").display().to_string();
        let mut orphan = std::process::Command::new("sh")
            .args(["-c", "sleep 60; true", &marker])
            .spawn()
            .unwrap();
        fs::write(dead.join("pid"), orphan.id().to_string()).unwrap();
        dead_owners(place.path());
        assert!(!dead.exists() && living.exists());
        assert!(!orphan.wait().unwrap().success());
    }
}
