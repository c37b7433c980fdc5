//! Patching on real hosts: real apt, dpkg, systemd and reboots; the archive is signed and local.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test"
)]

#[path = "patching/binary.rs"]
mod binary;
#[path = "patching/rig.rs"]
mod rig;

use std::{fs, time::Duration};

use palisade_hosts::repo::{Archive, Deb, SECURITY};
use rig::{ALWAYS, RUN, Rig, food, libfoo, mended, names, ready};
use serde_json::{Value, json};

const LIB: &str = "/usr/lib/x86_64-linux-gnu/libfoo.so.1";

/// A window in three days' time: today there is none.
fn some_other_day() -> String {
    let day = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = day.checked_add(jiff::ToSpan::days(3)).unwrap().weekday();
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let name = names[usize::try_from(day.to_monday_zero_offset()).unwrap()];
    format!(r#"{{ days: [{name}], start: "12:00", length: 1h }}"#)
}

fn daemon(version: &str, setting: &str) -> Deb {
    let unit = "[Service]\nExecStart=/usr/sbin/food\n[Install]\nWantedBy=multi-user.target\n";
    Deb::new("food", version)
        .depends("libfoo1")
        .file("/usr/sbin/food", food(), 0o755)
        .file("/usr/lib/systemd/system/food.service", unit, 0o644)
        .conffile("/etc/food/food.conf", setting)
}

#[test]
fn exactly_the_security_updates_are_installed_and_each_service_of_them_is_restarted_once() {
    let Some(_) = ready() else { return };
    let mut a = Archive::new().unwrap();
    let lib = |v: &str| Deb::new("libfoo1", v).file(LIB, libfoo(v), 0o644);
    mended(&mut a, lib("1.0"), lib("1.0+deb12u1"));
    mended(&mut a, daemon("1.0", "a=1\n"), daemon("1.0+deb12u1", "a=2\n"));
    // A feature only; a security version hidden behind a newer one; one that brings a new dependency.
    a.add("stable", &Deb::new("bar", "1.0")).unwrap();
    a.add("stable-updates", &Deb::new("bar", "1.1")).unwrap();
    mended(&mut a, Deb::new("baz", "1.0"), Deb::new("baz", "1.1"));
    a.add("stable-updates", &Deb::new("baz", "1.2")).unwrap();
    mended(&mut a, Deb::new("nd", "1.0"), Deb::new("nd", "1.1").depends("ndlib"));
    a.add(SECURITY, &Deb::new("ndlib", "1.0")).unwrap();
    for held in ["heldp", "ourhold"] {
        mended(&mut a, Deb::new(held, "1.0"), Deb::new(held, "1.1"));
    }
    a.publish().unwrap();
    let all = ["libfoo1", "food", "bar", "baz", "nd", "heldp", "ourhold"];
    let holds = "  hold: [{ package: ourhold, until: \"2999-01-01\", why: \"ABI\" }]\n  restart: [food.service]";
    let rig = Rig::new("sec", a, &all, &some_other_day(), holds);
    let host = &rig.host;
    host.ok("apt-mark hold heldp; echo a=mine > /etc/food/food.conf; systemctl start food ssh");
    let before = |unit: &str| (unit.to_owned(), host.property(unit, "MainPID"));
    let (food_before, ssh_before) = (before("food"), before("ssh"));
    let untouched = ["dbus", "systemd-networkd", "systemd-logind"].map(before);
    // A program of ours that runs the old library too.
    let plan = rig.json("patch plan");
    let want = ["baz", "food", "libfoo1", "nd", "ndlib"];
    assert_eq!(names(&plan["updates"]), want, "{plan:#}");
    assert_eq!(names(&plan["kept_back"]), ["heldp", "ourhold"]);
    let why: Vec<_> =
        plan["kept_back"].as_array().unwrap().iter().map(|k| &k["why"]["reason"]).collect();
    assert_eq!(why, ["marked", "hold"]);
    assert_eq!(plan["verdict"]["verdict"], "non_compliant", "{plan:#}\n{}", rig.why());
    assert_eq!(rig.ctl("patch plan --exit-code").code(), Some(6));
    // Today is no window.
    let refused = rig.ctl("patch run");
    assert_eq!(refused.code(), Some(5), "{}", refused.all());
    assert!(refused.stderr.contains("the next opens at"), "{}", refused.stderr);

    let run = rig.run_now();
    assert_eq!(run["outcome"], json!({ "outcome": "done" }), "{run:#}\n{}", rig.why());
    assert_eq!(names(&run["installed"]), want);
    for (name, version) in
        [("baz", "1.1"), ("bar", "1.0"), ("heldp", "1.0"), ("ourhold", "1.0"), ("ndlib", "1.0")]
    {
        assert_eq!(rig.version(name), version, "{name}");
    }
    // The edited file stays, and the new one beside it is reported.
    assert_eq!(host.read("/etc/food/food.conf"), "a=mine\n");
    assert_eq!(run["conffiles"], json!(["/etc/food/food.conf.dpkg-dist"]));
    assert_eq!(host.read("/etc/food/food.conf.dpkg-dist"), "a=2\n");
    // Restarted once, and it runs the new library.
    let of_food: Vec<_> = run["services"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["name"] == "food.service")
        .collect();
    assert_eq!(of_food.len(), 1, "{run:#}");
    assert_eq!(of_food[0]["done"], "restarted");
    assert_ne!(host.property("food", "MainPID"), food_before.1);
    let starts = host.run("journalctl -b -o cat -u food | grep -c 'Started food'").stdout;
    assert_eq!(starts.trim(), "2", "{}", host.journal("food"));
    host.ok("! grep deleted /proc/$(systemctl show -P MainPID food)/maps");
    for (unit, pid) in untouched.iter().chain([&ssh_before]) {
        assert_eq!(host.property(unit, "MainPID"), *pid, "{unit}");
    }
    // What is held is not called compliant, and the run is in the history.
    let status = rig.wait_status("a look after the run", |s| s["waiting"] == 0);
    assert_eq!(status["report"]["verdict"]["verdict"], "non_compliant", "{status:#}");
    assert_eq!(rig.json("patch history").as_array().unwrap().len(), 1);
}

#[test]
fn a_lock_is_waited_for_and_one_that_is_kept_defers_the_run() {
    let Some(_) = ready() else { return };
    let mut a = Archive::new().unwrap();
    mended(&mut a, Deb::new("baz", "1.0"), Deb::new("baz", "1.1"));
    a.publish().unwrap();
    let rig = Rig::new("lock", a, &["baz"], &some_other_day(), "  lock_timeout: 15s");
    let hold = |seconds: u32| {
        let script = format!(
            "import fcntl, time, os\nf = open('/var/lib/dpkg/lock-frontend', 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\n\
             open('/run/locked', 'w').close()\ntime.sleep({seconds})\n"
        );
        rig.host.write("/root/lock.py", &script);
        rig.host
            .ok("rm -f /run/locked; systemd-run -q --collect --unit=holder python3 /root/lock.py");
        rig.host.wait_ok(Duration::from_secs(30), "test -e /run/locked");
    };
    hold(600);
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "deferred", "{run:#}");
    assert!(run["outcome"]["why"].as_str().unwrap().contains("(python3)"), "{run:#}");
    assert_eq!(rig.version("baz"), "1.0");
    rig.host.ok("systemctl stop holder");
    hold(4);
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "done", "{run:#}");
    assert_eq!(rig.version("baz"), "1.1");
}

