//! Cgroups for one host, in the unified hierarchy and in systemd's old one where there are such. They
//! are ours to remove: nspawn leaves behind what a killed host had.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::wait::try_for;

/// How long the last process of a killed host may take to leave its cgroup.
const EMPTY: Duration = Duration::from_secs(5);

/// The directories of a host with this name; none of them need exist.
pub(super) fn of(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
        let ours = kind == "cgroup2"
            || (kind == "cgroup" && options.split(',').any(|o| o == "name=systemd"));
        ours.then(|| Path::new(at).join(name))
    });
    let mut dirs: Vec<_> = hierarchies.collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// Removes them with all that is below.
pub(super) fn remove(name: &str) {
    for dir in of(name) {
        try_for(EMPTY, || remove_tree(&dir).then_some(()));
    }
}

/// Whether it is gone.
fn remove_tree(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return true };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    fs::remove_dir(dir).is_ok()
}
