//! The Debian package on a real host: installed, installed again, upgraded under load, taken back,
//! removed, killed in the middle.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests on real time, which print figures and why they were skipped"
)]

mod common;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use common::{
    debs_or_skip,
    load::Load,
    site::{self, CONFIG, CONFIG_PATH, agent_pid, install, installed, pids, wait_ready},
};
use palisade_hosts::{
    exec::Cmd,
    nspawn::Host,
    packages::{NEW, OLD, Packages},
};

fn package_state(host: &Host) -> String {
    host.ok("dpkg-query -W -f '${db:Status-Status} ${Version}' palisade")
}

fn version_in_status(host: &Host) -> String {
    let text = host.ok("palisade status");
    let words = text.split_once("palisade ").unwrap().1;
    words.split(',').next().unwrap().to_owned()
}

#[test]
fn an_installed_agent_is_ready_and_its_places_are_closed_to_others() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("install", &packages);
    let show = |name| host.property("palisade.service", name);
    assert_eq!((show("ActiveState"), show("Type")), ("active".into(), "notify".into()));
    assert_eq!(show("NRestarts"), "0");
    let text = host.journal("palisade.service");
    assert!(text.contains("Started palisade.service"), "{text}");
    let places =
        host.ok("stat -c '%a %U %G' /run/palisade /run/palisade/control.sock /var/lib/palisade");
    assert_eq!(places, "755 root root\n660 root palisade\n700 root root\n");
    host.ok(
        "systemctl is-enabled palisade.service palisade-firewall.service && systemctl --failed",
    );
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");

    // Who is in the group may ask, others may not.
    host.ok("useradd -m -G palisade in && useradd -m out");
    assert!(host.ok("runuser -u in -- palisade status").contains("running"));
    assert_eq!(host.run("runuser -u out -- palisade status").code(), Some(4));
}

#[test]
fn without_a_configuration_it_is_installed_and_waits_for_one() {
    let Some(packages) = debs_or_skip() else { return };
    let host = Host::boot(None, site::with_debs("bare", &packages));
    host.ok(&format!("mv {CONFIG_PATH} /root/"));
    install(&host, "/root/old.deb");
    assert_eq!(package_state(&host), format!("installed {OLD}-1"));
    assert_eq!(host.property("palisade.service", "ActiveState"), "inactive");
    assert_eq!(host.property("palisade.service", "ConditionResult"), "no");
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");
    assert!(!host.run(&format!("test -e {CONFIG_PATH}")).success(), "not ours to make");
    host.ok(&format!("mv /root/palisade.yaml {CONFIG_PATH} && systemctl start palisade"));
    wait_ready(&host);
}

#[test]
fn installing_the_same_version_again_restarts_no_program() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("again", &packages);
    let (agent, before) = (agent_pid(&host), pids(&host));
    install(&host, "/root/old.deb");
    assert_eq!((agent_pid(&host), wait_ready(&host)), (agent, before));
}

#[test]
fn an_upgrade_under_load_keeps_every_process_and_fails_no_request() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("upgrade", &packages);
    let (agent, before) = (agent_pid(&host), pids(&host));
    assert_eq!(version_in_status(&host), OLD);
    let load = Load::start(&host);
    let said = install(&host, "/root/new.deb");
    assert_eq!(wait_ready(&host), before, "{said}");
    let result = load.end();
    println!("upgraded under load: {} requests, {} failed", result.sent, result.failed);
    assert!(result.sent > 50 && result.failed == 0, "{result:?}");
    assert_eq!(result.pids, [before["web"]]);
    assert_eq!(agent_pid(&host), agent);
    assert_eq!(host.property("palisade.service", "NRestarts"), "0");
    site::assert_no_line_lost_or_doubled(&host);
    assert_eq!(package_state(&host), format!("installed {NEW}-1"));
    assert_eq!(version_in_status(&host), NEW, "{said}");
}

#[test]
fn an_upgrade_leaves_the_administrators_files_alone_and_asks_nothing() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("edited", &packages);
    let edited = format!("{CONFIG}# edited by hand\n");
    host.write(CONFIG_PATH, &edited);
    host.ok("mkdir -p /etc/systemd/system/palisade.service.d");
    let own = "[Service]\nLimitNOFILE=4096\n";
    host.write("/etc/systemd/system/palisade.service.d/own.conf", own);
    let said = install(&host, "/root/new.deb");
    assert!(!said.contains("onfiguration file"), "{said}");
    assert_eq!(host.read(CONFIG_PATH), edited);
    assert_eq!(host.read("/etc/systemd/system/palisade.service.d/own.conf"), own);
    assert_eq!(host.ok("dpkg-query -W -f '${Conffiles}' palisade").trim(), "");
    wait_ready(&host);
}

