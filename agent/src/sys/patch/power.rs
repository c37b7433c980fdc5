//! The host as something that is restarted: why, who would be cut off, and how.

use std::{fs, path::Path};

use super::{
    super::{children::Children, machine, proc},
    cmd, run, run_well, text,
};
use crate::patch::{HostError, Power, RebootNeed, dnf, newer_kernel};

const LOGINCTL: &str = "/usr/bin/loginctl";
const REQUIRED: &str = "/run/reboot-required";
const NEEDS_RESTARTING: &str = "/usr/bin/needs-restarting";

/// This host's power.
#[derive(Clone, Debug)]
pub struct HostPower {
    children: Children,
}

impl HostPower {
    /// Asks and acts through systemd.
    #[must_use]
    pub fn new(children: Children) -> Self {
        Self { children }
    }
}

impl Power for HostPower {
    fn boot(&self) -> String {
        proc::boot_id()
    }

    async fn need(&mut self) -> RebootNeed {
        need(&self.children).await
    }

    async fn sessions(&mut self) -> Vec<String> {
        let list = cmd(LOGINCTL).args(["list-sessions", "--no-legend", "--no-pager"]);
        let Ok(list) = run_well(&self.children, "list sessions", list).await else {
            // Somebody may be there: the restart waits as long as for one who is.
            return vec!["somebody, as logind does not say who is logged in".to_owned()];
        };
        let ids: Vec<&str> = list.lines().filter_map(|l| l.split_whitespace().next()).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let show = cmd(LOGINCTL)
            .args(["show-session", "-p", "Name", "-p", "TTY", "-p", "Class", "-p", "State"])
            .args(&ids);
        // A session that ends in between makes it fail for that one and answer for the others.
        let out = run(&self.children, "ask about sessions", show).await;
        out.map(|o| parse_sessions(&text(&o.stdout))).unwrap_or_default()
    }

    async fn tell(&mut self, text: &str) {
        let wall = cmd("/usr/bin/wall").args([text]);
        if let Err(e) = run_well(&self.children, "tell who is logged in", wall).await {
            tracing::debug!(error = %e, "nobody could be told of the restart");
        }
    }

    async fn restart(&mut self) -> Result<(), HostError> {
        let reboot = cmd("/usr/bin/systemctl").args(["--no-wall", "--no-block", "reboot"]);
        run_well(&self.children, "restart the host", reboot).await.map(drop)
    }
}

/// Sessions of people, by the blocks of `loginctl show-session`.
fn parse_sessions(text: &str) -> Vec<String> {
    let session = |block: &str| {
        let field = |key: &str| {
            block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
        };
        let counts = field("Class").starts_with("user") && field("State") != "closing";
        let place = Some(field("TTY")).filter(|t| !t.is_empty()).unwrap_or("no terminal");
        counts.then(|| format!("{} on {place}", field("Name")))
    };
    text.split("\n\n").filter_map(session).collect()
}

/// Why the host needs a restart: a package asked for it, or a newer kernel is installed.
pub(super) async fn need(children: &Children) -> RebootNeed {
    let mut need = RebootNeed::default();
    if Path::new(REQUIRED).exists() {
        let packages = fs::read_to_string(format!("{REQUIRED}.pkgs")).unwrap_or_default();
        for name in packages.lines().map(str::trim).filter(|n| !n.is_empty()) {
            if !need.packages.iter().any(|p| p == name) {
                need.packages.push(name.to_owned());
            }
        }
        let by = match need.packages.is_empty() {
            true => "a package".to_owned(),
            false => need.packages.join(", "),
        };
        need.reasons.push(format!("{by} asked for it"));
    }
    // A container runs the kernel of its host, whatever is installed in it.
    let is_container = Path::new("/run/systemd/container").exists();
    let running = machine::kernel_release();
    let kernels = installed_kernels();
    let kernels: Vec<&str> = kernels.iter().map(String::as_str).collect();
    if let (false, Some(newest)) = (is_container, newer_kernel(&running, &kernels)) {
        need.reasons.push(format!("kernel {newest} is installed, {running} runs"));
    }
    if !is_container && Path::new(NEEDS_RESTARTING).exists() {
        let ask = cmd(NEEDS_RESTARTING).args(["-r"]);
        if let Ok(out) = run(children, "ask whether a restart is needed", ask).await
            && out.code == Some(1)
        {
            let names = dnf::parse_needs_restarting(&text(&out.stdout));
            need.reasons.push(format!("{} changed", names.join(", ")));
            need.packages.extend(names);
        }
    }
    need
}

fn installed_kernels() -> Vec<String> {
    let Ok(dir) = fs::read_dir("/boot") else { return Vec::new() };
    let names = dir.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter_map(|n| n.strip_prefix("vmlinuz-").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_who_are_still_there_count_as_logged_in() {
        let text = "Name=ann\nTTY=pts/0\nState=active\nClass=user\n\n\
            Name=root\nTTY=\nState=online\nClass=user\n\n\
            Name=bob\nTTY=pts/1\nState=closing\nClass=user\n\n\
            Name=gdm\nTTY=tty1\nState=active\nClass=greeter\n";
        assert_eq!(parse_sessions(text), ["ann on pts/0", "root on no terminal"]);
        assert_eq!(parse_sessions(""), Vec::<String>::new());
    }
}
