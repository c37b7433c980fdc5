//! Names as people give them, to processes: `NAME`, `GROUP:*`, `GROUP:NAME`, a program with several
//! processes, or `all`.

use palisade_types::{ProcessName, ProcessState, ProcessStatus};

/// The processes meant by each name, in the order of `all`, each once; or the names that mean none.
///
/// # Errors
/// Every name that means nothing, with what is wrong about it.
pub fn select(all: &[ProcessStatus], names: &[String]) -> Result<Vec<ProcessName>, Vec<Unknown>> {
    let mut unknown = Vec::new();
    let mut meant = vec![false; all.len()];
    for name in names {
        let mut any = false;
        for (status, meant) in all.iter().zip(&mut meant) {
            if matches(status, name) {
                (any, *meant) = (true, true);
            }
        }
        if !any && name != "all" {
            let what = if name.ends_with(":*") { "no such group" } else { "no such process" };
            unknown.push(Unknown { name: name.clone(), what });
        }
    }
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let chosen = all.iter().zip(meant).filter(|(_, meant)| *meant);
    Ok(chosen.map(|(status, _)| status.name.clone()).collect())
}

/// Whether a process is named itself, and not with others.
fn is_named(status: &ProcessStatus, names: &[String]) -> bool {
    names.iter().any(|name| {
        let own = name.rsplit(':').next().unwrap_or_default();
        own == status.name.as_str() || own == status.program.as_str()
    })
}

/// Of those chosen by these names, what a start or restart of several means: `all` does not mean the
/// nightly run.
#[must_use]
pub fn without_scheduled(
    all: &[ProcessStatus],
    names: &[String],
    chosen: Vec<ProcessName>,
) -> Vec<ProcessName> {
    let is_left_out = |name: &ProcessName| {
        all.iter().any(|p| p.name == *name && p.schedule.is_some() && !is_named(p, names))
    };
    chosen.into_iter().filter(|name| !is_left_out(name)).collect()
}

/// Of these, what a replacement of several means: also without what does not run, which there is nothing to
/// replace of.
#[must_use]
pub fn to_replace(chosen: Vec<ProcessStatus>, names: &[String]) -> Vec<ProcessStatus> {
    let is_meant = |p: &ProcessStatus| {
        let runs = p.schedule.is_none() && p.state != ProcessState::Stopped;
        runs || is_named(p, names)
    };
    chosen.into_iter().filter(is_meant).collect()
}

/// A name that means no process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// As given.
    pub name: String,
    /// `no such process` or `no such group`, in Supervisor's words.
    pub what: &'static str,
}

fn matches(status: &ProcessStatus, name: &str) -> bool {
    if name == "all" {
        return true;
    }
    match name.split_once(':') {
        Some((group, "*" | "")) => status.group.as_str() == group,
        Some((group, process)) => status.group.as_str() == group && status.name.as_str() == process,
        None => status.name.as_str() == name || status.program.as_str() == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_replaced_that_run_and_no_nightly_run_is_begun() {
        let names = |all: Vec<ProcessStatus>| -> Vec<String> {
            all.into_iter().map(|p| p.name.to_string()).collect()
        };
        let scheduled = palisade_types::ScheduleStatus {
            when: "0 3 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            next: None,
            last: None,
            skipped: 0,
            missed: 0,
        };
        let all = vec![
            status("web", "web", "web"),
            ProcessStatus { state: ProcessState::Stopped, ..status("off", "off", "off") },
            ProcessStatus { schedule: Some(scheduled), ..status("night", "night", "night") },
        ];
        assert_eq!(names(to_replace(all.clone(), &["all".to_owned()])), ["web"]);
        let named = ["off".to_owned(), "night:night".to_owned()];
        assert_eq!(names(to_replace(all, &named)), ["web", "off", "night"]);
    }

    fn status(group: &str, program: &str, name: &str) -> ProcessStatus {
        ProcessStatus {
            name: name.parse().unwrap(),
            program: program.parse().unwrap(),
            group: group.parse().unwrap(),
            state: ProcessState::Running,
            pid: 1,
            ready: true,
            restarts: 0,
            since: 0,
            exit: None,
            error: None,
            schedule: None,
        }
    }

    fn chosen(names: &[&str]) -> Result<Vec<String>, Vec<Unknown>> {
        let all = [
            status("app", "web", "web"),
            status("app", "worker", "worker_00"),
            status("app", "worker", "worker_01"),
            status("cache", "cache", "cache"),
        ];
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        select(&all, &names).map(|v| v.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_form_means_what_supervisor_users_expect_and_each_process_once() {
        assert_eq!(chosen(&["worker"]).unwrap(), ["worker_00", "worker_01"]);
        assert_eq!(chosen(&["app:*", "web"]).unwrap(), ["web", "worker_00", "worker_01"]);
        assert_eq!(chosen(&["app:worker_01"]).unwrap(), ["worker_01"]);
        assert_eq!(chosen(&["all"]).unwrap().len(), 4);
    }

    #[test]
    fn one_wrong_name_stops_the_whole_request() {
        let wrong = chosen(&["web", "wep", "ap:*"]).unwrap_err();
        let told: Vec<_> = wrong.iter().map(|u| (u.name.as_str(), u.what)).collect();
        assert_eq!(told, [("wep", "no such process"), ("ap:*", "no such group")]);
    }
}
