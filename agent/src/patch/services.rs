//! Which services run code that is gone from the disk, and what is to be done about each. Pure.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::settings::Unit;

/// A process that still runs code which was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The process.
    pub pid: i32,
    /// Its cgroup below the mount: `system.slice/nginx.service`.
    pub cgroup: String,
    /// One of the files.
    pub file: String,
    /// The agent's program that it belongs to, if it does.
    pub program: Option<String>,
    /// Whether it is the agent itself.
    pub is_agent: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Restart a program of the agent and wait until it is ready.
    RestartProgram(String),
    /// Restart a unit and wait until it is up.
    RestartUnit(String),
    /// Have a unit read its configuration and binary anew without ending sessions.
    ReloadUnit(String),
    /// Have the agent replace its binary in place.
    UpgradeAgent,
    /// Nothing: old code runs on until the host is restarted.
    Leave {
        /// What runs it.
        name: String,
        /// Why it is left.
        why: String,
    },
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The program, unit or process.
    pub name: String,
    /// What was done.
    #[serde(flatten)]
    pub result: Done,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    /// It runs the new code and is up.
    Restarted,
    /// It read its configuration anew; what it serves already goes on with the old code.
    Reloaded,
    /// The agent replaced its binary; programs went on.
    Upgraded,
    /// It is left alone on purpose.
    Left {
        /// Why.
        why: String,
    },
    /// It was to be restarted and is not up.
    Failed {
        /// Why.
        why: String,
    },
    /// It was to be restarted, but one before it failed.
    Skipped {
        /// Which.
        after: String,
    },
}

impl Outcome {
    /// Whether somebody must look at it.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self.result {
            Done::Failed { .. } | Done::Skipped { .. } => true,
            Done::Restarted | Done::Reloaded | Done::Upgraded | Done::Left { .. } => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.result {
            Done::Restarted => write!(f, "{name}: restarted"),
            Done::Reloaded => write!(f, "{name}: reloaded"),
            Done::Upgraded => write!(f, "{name}: upgraded in place"),
            Done::Left { why } => write!(f, "{name}: left alone: {why}"),
            Done::Failed { why } => write!(f, "{name}: {why}"),
            Done::Skipped { after } => write!(f, "{name}: not restarted, since {after} failed"),
        }
    }
}

/// The agent's own unit: it is upgraded in place and never restarted.
const AGENT: &str = "palisade.service";
/// The unit that a run itself is in.
pub const RUN: &str = "palisade-patch.service";
/// Units whose restart would end sessions; they are told to reload.
const RELOAD: [&str; 2] = ["ssh.service", "sshd.service"];
/// Units whose restart cuts off people, the network, or what others stand on.
const NEVER: [&str; 28] = [
    "dbus",
    "dbus-broker",
    "systemd-logind",
    "systemd-networkd",
    "systemd-resolved",
    "systemd-journald",
    "systemd-udevd",
    "networking",
    "ifup@",
    "cloud-init",
    "cloud-config",
    "cloud-final",
    "iscsid",
    "multipathd",
    "NetworkManager",
    "wpa_supplicant",
    "getty@",
    "serial-getty@",
    "console-getty",
    "user@",
    "gdm",
    "gdm3",
    "lightdm",
    "sddm",
    "docker",
    "containerd",
    "podman",
    "libvirtd",
];

/// What to do about these processes: each program and unit once. First what `order` names, in that
/// order, then other units by name, the agent last, so that it is there while programs restart.
#[must_use]
pub fn actions(stale: &[Stale], order: &[Unit], leave: &[String]) -> Vec<Action> {
    let mut wanted: BTreeSet<Unit> = BTreeSet::new();
    let mut left: BTreeSet<(String, String)> = BTreeSet::new();
    let mut agent = false;
    for s in stale {
        if s.is_agent {
            agent = true;
        } else if let Some(program) = &s.program {
            wanted.insert(Unit::Program(program.clone()));
        } else {
            match unit_of(&s.cgroup) {
                Some(RUN) => {}
                Some(unit) => drop(wanted.insert(Unit::Systemd(unit.to_owned()))),
                None => drop(left.insert(outside(s))),
            }
        }
    }
    let mut found = Vec::new();
    for unit in order {
        if wanted.remove(unit) {
            found.push(act(unit.clone(), leave));
        }
    }
    found.extend(wanted.into_iter().map(|u| act(u, leave)));
    if agent {
        found.push(Action::UpgradeAgent);
    }
    found.extend(left.into_iter().map(|(name, why)| Action::Leave { name, why }));
    found
}

fn act(unit: Unit, leave: &[String]) -> Action {
    let unit = match unit {
        Unit::Program(name) => return Action::RestartProgram(name),
        Unit::Systemd(unit) => unit,
    };
    let why = if leave.contains(&unit) {
        "the configuration says so"
    } else if unit == AGENT {
        "it is started by the agent and belongs to no program"
    } else if is_never(&unit) {
        "its restart would cut off people or other services"
    } else if RELOAD.contains(&unit.as_str()) {
        return Action::ReloadUnit(unit);
    } else {
        return Action::RestartUnit(unit);
    };
    Action::Leave { name: unit, why: why.to_owned() }
}