#[test]
fn stopped_disabled_and_masked_stay_so_over_an_upgrade() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("states", &packages);
    let state = || {
        let out = host.run("systemctl is-enabled palisade; systemctl is-active palisade");
        out.stdout.replace('\n', " ")
    };
    let other = ["/root/new.deb", "/root/old.deb"];
    for (n, (change, wanted)) in [
        ("systemctl stop palisade", "enabled inactive "),
        ("systemctl disable palisade", "disabled inactive "),
        ("systemctl mask palisade", "masked inactive "),
    ]
    .into_iter()
    .enumerate()
    {
        host.ok(change);
        install(&host, other[n % 2]);
        assert_eq!(state(), wanted, "after `{change}` and an upgrade");
    }
}

/// The next version with a script in place of the binary, which lies beside it as `palisade.real`.
fn package_with(packages: &Packages, dir: &Path, script: &str) -> PathBuf {
    let (tree, bad) = (dir.join("tree"), dir.join("bad.deb"));
    Cmd::new("dpkg-deb").arg("-R").arg(packages.deb(NEW)).arg(&tree).run().unwrap();
    let binary = tree.join("usr/bin/palisade");
    std::fs::rename(&binary, binary.with_extension("real")).unwrap();
    std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pack = Cmd::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]);
    pack.args([&tree, &bad]).run().unwrap();
    bad
}

#[test]
fn a_new_binary_that_does_not_run_leaves_the_old_agent_serving() {
    let Some(packages) = debs_or_skip() else { return };
    let dir = tempfile::tempdir().unwrap();
    let bad = package_with(&packages, dir.path(), "exit 1");

    let host = installed("bad", &packages);
    let (agent, before) = (agent_pid(&host), pids(&host));
    host.copy_in(&bad, "/root/bad.deb");
    let load = Load::start(&host);
    let said = install(&host, "/root/bad.deb");
    let result = load.end();
    assert!(said.contains("NOT UPGRADED"), "{said}");
    assert_eq!((result.failed, agent_pid(&host)), (0, agent), "{result:?}");
    assert_eq!(result.pids, [before["web"]]);

    // The next good package is taken, as if nothing had been.
    install(&host, "/root/new.deb");
    assert_eq!((wait_ready(&host), agent_pid(&host)), (before, agent));
    assert_eq!(version_in_status(&host), NEW);
}

#[test]
fn a_new_binary_that_dies_before_it_is_ready_gives_way_to_the_one_before() {
    let Some(packages) = debs_or_skip() else { return };
    let dir = tempfile::tempdir().unwrap();
    // It passes every check beforehand and answers as a command; only the agent dies.
    let script = "[ \"$1\" = run ] && kill -SEGV $$\nexec /usr/bin/palisade.real \"$@\"";
    let bad = package_with(&packages, dir.path(), script);
    let host = installed("dies", &packages);
    let before = pids(&host);
    host.copy_in(&bad, "/root/bad.deb");
    let load = Load::start(&host);
    let said = install(&host, "/root/bad.deb");
    let result = load.end();
    assert!(said.contains("NOT UPGRADED") && said.contains("did not come up"), "{said}");
    assert_eq!((result.failed, wait_ready(&host)), (0, before.clone()), "{result:?}");
    assert_eq!(version_in_status(&host), OLD);
    // Nor is it tried again at the next start.
    host.ok("systemctl restart palisade");
    let again = wait_ready(&host);
    assert_eq!(version_in_status(&host), OLD);

    install(&host, "/root/new.deb");
    assert_eq!((wait_ready(&host), version_in_status(&host)), (again, NEW.to_owned()));
    let left = host.ok("ls /var/lib/palisade/upgrade");
    assert!(left.trim().is_empty(), "{left}");
}

#[test]
fn an_older_version_takes_over_as_gently_as_a_newer_one() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("down", &packages);
    install(&host, "/root/new.deb");
    let (agent, before) = (agent_pid(&host), wait_ready(&host));
    let said = install(&host, "/root/old.deb");
    assert!(said.contains("downgrading palisade"), "{said}");
    assert_eq!((wait_ready(&host), agent_pid(&host)), (before, agent));
    assert_eq!(version_in_status(&host), OLD);
}

