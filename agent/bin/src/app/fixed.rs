//! What a running agent cannot change: it is told, and left as it is until a restart.

use palisade_agent::{
    config::{self, Settings},
    logs, supervise,
};

/// Keys that differ and that a running agent cannot change.
pub(super) fn fixed(old: &Settings, new: &Settings) -> Vec<String> {
    let checks = [
        ("host", old.host != new.host || old.supervise.cgroup != new.supervise.cgroup),
        ("aws", old.aws != new.aws),
        ("control", is_moved(old, new)),
        ("logs.sink", both_logs(old, new).is_some_and(|(a, b)| a.sink != b.sink)),
        ("logs.compress", both_logs(old, new).is_some_and(|(a, b)| a.compress != b.compress)),
        ("logs.new_relic", both_logs(old, new).is_some_and(|(a, b)| a.new_relic != b.new_relic)),
    ];
    checks.iter().filter(|(_, differs)| *differs).map(|(key, _)| (*key).to_owned()).collect()
}

/// Whether the control socket is to be elsewhere or for others. The socket for Supervisor's tools may change.
pub(super) fn is_moved(old: &Settings, new: &Settings) -> bool {
    (&old.control.socket, &old.control.group) != (&new.control.socket, &new.control.group)
}

fn both_logs<'a>(
    old: &'a Settings,
    new: &'a Settings,
) -> Option<(&'a logs::Settings, &'a logs::Settings)> {
    old.logs.as_ref().zip(new.logs.as_ref())
}

/// The new settings with what a running agent cannot change left as it was, so that all running
/// parts agree about it.
pub(super) fn keep_fixed(old: &Settings, mut new: Settings) -> Settings {
    new.host = old.host.clone();
    new.aws = old.aws.clone();
    new.control = config::Control {
        socket: old.control.socket.clone(),
        group: old.control.group.clone(),
        ..new.control
    };
    new.supervise =
        supervise::Settings { processes: new.supervise.processes, ..old.supervise.clone() };
    if let Some(firewall) = &mut new.firewall {
        firewall.state_dir = old.host.state_dir.join("firewall");
    }
    if let Some(logs) = &mut new.logs {
        logs.state_dir = old.host.state_dir.join("logs");
        if let Some(running) = &old.logs {
            (logs.sink, logs.compress) = (running.sink, running.compress);
            logs.new_relic.clone_from(&running.new_relic);
        }
    }
    if let Some(access) = &mut new.access {
        access.run_dir = old.host.run_dir.clone();
        access.state_dir = old.host.state_dir.join("access");
    }
    if let Some(patch) = &mut new.patch {
        patch.state_dir = old.host.state_dir.join("patch");
    }
    new
}