#[test]
fn a_package_that_fails_leaves_the_others_done_and_the_next_run_repairs_it() {
    let Some(_) = ready() else { return };
    let mut a = Archive::new().unwrap();
    let bad =
        Deb::new("brk", "1.1").postinst("[ -e /etc/brk-ok ] || { echo refusing >&2; exit 3; }");
    mended(&mut a, Deb::new("brk", "1.0"), bad);
    mended(&mut a, Deb::new("baz", "1.0"), Deb::new("baz", "1.1"));
    a.publish().unwrap();
    let rig = Rig::new("brk", a, &["brk", "baz"], &some_other_day(), "");
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "partly", "{run:#}");
    assert_eq!(
        (names(&run["installed"]), names(&run["failed"])),
        (vec!["baz".into()], vec!["brk".into()])
    );
    let why = run["failed"][0]["why"].as_str().unwrap();
    assert!(why.contains("exit status 3"), "{why}");
    let status = rig.wait_status("a report", |s| s["report"]["run"] == run["id"]);
    let item = &status["report"]["items"][0];
    assert_eq!((&item["name"], &item["state"]), (&json!("brk"), &json!("FAILED")), "{status:#}");
    rig.host.ok("touch /etc/brk-ok");
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "done", "{run:#}\n{}", rig.why());
    rig.host.ok("test -z \"$(dpkg --audit)\"");
    let compliant = |s: &Value| s["report"]["verdict"]["verdict"] == "compliant";
    rig.wait_status("compliance", compliant);
}

