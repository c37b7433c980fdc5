//! The table of the firewall through the agent's lives: loads that are killed, upgrades in place, and
//! a boot that has no network yet and no nft. By the real binary and a real kernel.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests start programs, wait for the real world, and say what they skip"
)]

use std::{
    fmt::Write as _,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use palisade_agent::sys::files::write_atomic;
use palisade_e2e::{
    agent::{Agent, CAP},
    wait::wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
/// How often a load is killed.
const KILLS: u32 = 100;

/// A network namespace with nothing in it.
struct Namespace(String);

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(out: &Output) -> String {
    let both = [out.stdout.as_slice(), out.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

impl Namespace {
    fn build(name: &str) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        let there = |p: &str| std::fs::exists(p).unwrap_or(false);
        if !there("/usr/sbin/nft") || !run("ip", &["-V"]).status.success() {
            println!("skipped: needs nft and ip");
            return None;
        }
        let name = format!("pt{}{name}", std::process::id());
        let made = run("ip", &["netns", "add", &name]);
        assert!(made.status.success(), "{}", text(&made));
        Some(Self(name))
    }

    fn nft(&self, command: &str) -> Output {
        run("ip", &["netns", "exec", &self.0, "/usr/sbin/nft", command])
    }

    /// The table without what counts.
    fn table(&self) -> String {
        let out = self.nft("list table inet palisade");
        text(&out).lines().filter(|l| !l.trim_start().starts_with("packets")).fold(
            String::new(),
            |mut all, line| {
                writeln!(all, "{line}").unwrap();
                all
            },
        )
    }

    fn load(&self, agent: &Agent) -> Command {
        let mut load = Command::new("ip");
        load.args(["netns", "exec", &self.0]).arg(agent.binary());
        load.args(["firewall", "load", "-c"]).arg(agent.config());
        load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        load
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.0]);
    }
}

/// Many ranges at a port, so that there is something to be in the middle of.
fn many(port: u16, first: u8) -> String {
    let mut cidrs = String::new();
    for n in 0..600_u32 {
        write!(cidrs, "{first}.{}.{}.0/24, ", n / 100, n % 100 * 2).unwrap();
    }
    format!(
        "firewall:\n  ports: [{{ tcp: {port}, from: office }}]\n  sources: {{ office: {{ cidrs: \
         [{cidrs}] }} }}\n"
    )
}

#[test]
fn a_load_that_is_killed_at_any_moment_leaves_the_old_rules_or_the_new_ones() {
    let Some(host) = Namespace::build("k") else { return };
    let files = [many(22, 11), many(2222, 12)].map(|text| Agent::new(BINARY, &text));
    let mut took = Duration::ZERO;
    let whole = [&files[1], &files[0]].map(|file| {
        let begun = Instant::now();
        assert!(host.load(file).status().unwrap().success());
        took = begun.elapsed();
        host.table()
    });
    assert!(whole[0] != whole[1] && whole[1].contains("11.0.0.0"), "{whole:?}");
    let (mut now, mut news) = (1, 0);
    for nth in 0..KILLS {
        let mut load = host.load(&files[1 - usize::from(now == 0)]).spawn().unwrap();
        // From its first moment to a little beyond its last, evenly.
        thread::sleep(took * nth * 12 / (KILLS * 10));
        load.kill().unwrap();
        load.wait().unwrap();
        let table = host.table();
        let is = whole.iter().position(|w| *w == table);
        let is = is.unwrap_or_else(|| panic!("kill {nth} left a mixture:\n{table}"));
        news += u32::from(is != now);
        now = is;
    }
    println!("{KILLS} kills over {took:?}: {news} left new rules, the others old ones");
    assert!(news > 0 && news < KILLS, "no kill came in the middle");
}

#[test]
fn an_upgrade_in_place_leaves_no_moment_in_which_others_can_change_the_table() {
    let Some(host) = Namespace::build("u") else { return };
    let config = "firewall:\n  ports: [{ tcp: 22, from: office }]\n  \
                  sources: { office: { cidrs: [192.0.2.0/24] } }\n";
    let mut agent = Agent::new(BINARY, config);
    let wrapper = agent.dir().join("in-host");
    let script =
        format!("#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n", host.0, agent.binary().display());
    write_atomic(&wrapper, script.as_bytes(), 0o755).unwrap();
    agent.start_as(&wrapper);
    wait_until("the rules", CAP, || host.table().contains("192.0.2.0"));
    if !host.table().contains("owner") {
        println!("skipped: this kernel knows no owners that leave their table (6.9)");
        agent.stop();
        return;
    }
    let (stop, name) = (Arc::new(AtomicBool::new(false)), host.0.clone());
    let done = Arc::clone(&stop);
    let others = thread::spawn(move || {
        let mut tries = 0;
        while !done.load(Ordering::Relaxed) {
            let command = "add element inet palisade office_v4 { 198.51.100.9 }";
            let out = run("ip", &["netns", "exec", &name, "/usr/sbin/nft", command]);
            assert!(
                text(&out).contains("Operation not permitted"),
                "after {tries}: {}",
                text(&out)
            );
            tries += 1;
        }
        tries
    });
    for nth in 1..=3 {
        agent.signal(Signal::SIGUSR2);
        let upgraded = format!("{nth} times");
        wait_until("the upgrade", CAP, || agent.log().matches("handing over").count() >= nth);
        wait_until(&upgraded, CAP, || {
            let state = agent.ctl(&["firewall", "status"]);
            text(&state).contains("in force")
        });
    }
    // What nftables.service has run after it has flushed all rules, in vain.
    assert!(host.nft("flush ruleset").status.success());
    assert!(host.load(&agent).status().unwrap().success());
    stop.store(true, Ordering::Relaxed);
    let tries = others.join().unwrap();
    println!("{tries} changes by others refused over three upgrades");
    assert!(tries > 10, "{tries}");
    // Once it has ended, the rules stay and an operator can mend what must be mended.
    agent.stop();
    assert!(host.table().contains("192.0.2.0") && !host.table().contains("198.51.100.9"));
    let freed = host.nft("add element inet palisade office_v4 { 198.51.100.9 }");
    assert!(freed.status.success(), "{}", text(&freed));
}

/// `systemctl reload nftables` beside an agent runs it, for one.
#[test]
fn a_load_logs_nobody_out() {
    let Some(host) = Namespace::build("g") else { return };
    let config = "access:\n  users: { nobody: { max_ttl: 1h } }\n  sources: [192.0.2.0/24, '2001:db8::/64']\nfirewall:\n  own_table: false\n  \
                  ports: [{ tcp: 22, from: grants }]\n";
    let agent = Agent::new(BINARY, config);
    assert!(host.load(&agent).status().unwrap().success());
    for (set, address) in [("grants_v4", "192.0.2.9"), ("grants_v6", "2001:db8::9")] {
        let grant = format!("add element inet palisade {set} {{ {address} timeout 1h }}");
        let out = host.nft(&grant);
        assert!(out.status.success(), "{}", text(&out));
    }
    assert!(host.load(&agent).status().unwrap().success());
    let table = host.table();
    assert!(table.contains("192.0.2.9 ") && table.contains("2001:db8::9 "), "{table}");
}

#[test]
fn rules_are_in_force_before_there_is_a_network_and_without_nft() {
    let Some(host) = Namespace::build("b") else { return };
    let agent = Agent::new(
        BINARY,
        "firewall:\n  ports: [{ tcp: 443, from: cloudfront }]\n  \
         sources: { cloudfront: { feed: ip-ranges } }\n",
    );
    let load = format!(
        "mount --bind /dev/null /usr/sbin/nft && exec ip netns exec {} {} firewall load -c {}",
        host.0,
        agent.binary().display(),
        agent.config().display()
    );
    let out = run("unshare", &["--mount", "sh", "-c", &load]);
    assert!(out.status.success() && text(&out).contains("rules in force"), "{}", text(&out));
    let table = host.table();
    for part in ["policy drop", "13.124.199.0/24", "2600:9000:1000::/36"] {
        assert!(table.contains(part), "{part} is missing in {table}");
    }
}
