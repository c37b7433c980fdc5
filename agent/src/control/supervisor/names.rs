//! Names as Supervisor's clients give them, to processes; and Supervisor's orders.
//!
//! `web` is the process of that name in the group of that name, `app:web` one of another group, `app:*`
//! and `app:` a whole group. Names are the labels within groups, not the agent's own unique names.

use super::fault::{Code, Fault};
use crate::supervise::Info;

/// What a name means.
#[derive(Debug, PartialEq)]
pub(super) enum Meant<'a> {
    /// One process.
    One(&'a Info),
    /// A whole group, in its order.
    Group(Vec<&'a Info>),
}

/// Group, and process or none for the whole group.
pub(super) fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((group, "" | "*")) => (group, None),
        Some((group, process)) => (group, Some(process)),
        None => (name, Some(name)),
    }
}

/// The name of a process as clients show it.
pub(super) fn full(info: &Info) -> String {
    let (group, label) = (info.spec.group.as_str(), info.spec.label.as_str());
    if group == label { label.to_owned() } else { format!("{group}:{label}") }
}

/// The processes of a group in their order; none if there is no such group.
pub(super) fn group<'a>(all: &'a [Info], name: &str) -> Option<Vec<&'a Info>> {
    let members: Vec<_> =
        by_priority(all).into_iter().filter(|i| i.spec.group.as_str() == name).collect();
    (!members.is_empty()).then_some(members)
}

/// What a name means.
pub(super) fn find<'a>(all: &'a [Info], name: &str) -> Result<Meant<'a>, Fault> {
    let unknown = || Fault::about(Code::BadName, name);
    let (of, process) = split(name);
    match process {
        None => group(all, of).map(Meant::Group).ok_or_else(unknown),
        Some(label) => all
            .iter()
            .find(|i| i.spec.group.as_str() == of && i.spec.label == label)
            .map(Meant::One)
            .ok_or_else(unknown),
    }
}

/// The one process that a name means.
pub(super) fn one<'a>(all: &'a [Info], name: &str) -> Result<&'a Info, Fault> {
    match find(all, name)? {
        Meant::One(info) => Ok(info),
        Meant::Group(_) => Err(Fault::about(Code::BadName, name)),
    }
}

/// In the order in which they start: groups by priority and name, then processes.
pub(super) fn by_priority(all: &[Info]) -> Vec<&Info> {
    let mut order: Vec<_> = all.iter().collect();
    order.sort_by_key(|i| {
        let s = &i.spec;
        (s.group_priority, s.group.as_str(), s.priority, s.label.as_str())
    });
    order
}

/// In the order in which they are listed: by group, then by name.
pub(super) fn by_name(all: &[Info]) -> Vec<&Info> {
    let mut order: Vec<_> = all.iter().collect();
    order.sort_by_key(|i| (i.spec.group.as_str(), i.spec.label.as_str()));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::supervisor::testutil::info;

    fn all() -> Vec<Info> {
        let mut all = vec![info("app", "web"), info("app", "worker"), info("cache", "cache")];
        for (i, (group, own)) in all.iter_mut().zip([(20, 5), (20, 1), (10, 999)]) {
            let mut spec = (*i.spec).clone();
            (spec.group_priority, spec.priority) = (group, own);
            i.spec = spec.into();
        }
        all
    }

    fn names(of: &[&Info]) -> Vec<String> {
        of.iter().map(|i| full(i)).collect()
    }

    #[test]
    fn each_form_of_a_name_means_what_it_does_to_supervisor() {
        let all = all();
        assert!(matches!(find(&all, "cache"), Ok(Meant::One(i)) if i.spec.label == "cache"));
        assert!(matches!(find(&all, "app:web"), Ok(Meant::One(i)) if i.spec.label == "web"));
        for whole in ["app:*", "app:"] {
            let Ok(Meant::Group(members)) = find(&all, whole) else { panic!("{whole}") };
            assert_eq!(names(&members), ["app:worker", "app:web"]);
        }
        for unknown in ["web", "app", "app:x", "x:*", "", ":", "cache:cache:"] {
            let fault = find(&all, unknown).unwrap_err();
            assert_eq!(fault.text, format!("BAD_NAME: {unknown}"));
        }
        assert!(one(&all, "app:*").is_err());
    }

    #[test]
    fn groups_come_by_priority_for_acting_and_by_name_for_listing() {
        let all = all();
        assert_eq!(names(&by_priority(&all)), ["cache", "app:worker", "app:web"]);
        assert_eq!(names(&by_name(&all)), ["app:web", "app:worker", "cache"]);
    }
}
