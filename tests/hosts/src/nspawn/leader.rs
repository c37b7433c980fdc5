//! Finding PID 1 of a host, and whatever else runs of it, among what its launcher started.

use std::{fs, iter};

/// Generations between a launcher and the host's PID 1, with room.
const MAX_DEPTH: usize = 8;

/// So much of a command line is shown.
const LINE: usize = 120;

/// The process below `launcher` that is PID 1 of a namespace and a running systemd.
pub(super) fn find(launcher: i32) -> Option<i32> {
    generations(launcher).flatten().find(|pid| is_leader(*pid))
}

/// What runs below `launcher`, one line each: for when a host is neither up nor gone.
pub(super) fn all_below(launcher: i32) -> String {
    let mut lines = String::new();
    for (depth, generation) in generations(launcher).enumerate() {
        for pid in generation {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = |file: &str| String::from_utf8_lossy(&read(file)).replace('\0', " ");
            let stat = text("stat");
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            let (wait, line) = (text("wchan"), text("cmdline"));
            let line: String = line.chars().take(LINE).filter(|c| *c != '\n').collect();
            lines += &format!("{depth} {pid} {} {wait} {line}\n", state.unwrap_or('?'));
        }
    }
    lines
}

/// `launcher` alone, its children, theirs.
fn generations(launcher: i32) -> impl Iterator<Item = Vec<i32>> {
    let next = |of: &Vec<i32>| Some(of.iter().copied().flat_map(children).collect());
    iter::successors(Some(vec![launcher]), next).take(MAX_DEPTH)
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
