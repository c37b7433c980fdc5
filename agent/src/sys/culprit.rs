//! Where a program is from that changed our rules, asked of `/proc` while it may still be there.

use std::fs;

use super::proc;
use crate::firewall::Place;

/// The file and the unit of a process, if it still is the one that the kernel named: numbers are given
/// anew, and a name is cut at 15 bytes by the kernel in both places.
pub(super) fn look(pid: u32, name: &str) -> Option<Place> {
    let id = i32::try_from(pid).ok().filter(|id| *id > 0)?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if comm.trim_end_matches('\n') != name {
        return None;
    }
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let cgroup = proc::cgroup_of(id);
    let unit = cgroup.and_then(|path| path.to_str().and_then(unit_of));
    (exe.is_some() || unit.is_some()).then_some(Place { exe, unit })
}

/// The unit of a cgroup: the last part of its path that is one. A session of a user is a scope.
fn unit_of(path: &str) -> Option<String> {
    let is_unit = |part: &&str| {
        part.rsplit_once('.').is_some_and(|(name, kind)| {
            !name.is_empty() && matches!(kind, "service" | "scope" | "socket" | "timer")
        })
    };
    path.split('/').rfind(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_of_the_path() {
        let cases = [
            ("system.slice/cron.service", Some("cron.service")),
            ("user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            (
                "user.slice/user-0.slice/user@0.service/app.slice/x.service/deeper",
                Some("x.service"),
            ),
            ("system.slice", None),
            ("", None),
        ];
        for (path, unit) in cases {
            assert_eq!(unit_of(path).as_deref(), unit, "{path}");
        }
    }

    #[test]
    fn a_process_is_asked_only_if_its_name_fits() {
        let pid = std::process::id();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let place = look(pid, name.trim_end()).unwrap();
        assert_eq!(place.exe, std::env::current_exe().ok());
        assert_eq!(look(pid, "somebody else"), None);
        assert_eq!(look(u32::MAX, "nobody"), None);
    }
}