#[test]
fn an_image_that_it_was_installed_into_serves_from_its_first_boot() {
    let Some(packages) = debs_or_skip() else { return };
    // As an image is made: no systemd runs, and policy forbids to start anything.
    let options = site::with_debs("image", &packages)
        .script("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
        .before_boot("dpkg -i /root/old.deb")
        .before_boot("test -z \"$(pgrep -x palisade)\"")
        .before_boot("rm /usr/sbin/policy-rc.d");
    let host = Host::boot(None, options);
    wait_ready(&host);
    assert_eq!(package_state(&host), format!("installed {OLD}-1"));
    let places =
        host.ok("stat -c '%a %U %G' /run/palisade /run/palisade/control.sock /var/lib/palisade");
    assert_eq!(places, "755 root root\n660 root palisade\n700 root root\n");
    let (agent, before) = (agent_pid(&host), pids(&host));
    install(&host, "/root/new.deb");
    assert_eq!((agent_pid(&host), wait_ready(&host)), (agent, before));
}

#[test]
fn dpkg_tells_a_changed_binary_from_a_whole_one() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("verify", &packages);
    let told = |line: &str| {
        let out = host.run("dpkg -V palisade").stdout;
        out.lines().filter(|l| l.contains(line)).count()
    };
    assert_eq!(host.run("dpkg -V palisade | grep -v /usr/share/").stdout, "");
    host.ok("printf x >> /usr/lib/palisade/launch");
    assert_eq!((told("/usr/lib/palisade/launch"), told("/usr/bin/palisade")), (1, 0));
}

#[test]
fn removal_leaves_a_sound_host_and_purge_leaves_only_what_people_wrote() {
    let Some(packages) = debs_or_skip() else { return };
    let host = installed("remove", &packages);
    let web = pids(&host)["web"];
    // What enrolment for SSH grants writes: it names a program that is about to go.
    let drop_in = "/etc/ssh/sshd_config.d/50-palisade.conf";
    host.write(
        drop_in,
        "AuthorizedKeysCommand /usr/bin/palisade authorized-keys %u %t %k %f\n\
                         AuthorizedKeysCommandUser root\n",
    );
    host.ok("sshd -t && systemctl reload ssh");
    host.ok("dpkg -r palisade 2>&1");
    assert!(!host.run(&format!("test -e {drop_in}")).success());
    assert_eq!(package_state(&host), format!("config-files {OLD}-1"));
    assert!(!host.run(&format!("kill -0 {web}")).success(), "programs end with the agent");
    assert!(host.run("nft list table inet palisade").success(), "a removal opens no port");
    host.ok("sshd -t && nginx -t");
    host.ok(&format!("test -e {CONFIG_PATH} && test -d /var/lib/palisade"));
    assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");

    host.ok("dpkg --purge palisade 2>&1");
    assert!(!host.run("nft list table inet palisade").success());
    let left = host
        .ok("find / -xdev -path /proc -prune -o -path /root -prune -o -name '*palisade*' -print");
    assert_eq!(left, format!("/etc/palisade\n{CONFIG_PATH}\n"));
    host.ok("systemctl daemon-reload");
    assert_eq!(host.run("systemctl is-enabled palisade").stdout.trim(), "");

    // And back again, without a mask or a state that stands in the way.
    install(&host, "/root/new.deb");
    wait_ready(&host);
}

/// Runs dpkg and kills it when it says that the package is in this state.
const KILLER: &str = r#"
import os, signal, subprocess, sys
state, deb = sys.argv[1:]
r, w = os.pipe()
dpkg = subprocess.Popen(["dpkg", "--status-fd", str(w), "-i", deb], pass_fds=[w],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
os.close(w)
for line in os.fdopen(r):
    if line.strip() == f"status: palisade: {state}":
        os.killpg(dpkg.pid, signal.SIGKILL)
        break
dpkg.wait()
"#;

/// What docs and dpkg itself tell an administrator to do. The first command fails for a package whose
/// files are half there, which is what the second one is for.
fn repair(host: &Host) {
    let configured = host.run("dpkg --configure -a 2>&1");
    println!("dpkg --configure -a: {}", configured.status);
    install(host, "/root/new.deb");
    assert_eq!(host.ok("dpkg --audit"), "");
}

#[test]
fn dpkg_killed_anywhere_in_an_upgrade_is_repaired() {
    let Some(packages) = debs_or_skip() else { return };
    let mut host = installed("killed", &packages);
    host.write("/root/killer.py", KILLER);
    let (agent, before) = (agent_pid(&host), pids(&host));
    let mut hit = 0;
    for state in ["half-installed", "unpacked", "half-configured"] {
        host.ok(&format!("python3 /root/killer.py {state} /root/new.deb"));
        let left = package_state(&host);
        println!("killed at {state}: {left}");
        hit += u32::from(!left.starts_with("installed "));
        assert_eq!((agent_pid(&host), pids(&host)), (agent, before.clone()), "it serves on");
        repair(&host);
        assert_eq!(package_state(&host), format!("installed {NEW}-1"));
        assert_eq!((agent_pid(&host), wait_ready(&host)), (agent, before.clone()));
        install(&host, "/root/old.deb");
    }
    assert!(hit > 0, "dpkg was too fast for each of the kills");

    // The power fails as well.
    host.ok("python3 /root/killer.py half-installed /root/new.deb");
    host.power_cut();
    host.boot_again();
    repair(&host);
    wait_ready(&host);
    assert_eq!(package_state(&host), format!("installed {NEW}-1"));
}
