//! The units, as systemd itself reads them: no directive it does not know, and how much they close.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Most exposure of the agent's unit; its programs inherit every lock.
const AGENT: f64 = 4.6;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(name)
}

#[expect(clippy::disallowed_methods, reason = "systemd's own word on the units is asked for")]
fn analyze(args: &[&str], unit: &Path) -> Option<Output> {
    Command::new("systemd-analyze").args(args).arg(unit).env("NO_COLOR", "1").output().ok()
}

#[expect(clippy::print_stdout, reason = "the count of skipped tests reads it")]
fn skip() {
    println!("skipped: systemd-analyze is not installed");
}

#[test]
fn the_agents_unit_is_closed_as_far_as_its_programs_allow() {
    let unit = unit("palisade.service");
    let Some(out) = analyze(&["security", "--offline=yes", "--no-pager"], &unit) else {
        return skip();
    };
    let told = String::from_utf8(out.stdout).unwrap();
    let exposure = told.rsplit_once("exposure level for palisade.service: ").unwrap().1;
    let exposure: f64 = exposure.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= AGENT, "{told}");
}

#[test]
fn systemd_knows_every_directive() {
    for name in ["palisade.service", "palisade-firewall.service"] {
        let Some(out) = analyze(&["verify", "--man=no"], &unit(name)) else { return skip() };
        let told = String::from_utf8(out.stderr).unwrap();
        for bad in ["Unknown", "Failed to parse", "Invalid", "ignoring"] {
            assert!(!told.contains(bad), "{name}: {told}");
        }
    }
}

#[test]
fn programs_outlive_the_agent_and_the_agent_is_started_again() {
    let text = std::fs::read_to_string(unit("palisade.service")).unwrap();
    for line in ["Type=notify", "KillMode=process", "Restart=always", "Delegate=yes", "LimitCORE=0"]
    {
        assert!(text.lines().any(|l| l == line), "{line} is missing");
    }
}
