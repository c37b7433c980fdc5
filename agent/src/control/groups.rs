//! Groups as Supervisor's tools see them: all of a group is in force or nothing of it is.
//!
//! The agent itself compares process by process and restarts only what changed; these are for tools that
//! read the configuration, ask what differs, and then take groups out and put them in.

use std::{collections::BTreeMap, path::Path};

use crate::supervise::{Limits, ProcessSpec};

/// How the groups of a configuration differ from those in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChanges {
    /// New, in the order in which they start.
    pub added: Vec<String>,
    /// In force with other settings, in the order in which they start.
    pub changed: Vec<String>,
    /// In force, and no longer configured.
    pub removed: Vec<String>,
}

/// Why a group was not put in force or taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefusal {
    /// There is no such group.
    #[error("no such group")]
    Unknown,
    /// It is in force.
    #[error("already in force")]
    AlreadyThere,
    /// Some of its processes run.
    #[error("still running")]
    StillRunning,
    /// The agent is busy or stopping.
    #[error("the agent is busy or stopping")]
    Busy,
}

type Groups<'a> = BTreeMap<&'a str, Vec<&'a ProcessSpec>>;

fn groups(all: &[ProcessSpec]) -> Groups<'_> {
    let mut out = Groups::new();
    for spec in all {
        out.entry(spec.group.as_str()).or_default().push(spec);
    }
    out.values_mut().for_each(|members| members.sort_by(|a, b| a.label.cmp(&b.label)));
    out
}

fn in_order(groups: &Groups<'_>, mut names: Vec<&str>) -> Vec<String> {
    let first =
        |name: &str| groups.get(name).and_then(|m| m.iter().map(|s| s.group_priority).min());
    names.sort_by_key(|name| (first(name), *name));
    names.into_iter().map(str::to_owned).collect()
}

/// What `serverurl` is for programs that name none, where Supervisor's tools are served.
#[must_use]
pub fn own_url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Leaves our own `serverurl` as it is in force: that the socket is to be elsewhere one day changes no group.
pub fn keep_own_url(processes: &mut [ProcessSpec], in_force: Option<&Path>, read: Option<&Path>) {
    let ours = read.map(own_url);
    for process in processes.iter_mut().filter(|p| p.serverurl == ours) {
        process.serverurl = in_force.map(own_url);
    }
}

/// The difference between what is in force and what is configured. Every setting counts; names that only
/// the agent has do not.
#[must_use]
pub fn group_changes(active: &[ProcessSpec], read: &[ProcessSpec]) -> GroupChanges {
    let (active, read) = (groups(active), groups(read));
    let added = read.keys().filter(|g| !active.contains_key(*g)).copied().collect();
    let is_same = |old: &ProcessSpec, new: &ProcessSpec| {
        let (name, program) = (old.name.clone(), old.program.clone());
        // Supervisor's own least of open files: it is not looked at for a running program either.
        let limits = Limits { nofile_min: old.limits.nofile_min, ..new.limits };
        *old == ProcessSpec { name, program, limits, ..new.clone() }
    };
    let differs = |(group, members): &(&&str, &Vec<&ProcessSpec>)| {
        active.get(**group).is_some_and(|old| {
            old.len() != members.len() || !old.iter().zip(*members).all(|(a, b)| is_same(a, b))
        })
    };
    let changed = read.iter().filter(differs).map(|(group, _)| *group).collect();
    let removed = active.keys().filter(|g| !read.contains_key(*g)).copied().collect();
    GroupChanges {
        added: in_order(&read, added),
        changed: in_order(&read, changed),
        removed: in_order(&active, removed),
    }
}

/// What is to be in force once a group of the configuration is put in.
///
/// # Errors
/// When there is no such group, or it is in force.
pub fn with_group(
    active: &[ProcessSpec],
    read: &[ProcessSpec],
    group: &str,
) -> Result<Vec<ProcessSpec>, GroupRefusal> {
    let members: Vec<_> = read.iter().filter(|s| s.group.as_str() == group).collect();
    if members.is_empty() {
        return Err(GroupRefusal::Unknown);
    }
    if active.iter().any(|s| s.group.as_str() == group) {
        return Err(GroupRefusal::AlreadyThere);
    }
    Ok(active.iter().chain(members).cloned().collect())
}

/// What is to be in force once a group is taken out.
///
/// # Errors
/// When it is not in force.
pub fn without_group(
    active: &[ProcessSpec],
    group: &str,
) -> Result<Vec<ProcessSpec>, GroupRefusal> {
    let left: Vec<_> = active.iter().filter(|s| s.group.as_str() != group).cloned().collect();
    if left.len() == active.len() { Err(GroupRefusal::Unknown) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::supervise::testutil::spec;

    fn of(group: &str, name: &str, priority: i32) -> ProcessSpec {
        ProcessSpec { group: group.parse().unwrap(), group_priority: priority, ..spec(name) }
    }

    #[test]
    fn what_only_the_agent_chose_is_no_change() {
        let url = |url: &str| Some(url.to_owned());
        let one = |name| ProcessSpec { label: "00".to_owned(), ..of("a", name, 1) };
        let active = [ProcessSpec { serverurl: url("unix:///s"), ..one("00") }];
        let moved = [ProcessSpec { serverurl: url("unix:///t"), ..one("a.00") }];
        let (s, t) = (Some(Path::new("/s")), Some(Path::new("/t")));
        let changed = |read: Option<&Path>| {
            let mut processes = moved.clone();
            keep_own_url(&mut processes, s, read);
            group_changes(&active, &processes).changed
        };
        assert!(changed(t).is_empty());
        // Somebody's own is a setting like others.
        assert_eq!(changed(s), ["a"]);
    }

    #[test]
    fn a_group_changes_with_any_setting_of_any_member_and_with_their_number() {
        let active =
            [of("a", "a", 1), of("b", "b1", 2), of("b", "b2", 2), of("c", "c", 3), of("g", "g", 4)];
        let later = ProcessSpec { stopwaitsecs: Duration::from_secs(99), ..of("a", "a", 1) };
        let read = [of("z", "z", 0), of("n", "n", 5), later, of("b", "b1", 2), of("c", "c", 3)];
        let changes = group_changes(&active, &read);
        assert_eq!(changes.added, ["z", "n"]);
        assert_eq!(changes.changed, ["a", "b"]);
        assert_eq!(changes.removed, ["g"]);
        assert_eq!(group_changes(&active, &active), GroupChanges::default());
    }

    #[test]
    fn the_order_of_the_files_is_no_change() {
        let (one, two) = (of("a", "x", 1), of("a", "y", 1));
        let changes = group_changes(&[one.clone(), two.clone()], &[two, one]);
        assert_eq!(changes, GroupChanges::default());
    }

    #[test]
    fn groups_are_put_in_and_taken_out_whole() {
        let active = vec![of("a", "a", 1)];
        let read = [of("a", "a", 1), of("b", "b1", 2), of("b", "b2", 2)];
        let with = with_group(&active, &read, "b").unwrap();
        assert_eq!(with.len(), 3);
        assert_eq!(without_group(&with, "b"), Ok(active.clone()));
        assert_eq!(with_group(&active, &read, "a"), Err(GroupRefusal::AlreadyThere));
        assert_eq!(with_group(&active, &read, "x"), Err(GroupRefusal::Unknown));
        assert_eq!(without_group(&active, "b"), Err(GroupRefusal::Unknown));
    }
}
