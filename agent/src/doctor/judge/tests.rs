//! What is bad, what is a note, and that each says what to do.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::doctor::{Clock, Fault, Kernel, Sshd};

/// A host as it should be.
fn sound() -> Facts {
    let all = || ["memory", "cpu", "pids"].map(str::to_owned).into();
    Facts {
        is_root: true,
        agent: Some(7),
        kernel: Kernel { release: "6.18.5-cloud".to_owned(), no_pidfd: None },
        nft: Tool::Works,
        cgroups: Cgroups {
            mount: Some("/sys/fs/cgroup".into()),
            whose: Whose::Agent,
            dir: Some("/sys/fs/cgroup/system.slice/palisade.service".into()),
            is_delegated: true,
            controllers: all(),
            handed_down: all(),
            has_kill: true,
        },
        sshd: Sshd {
            tool: Tool::Works,
            keys_command: Some("/usr/bin/palisade authorized-keys %u %t %k %f".to_owned()),
            obstacles: Vec::new(),
        },
        nginx: Tool::Works,
        clock: Clock { is_synchronised: Some(true), error: Some(Duration::from_millis(3)) },
        disks: vec![Disk {
            what: "state",
            path: "/var/lib/palisade".into(),
            bytes: (5 << 30, 20 << 30),
            files: (1000, 1100),
            error: None,
        }],
        ..Facts::default()
    }
}

fn everything() -> Wanted {
    Wanted {
        firewall: true,
        access: true,
        aws: true,
        limited: vec![("web".to_owned(), BTreeSet::from(["memory"]))],
        nginx: true,
        ..Wanted::default()
    }
}

fn found(facts: &Facts, wanted: &Wanted, area: &str) -> Vec<(Level, String)> {
    let all = findings(facts, wanted);
    for f in &all {
        assert_eq!(f.level == Level::Good, f.hint.is_none(), "{f:?}");
    }
    all.into_iter().filter(|f| f.area == area).map(|f| (f.level, f.what)).collect()
}

fn worst(facts: &Facts, wanted: &Wanted, area: &str) -> Level {
    found(facts, wanted, area).into_iter().map(|(level, _)| level).max().unwrap_or(Level::Good)
}

#[test]
fn a_sound_host_has_nothing_but_good_findings() {
    let all = findings(&sound(), &everything());
    assert!(all.iter().all(|f| f.level == Level::Good), "{all:?}");
    assert!(all.len() >= 8);
}

#[test]
fn what_is_not_there_is_bad_where_it_is_wanted_and_a_note_elsewhere() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Change); 6] = [
        ("nft", |f| f.nft = Tool::Failed("netlink: not permitted".to_owned())),
        ("sshd", |f| f.sshd.tool = Tool::Missing),
        ("aws", |f| f.credentials = Some(Asked::No("no credentials".to_owned()))),
        ("cgroups", |f| f.cgroups.mount = None),
        ("cgroups", |f| f.cgroups.is_delegated = false),
        ("cgroups", |f| {
            f.cgroups.controllers.remove("memory");
        }),
    ];
    for (area, change) in cases {
        let mut facts = sound();
        change(&mut facts);
        assert_eq!(worst(&facts, &everything(), area), Level::Bad, "{area}");
        assert_eq!(worst(&facts, &Wanted::default(), area), Level::Note, "{area}");
    }
    let refused = Facts { nginx: Tool::Failed("no such file".to_owned()), ..sound() };
    assert_eq!(worst(&refused, &everything(), "nginx"), Level::Bad);
    assert_eq!(worst(&refused, &Wanted::default(), "nginx"), Level::Note);
    let facts = Facts { nginx: Tool::Missing, ..sound() };
    assert_eq!(worst(&facts, &everything(), "nginx"), Level::Bad);
    assert_eq!(found(&facts, &Wanted::default(), "nginx"), []);
}

#[test]
fn limits_that_are_not_in_force_name_their_programs() {
    let mut facts = sound();
    facts.cgroups.handed_down.remove("memory");
    let said = found(&facts, &everything(), "cgroups");
    assert!(said[1].1.contains("limits.memory of web is not in force"), "{said:?}");
    let off = Wanted { no_cgroups: true, ..everything() };
    let said = found(&sound(), &off, "cgroups");
    assert_eq!(said[0].0, Level::Bad);
    assert!(said[0].1.contains("the limits of web are not in force"), "{said:?}");
}