#[test]
fn an_archive_that_is_damaged_forged_expired_or_gone_is_never_compliant() {
    let Some(_) = ready() else { return };
    let mut a = Archive::new().unwrap();
    a.add("stable", &Deb::new("baz", "1.0")).unwrap();
    a.publish().unwrap();
    // Looks come every quarter of the lists' age, and at least every five seconds.
    let mut rig = Rig::new("doubt", a, &["baz"], &some_other_day(), "  lists_max_age: 20s");
    let verdict = |rig: &Rig, what: &str, word: &str| {
        rig.wait_status(what, |s| {
            let v = &s["report"]["verdict"];
            v["verdict"] == word && (word != "unknown" || v["why"].as_str().unwrap().contains(what))
        })
    };
    verdict(&rig, "compliant at first", "compliant");
    // A new index, damaged before the host could see it whole.
    rig.host.ok("systemctl stop palisade");
    rig.archive.add(SECURITY, &Deb::new("other", "1.0")).unwrap();
    rig.archive.publish().unwrap();
    fs::write(rig.archive.packages(SECURITY), "Package: forged\n").unwrap();
    rig.host.ok("systemctl start palisade");
    verdict(&rig, "is not trusted", "unknown");
    assert_eq!(rig.ctl("patch plan --exit-code").code(), Some(7));
    rig.archive.publish().unwrap();
    verdict(&rig, "mended", "compliant");
    rig.archive.publish_until(Some("Thu, 01 Jan 2026 00:00:00 UTC")).unwrap();
    verdict(&rig, "expired", "unknown");
    rig.archive.publish().unwrap();
    verdict(&rig, "mended", "compliant");
    let signed = rig.archive.dir().join("dists").join(SECURITY).join("InRelease");
    let text = fs::read_to_string(&signed).unwrap();
    fs::write(&signed, text.replace("Palisade-Security", "Palisade-Securitx")).unwrap();
    verdict(&rig, "is not trusted", "unknown");
    rig.archive.publish().unwrap();
    verdict(&rig, "mended", "compliant");
    // Not reached, for longer than lists may be old.
    rig.host.ok("sed -i '/security/s#file:/srv/archive#http://127.0.0.1:9#' /etc/apt/sources.list");
    verdict(&rig, "never fetched", "unknown");
}

fn kernel() -> Archive {
    let mut a = Archive::new().unwrap();
    let asks = "touch /run/reboot-required; echo krn >> /run/reboot-required.pkgs";
    mended(&mut a, Deb::new("krn", "1.0"), Deb::new("krn", "1.1").postinst(asks));
    a.publish().unwrap();
    a
}

#[test]
fn in_its_window_the_host_is_patched_and_restarted_by_itself_and_then_compliant() {
    let Some(_) = ready() else { return };
    let rig = Rig::new("window", kernel(), &["krn"], ALWAYS, "  reboot: when-needed");
    let done = |s: &Value| {
        s["last"]["phase"] == "done" && s["report"]["verdict"]["verdict"] == "compliant"
    };
    let status = rig.wait_status("a run that restarted the host", done);
    let last = &status["last"];
    assert_eq!(
        (&last["trigger"], &last["rebooted"]),
        (&json!("window"), &json!(true)),
        "{status:#}"
    );
    assert_eq!(last["outcome"]["outcome"], "done");
    assert_eq!(rig.version("krn"), "1.1");
    // One run in one window: it is not begun again.
    assert_eq!(rig.json("patch history").as_array().unwrap().len(), 1);
}

#[test]
fn outside_of_a_window_a_restart_that_is_needed_is_only_reported() {
    let Some(_) = ready() else { return };
    let rig = Rig::new("pending", kernel(), &["krn"], &some_other_day(), "  reboot: when-needed");
    let boot = rig.host.boot_id();
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "done", "{run:#}");
    assert_eq!(rig.host.boot_id(), boot);
    let status = rig.wait_status("a report", |s| s["report"]["run"] == run["id"]);
    let item = &status["report"]["items"][0];
    assert_eq!(item["state"], "INSTALLED_PENDING_REBOOT", "{status:#}");
    assert_eq!(status["report"]["verdict"]["verdict"], "non_compliant");
}