fn is_never(unit: &str) -> bool {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    NEVER.iter().any(|n| name == *n || (n.ends_with('@') && name.starts_with(n)))
}

/// A process that belongs to no service.
fn outside(s: &Stale) -> (String, String) {
    let place = if s.cgroup.starts_with("user.slice") {
        "a session of a user"
    } else if s.cgroup == "init.scope" {
        "systemd itself"
    } else {
        "no service"
    };
    (format!("process {}", s.pid), format!("{place} still runs {}", s.file))
}

/// The service that a cgroup is of. User sessions have services of their own below `user@`: those are
/// the user's.
#[must_use]
pub fn unit_of(cgroup: &str) -> Option<&str> {
    let mut parts = cgroup.split('/').filter(|p| !p.is_empty());
    if cgroup.trim_start_matches('/').starts_with("user.slice") {
        return parts.find(|p| p.starts_with("user@"));
    }
    parts.find(|p| p.ends_with(".service"))
}

/// The files of one `/proc/PID/maps` that run and are gone from the disk. Memory without a file, devices
/// and scratch files do not count.
#[must_use]
pub fn deleted_code(maps: &str) -> Option<&str> {
    const NOT_FILES: [&str; 6] = ["/memfd:", "/dev/", "/SYSV", "/[aio]", "/tmp/", "/run/"];
    maps.lines().find_map(|line| {
        let path = line.strip_suffix(" (deleted)")?;
        let mode = path.split_ascii_whitespace().nth(1)?;
        let at = path.find('/')?;
        let file = path.get(at..)?;
        let counts = mode.contains('x') && !NOT_FILES.iter().any(|n| file.starts_with(n));
        counts.then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stale(cgroup: &str) -> Stale {
        Stale {
            pid: 7,
            cgroup: cgroup.into(),
            file: "/usr/lib/libc.so.6".into(),
            program: None,
            is_agent: false,
        }
    }

    fn program(name: &str) -> Stale {
        Stale { program: Some(name.into()), ..stale("system.slice/palisade.service/programs") }
    }

    #[test]
    fn each_service_is_restarted_once_first_in_the_declared_order_and_the_agent_last() {
        let agent = Stale { is_agent: true, ..stale("system.slice/palisade.service") };
        let found = actions(
            &[
                agent,
                stale("system.slice/b.service"),
                stale("system.slice/system-x.slice/x@1.service"),
                stale("system.slice/b.service/sub"),
                program("web"),
                program("worker"),
                program("web"),
                stale("system.slice/palisade-patch.service"),
            ],
            &[
                Unit::Program("worker".into()),
                Unit::Systemd("x@1.service".into()),
                Unit::Program("web".into()),
                Unit::Program("not-affected".into()),
            ],
            &[],
        );
        assert_eq!(
            found,
            [
                Action::RestartProgram("worker".into()),
                Action::RestartUnit("x@1.service".into()),
                Action::RestartProgram("web".into()),
                Action::RestartUnit("b.service".into()),
                Action::UpgradeAgent,
            ]
        );
    }

    #[test]
    fn ssh_is_only_reloaded_and_what_others_stand_on_is_left() {
        let found = actions(
            &[
                stale("system.slice/ssh.service"),
                stale("system.slice/dbus.service"),
                stale("system.slice/system-getty.slice/getty@tty1.service"),
                stale("user.slice/user-0.slice/user@0.service/app.slice/x.service"),
                stale("user.slice/user-0.slice/session-3.scope"),
                stale("init.scope"),
                stale("system.slice/mine.service"),
                stale("system.slice/palisade.service/orphans"),
            ],
            // Not even on request.
            &[Unit::Systemd("dbus.service".into())],
            &["mine.service".to_owned()],
        );
        let left: Vec<_> = found
            .iter()
            .filter_map(|a| match a {
                Action::Leave { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(
            left,
            [
                "dbus.service",
                "getty@tty1.service",
                "mine.service",
                "palisade.service",
                "user@0.service",
                "process 7",
                "process 7"
            ]
        );
        assert!(found.contains(&Action::ReloadUnit("ssh.service".into())));
        assert_eq!(found.len(), 8);
    }

    #[test]
    fn only_code_of_files_that_are_gone_counts() {
        let line =
            |mode: &str, path: &str| format!("7f00-7f01 {mode} 00000000 00:1f 42   {path}\n");
        let gone = line("r-xp", "/usr/lib/x86_64-linux-gnu/libfoo.so.1.0 (deleted)");
        assert_eq!(deleted_code(&gone), Some("/usr/lib/x86_64-linux-gnu/libfoo.so.1.0"));
        for not in [
            line("r--p", "/usr/lib/libfoo.so.1 (deleted)"),
            line("r-xp", "/usr/lib/libfoo.so.1"),
            line("rwxs", "/memfd:jit (deleted)"),
            line("r-xp", "/dev/zero (deleted)"),
            line("rwxp", ""),
            line("r-xp", "/tmp/ffi1234 (deleted)"),
        ] {
            assert_eq!(deleted_code(&not), None, "{not}");
        }
    }
}