#[test]
fn without_an_agent_the_shells_cgroup_says_little() {
    let mut facts = Facts { agent: None, ..sound() };
    facts.cgroups.whose = Whose::Command;
    facts.cgroups.is_delegated = false;
    assert_eq!(worst(&facts, &everything(), "cgroups"), Level::Note);
    assert_eq!(worst(&facts, &everything(), "config"), Level::Note);
}

#[test]
fn mistakes_and_missing_parts_of_programs_are_bad() {
    let facts = Facts { mistakes: Some("3 mistakes".to_owned()), ..sound() };
    assert_eq!(worst(&facts, &everything(), "config"), Level::Bad);
    let fault = Fault { program: "web".to_owned(), what: "user app is not there".to_owned() };
    let facts = Facts { programs: vec![fault], ..sound() };
    let said = found(&facts, &everything(), "programs");
    assert_eq!(said, [(Level::Bad, "web: user app is not there".to_owned())]);
}

#[test]
fn an_sshd_that_does_not_ask_us_is_bad_where_access_is_wanted() {
    let mut facts = sound();
    facts.sshd.keys_command = Some("/usr/bin/eic".to_owned());
    assert_eq!(worst(&facts, &everything(), "sshd"), Level::Bad);
    assert_eq!(worst(&facts, &Wanted::default(), "sshd"), Level::Good);
    let mut facts = sound();
    facts.sshd.obstacles = vec!["deploy is not among AllowUsers".to_owned()];
    assert_eq!(worst(&facts, &everything(), "sshd"), Level::Bad);
}

#[test]
fn old_kernels_say_what_is_missing() {
    let with = |release: &str| {
        let kernel = Kernel { release: release.to_owned(), no_pidfd: None };
        found(&Facts { kernel, ..sound() }, &everything(), "kernel").remove(0)
    };
    assert_eq!(with("5.4.0-1").0, Level::Note);
    assert!(with("6.1.0-40").1.contains("from 6.15 on"));
    assert_eq!(with("6.18.5").0, Level::Good);
    let kernel = Kernel { no_pidfd: Some("ENOSYS".to_owned()), ..sound().kernel };
    assert_eq!(worst(&Facts { kernel, ..sound() }, &everything(), "kernel"), Level::Bad);
}

#[test]
fn clocks_and_disks_are_told_before_they_fail() {
    let clock = |is_synchronised, secs| {
        let clock = Clock { is_synchronised, error: Some(Duration::from_secs(secs)) };
        worst(&Facts { clock, ..sound() }, &everything(), "clock")
    };
    assert_eq!(clock(Some(true), 0), Level::Good);
    assert_eq!(clock(Some(true), 400), Level::Bad);
    assert_eq!(clock(Some(false), 0), Level::Note);
    let disk = |free: u64, files: (u64, u64)| {
        let disk = Disk { bytes: (free, 100 << 30), files, ..sound().disks.remove(0) };
        worst(&Facts { disks: vec![disk], ..sound() }, &everything(), "disk")
    };
    assert_eq!(disk(50 << 30, (900, 1000)), Level::Good);
    assert_eq!(disk(500 << 20, (900, 1000)), Level::Note);
    assert_eq!(disk(10 << 20, (900, 1000)), Level::Bad);
    assert_eq!(disk(50 << 30, (10, 1000)), Level::Note);
    assert_eq!(disk(50 << 30, (0, 0)), Level::Good);
}

#[test]
fn the_firewall_does_not_need_the_program_nft() {
    let facts = Facts { nft: Tool::Missing, ..sound() };
    assert_eq!(worst(&facts, &everything(), "nft"), Level::Note);
}

#[test]
fn faults_of_a_site_are_bad_where_the_guard_is_wanted() {
    let wanted = Wanted { origin: true, ..everything() };
    let mut facts = sound();
    assert_eq!(found(&facts, &wanted, "origin"), []);
    facts.origin = Some(Vec::new());
    assert_eq!(found(&facts, &wanted, "origin")[0].0, Level::Good);
    facts.origin = Some(vec![("a server is open".to_owned(), "close it".to_owned())]);
    let all = found(&facts, &wanted, "origin");
    assert_eq!(all, [(Level::Bad, "a server is open".to_owned())]);
    assert_eq!(found(&facts, &everything(), "origin"), []);
    facts.nginx = Tool::Missing;
    let only = Wanted { origin: true, ..Wanted::default() };
    assert_eq!(found(&facts, &only, "nginx")[0].0, Level::Bad);
}