#[test]
fn somebody_who_is_logged_in_delays_the_restart_until_the_grace_is_over() {
    let Some(_) = ready() else { return };
    // The window opens once the session is there.
    let patch = "  reboot: when-needed\n  session_grace: 25s";
    let rig = Rig::new("session", kernel(), &["krn"], &some_other_day(), patch);
    let ssh = "ssh -tt -o StrictHostKeyChecking=no -o BatchMode=yes -i /root/key root@localhost sleep 600";
    rig.host.ok("ssh-keygen -q -t ed25519 -N '' -f /root/key && mkdir -p -m 700 /root/.ssh");
    rig.host.ok("cp /root/key.pub /root/.ssh/authorized_keys && systemctl start ssh");
    rig.host.ok(&format!("systemd-run -q --unit=login {ssh}"));
    let seen = "loginctl list-sessions --no-legend | grep root";
    rig.host.wait_ok(Duration::from_secs(30), seen);
    let leader = rig.host.leader();
    let window = format!(
        "sed -i 's/window:.*/window: {}/' /etc/palisade/palisade.yaml",
        ALWAYS.replace('"', "\\\"")
    );
    rig.host.ok(&format!("{window}; palisade update"));
    let waits = |s: &Value| {
        s["running"]["notes"].to_string().contains("the restart waits: logged in: root")
    };
    rig.wait_status("a restart that waits", waits);
    assert_eq!(rig.host.leader(), leader);
    let over = |s: &Value| s["last"]["rebooted"] == true;
    rig.wait_status("the restart", over);
    assert_ne!(rig.host.leader(), leader);
}

#[test]
fn a_power_cut_in_the_middle_of_an_installation_is_taken_up_and_finished() {
    let Some(_) = ready() else { return };
    let mut a = Archive::new().unwrap();
    let slow = "touch /etc/in-postinst; i=0; until [ -e /etc/go ]; do i=$((i+1)); [ $i -lt 600 ] || exit 1; sleep 0.1; done";
    mended(&mut a, Deb::new("slow", "1.0"), Deb::new("slow", "1.1").postinst(slow));
    mended(&mut a, Deb::new("zaz", "1.0"), Deb::new("zaz", "1.1"));
    a.publish().unwrap();
    let mut rig = Rig::new("power", a, &["slow", "zaz"], &some_other_day(), "");
    assert!(rig.ctl("patch run --now --no-wait").success());
    rig.host.wait_ok(RUN, "test -e /etc/in-postinst");
    rig.host.power_cut();
    rig.host.boot_again();
    rig.host.ok("touch /etc/go");
    let status = rig.wait_status("the end of the run", |s| s["last"]["phase"] == "done");
    let last = &status["last"];
    assert_eq!(last["outcome"]["outcome"], "done", "{status:#}\n{}", rig.why());
    assert!(last["resumed"].as_u64().unwrap() >= 1);
    assert_eq!(names(&last["installed"]), ["slow", "zaz"]);
    rig.host.ok("test -z \"$(dpkg --audit)\"");
}

#[test]
fn a_run_that_replaces_the_agent_finishes_and_reports_and_programs_notice_nothing() {
    let Some(binary) = ready() else { return };
    let mut a = Archive::new().unwrap();
    let bytes = fs::read(binary).unwrap();
    // Other bytes at the end make it another file and change nothing else.
    let next = [bytes.as_slice(), b"next"].concat();
    let agent = |v: &str, b: Vec<u8>| Deb::new("palisade", v).file("/usr/bin/palisade", b, 0o755);
    mended(&mut a, agent("0.1.0", bytes), agent("0.1.1", next));
    a.publish().unwrap();
    let rig = Rig::new("self", a, &["palisade"], &some_other_day(), "");
    let (agent, web) =
        (rig.host.property("palisade", "MainPID"), rig.json("status web")[0]["pid"].clone());
    let run = rig.run_now();
    assert_eq!(run["outcome"]["outcome"], "done", "{run:#}\n{}", rig.why());
    // The command that waits for the run runs the old binary too, and is left alone.
    let upgraded = json!({ "name": "palisade", "done": "upgraded" });
    assert_eq!(run["services"][0], upgraded, "{run:#}");
    assert_eq!(rig.host.property("palisade", "MainPID"), agent);
    assert_eq!(rig.json("status web")[0]["pid"], web);
    rig.host.ok("! ls -l /proc/$(systemctl show -P MainPID palisade)/exe | grep deleted");
}
