//! From facts to findings, area by area.

use super::{Asked, Cgroups, Disk, Facts, Finding, Level, Tool, Wanted, Whose};

/// A disk with less than this share free is told, and one with less than this many bytes.
const LOW_SHARE: u64 = 20;
const LOW_BYTES: u64 = 1 << 30;
/// Less than this: the spool, patches and logs are about to fail.
const EMPTY_BYTES: u64 = 64 << 20;
/// Requests to AWS are refused when the clock is five minutes wrong.
const WRONG_CLOCK_SECS: u64 = 60;

/// Everything found, in order of area; what is good too.
#[must_use]
pub fn findings(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut out = Findings::default();
    configuration(&mut out, facts);
    kernel(&mut out, facts);
    cgroups(&mut out, &facts.cgroups, wanted);
    programs(&mut out, facts, wanted);
    nft(&mut out, facts, wanted);
    sshd(&mut out, facts, wanted);
    nginx(&mut out, facts, wanted);
    origin(&mut out, facts, wanted);
    credentials(&mut out, facts, wanted);
    clock(&mut out, facts);
    facts.disks.iter().for_each(|disk| self::disk(&mut out, disk));
    out.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, area: &'static str, what: impl Into<String>) {
        self.0.push(Finding { area, level: Level::Good, what: what.into(), hint: None });
    }

    fn note(&mut self, area: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        let hint = Some(hint.into());
        self.0.push(Finding { area, level: Level::Note, what: what.into(), hint });
    }

    fn bad(&mut self, area: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        let hint = Some(hint.into());
        self.0.push(Finding { area, level: Level::Bad, what: what.into(), hint });
    }

    /// Bad if it is wanted, else a note.
    fn lacking(
        &mut self,
        is_wanted: bool,
        area: &'static str,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if is_wanted { self.bad(area, what, hint) } else { self.note(area, what, hint) }
    }
}

