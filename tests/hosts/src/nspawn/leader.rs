//! Finding PID 1 of a host among what its launcher started.

use std::fs;

/// Generations between a launcher and the host's PID 1, with room.
const MAX_DEPTH: u32 = 8;

/// The process below `launcher` that is PID 1 of a namespace and a running systemd.
pub(super) fn find(launcher: i32) -> Option<i32> {
    let mut generation = vec![launcher];
    for _ in 0..MAX_DEPTH {
        if let Some(found) = generation.iter().copied().find(|pid| is_leader(*pid)) {
            return Some(found);
        }
        generation = generation.into_iter().flat_map(children).collect();
    }
    None
}

fn is_leader(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    field("Name:") == "systemd" && field("NSpid:").ends_with("\t1")
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect()
}