fn configuration(out: &mut Findings, facts: &Facts) {
    match (&facts.mistakes, facts.agent) {
        (Some(why), _) => out.bad("config", why, "palisade check lists every mistake"),
        (None, Some(pid)) => {
            out.good("config", format!("no mistakes; the agent runs as pid {pid}"))
        }
        (None, None) => out.note(
            "config",
            "no mistakes; no agent answers at the control socket",
            "systemctl start palisade, if it is to run; some of what follows is of this shell only",
        ),
    }
    if !facts.is_root {
        let hint = "run this as root to see all";
        out.note("config", "not run as root: not everything can be seen", hint);
    }
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(out: &mut Findings, facts: &Facts) {
    let release = &facts.kernel.release;
    if let Some(why) = &facts.kernel.no_pidfd {
        let what =
            format!("Linux {release} does not let processes be watched by descriptor: {why}");
        out.bad("kernel", what, "Linux 5.4 or newer is needed, without a filter of pidfd_open");
        return;
    }
    match version(release) {
        Some(v) if v < (5, 7) => out.note(
            "kernel",
            format!("Linux {release} starts programs outside of their cgroup and moves them in"),
            "Linux 5.7 or newer starts them inside",
        ),
        Some(v) if v < (6, 15) => out.good(
            "kernel",
            format!("Linux {release}; how a program ended while no agent ran is told from 6.15 on"),
        ),
        _ => out.good("kernel", format!("Linux {release}")),
    }
}

fn cgroups(out: &mut Findings, cgroups: &Cgroups, wanted: &Wanted) {
    let area = "cgroups";
    let names: Vec<_> = wanted.limited.iter().map(|(name, _)| name.as_str()).collect();
    let is_needed = !names.is_empty();
    let limits = if is_needed {
        format!("; the limits of {} are not in force", names.join(", "))
    } else {
        String::new()
    };
    let without = "what a program started may outlive it, but for its process group with stopasgroup or killasgroup";
    if wanted.no_cgroups {
        let what = format!("off by host.cgroup: {without}{limits}");
        return out.lacking(is_needed, area, what, "remove host.cgroup, or the limits");
    }
    let Some(mount) = &cgroups.mount else {
        let what = format!("cgroup v2 is not mounted: {without}{limits}");
        let hint =
            "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup";
        return out.lacking(is_needed, area, what, hint);
    };
    let Some(dir) = cgroups.dir.as_ref().filter(|_| cgroups.is_delegated) else {
        let (whose, hint) = match cgroups.whose {
            Whose::Agent => (
                "the agent's cgroup is not delegated to it",
                "its unit needs Delegate=yes, as palisade.service has; or name a directory in host.cgroup",
            ),
            Whose::Command => (
                "this shell's cgroup is not delegated, and no agent runs whose could be looked at",
                "start the agent by palisade.service, which has Delegate=yes, and run this again",
            ),
            Whose::Named => (
                "host.cgroup is no cgroup v2 directory that can be written",
                "name a directory below the mount of cgroup v2, or remove it",
            ),
        };
        // Without an agent nobody knows what it would have.
        let is_bad = is_needed && cgroups.whose != Whose::Command;
        let what = format!("{whose} (cgroup v2 is at {}): {without}{limits}", mount.display());
        return out.lacking(is_bad, area, what, hint);
    };
    if cgroups.has_kill {
        out.good(area, format!("programs have their own below {}", dir.display()));
    } else {
        let what = format!(
            "{} has no cgroup.kill: what a program leaves is killed one by one",
            dir.display()
        );
        out.note(area, what, "Linux 5.14 or newer kills all of it at once");
    }
    for controller in ["memory", "cpu", "pids"] {
        let needs =
            |(_, all): &&(String, std::collections::BTreeSet<&str>)| all.contains(controller);
        let who: Vec<_> = wanted.limited.iter().filter(needs).map(|(n, _)| n.as_str()).collect();
        let is_there = cgroups.controllers.contains(controller);
        if is_there && (cgroups.handed_down.contains(controller) || cgroups.whose != Whose::Agent) {
            continue;
        }
        let what = if who.is_empty() {
            format!("no {controller} controller: limits.{controller} would not be in force")
        } else {
            format!(
                "no {controller} controller: limits.{controller} of {} is not in force",
                who.join(", ")
            )
        };
        let hint = if is_there {
            format!("it is there and not handed down: another process sits in {}", dir.display())
        } else {
            format!(
                "Delegate=yes in the unit hands it on; without systemd, +{controller} into cgroup.subtree_control of every cgroup above; with cgroup v1 mounted it may be bound there"
            )
        };
        out.lacking(!who.is_empty(), area, what, hint);
    }
}

fn programs(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    for fault in &facts.programs {
        let what = format!("{}: {}", fault.program, fault.what);
        out.bad("programs", what, "make it, or change the program in palisade.yaml");
    }
    if wanted.other_users && !facts.is_root && facts.agent.is_none() {
        let what = "programs have users of their own, which only an agent of root can make them";
        out.note("programs", what, "run the agent as root");
    }
}

fn nft(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    match &facts.nft {
        Tool::Works => out.good("nft", "the kernel's tables can be read"),
        Tool::Missing => {
            // The agent talks to the kernel itself.
            let hint =
                "apt-get install nftables, or dnf install nftables, to look at rules by hand";
            out.note("nft", "/usr/sbin/nft is not there", hint);
        }
        Tool::Failed(why) => {
            let hint = "CAP_NET_ADMIN is needed, and a kernel with nf_tables";
            out.lacking(wanted.firewall && facts.is_root, "nft", format!("nft fails: {why}"), hint);
        }
    }
}

fn sshd(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    let sshd = &facts.sshd;
    match &sshd.tool {
        Tool::Missing => {
            let hint = "apt-get install openssh-server, or dnf install openssh-server";
            out.lacking(wanted.access, "sshd", "there is no sshd", hint);
        }
        Tool::Failed(why) => {
            let hint = "sshd -t shows it; a login may be impossible after the next restart of sshd";
            out.lacking(facts.is_root, "sshd", format!("its settings cannot be had: {why}"), hint);
        }
        Tool::Works => {
            let asks_us =
                sshd.keys_command.as_deref().is_some_and(|c| c.contains(" authorized-keys "));
            if asks_us || !wanted.access {
                let asks =
                    if asks_us { "it asks for granted keys" } else { "its settings are valid" };
                out.good("sshd", asks);
            } else {
                let what = match &sshd.keys_command {
                    Some(other) => format!("it asks another for keys: {other}"),
                    None => "it does not ask for granted keys".to_owned(),
                };
                out.bad("sshd", what, "palisade access setup");
            }
            for obstacle in sshd.obstacles.iter().filter(|_| wanted.access) {
                out.bad("sshd", obstacle, "a grant for this user opens nothing until then");
            }
        }
    }
}

fn nginx(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    match &facts.nginx {
        Tool::Works => out.good("nginx", "its configuration is valid"),
        Tool::Missing if wanted.nginx || wanted.origin => {
            out.bad("nginx", "the configuration names it and it is not there", "install nginx");
        }
        Tool::Missing => {}
        Tool::Failed(why) => {
            let what = format!("it refuses its configuration: {why}");
            let hint = "nginx -t shows it; the site would not come back after a restart of nginx";
            let is_wanted = wanted.nginx || wanted.origin;
            out.lacking(is_wanted && facts.is_root, "nginx", what, hint);
        }
    }
}

fn origin(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    let Some(faults) = facts.origin.as_ref().filter(|_| wanted.origin) else { return };
    if faults.is_empty() {
        out.good("origin", "each server of nginx asks for the secret, and none hands it on");
    }
    for (what, hint) in faults {
        out.bad("origin", what, hint);
    }
}

fn credentials(out: &mut Findings, facts: &Facts, wanted: &Wanted) {
    match &facts.credentials {
        Some(Asked::Yes(what)) => out.good("aws", what),
        Some(Asked::No(why)) => {
            let hint = "give the instance a role, or set AWS_PROFILE for the agent; \
                        a hop limit of the metadata service may keep containers from it";
            out.lacking(wanted.aws, "aws", why, hint);
        }
        None => out.good("aws", "not configured: nothing is sent anywhere"),
    }
}

fn clock(out: &mut Findings, facts: &Facts) {
    let clock = &facts.clock;
    match (clock.is_synchronised, clock.error) {
        (Some(true), Some(error)) if error.as_secs() >= WRONG_CLOCK_SECS => {
            let what = format!("it may be {} s wrong", error.as_secs());
            out.bad("clock", what, "chronyc tracking, or timedatectl, says why");
        }
        (Some(true), _) => out.good("clock", "something keeps it right"),
        (Some(false), _) => out.note(
            "clock",
            "nothing is known to keep it right",
            "install chrony or enable systemd-timesyncd: AWS refuses a clock that is five minutes \
             wrong, and schedules and grants go by it. In a container the host keeps it",
        ),
        (None, _) => out.note("clock", "the kernel does not tell", "look at timedatectl"),
    }
}

fn disk(out: &mut Findings, disk: &Disk) {
    let Disk { what, path, bytes: (free, all), files: (files_free, files_all), error } = disk;
    let place = format!("{what} at {}", path.display());
    if let Some(error) = error {
        let hint = "the agent makes it when it starts, if it may";
        return out.note("disk", format!("{place}: {error}"), hint);
    }
    let mib = |n: &u64| n >> 20;
    let says = format!("{place}: {} of {} MiB free", mib(free), mib(all));
    let is_low = *free < LOW_BYTES && free.saturating_mul(LOW_SHARE) < *all;
    if *free < EMPTY_BYTES {
        out.bad("disk", says, "make room: what cannot be written is lost or waits");
    } else if *files_all > 0 && files_free.saturating_mul(LOW_SHARE) < *files_all {
        let what = format!("{place}: {files_free} of {files_all} files left");
        out.note("disk", what, "many small files are somewhere: make room before none can be made");
    } else if is_low {
        out.note("disk", says, "make room before it is full");
    } else {
        out.good("disk", says);
    }
}

#[cfg(test)]
mod tests;
