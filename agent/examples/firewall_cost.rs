//! What the firewall costs: changes of sets beside the program `nft`, and packets beside a minimal
//! chain written by hand. `cargo xtask bench firewall` runs it as released; needs root, nft and ip.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark ends at the first thing that is wrong, and prints; it sets up with ip and nft"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
};
use palisade_agent::{
    firewall::{AddrSet, Allow, Kernel as _, Protocol, Ruleset, compare},
    sys::nftables::NftTable,
};
use tokio::runtime::Builder;

/// Rounds of which the median is told.
const ROUNDS: usize = 25;
/// Packets of one round, and rounds, for what a packet costs.
const PACKETS: u32 = 60_000;
const PACKET_ROUNDS: usize = 15;

struct Names {
    here: String,
    there: String,
}

fn ip(args: &str) {
    let ok = Command::new("ip").args(args.split(' ')).status().unwrap().success();
    assert!(ok, "ip {args}");
}

impl Names {
    fn build() -> Self {
        let pid = std::process::id();
        let names = Self { here: format!("pfc{pid}a"), there: format!("pfc{pid}b") };
        let Self { here, there } = &names;
        for name in [here, there] {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        ip(&format!("-n {here} link add eth0 type veth peer name eth0 netns {there}"));
        for (name, address) in [(here, "192.0.2.1/24"), (there, "192.0.2.2/24")] {
            ip(&format!("-n {name} addr add {address} dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        names
    }

    fn table(&self) -> NftTable {
        NftTable::open_in(&PathBuf::from("/run/netns").join(&self.here)).unwrap()
    }

    /// Has nft do something; its CPU time, and how long it took.
    fn nft(&self, script: &str) -> (Duration, Duration) {
        let before = cpu(UsageWho::RUSAGE_CHILDREN);
        let begun = Instant::now();
        let mut child = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{}", self.here), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft -f");
        (cpu(UsageWho::RUSAGE_CHILDREN) - before, begun.elapsed())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.here));
        ip(&format!("netns del {}", self.there));
    }
}

fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    let of = |t: nix::sys::time::TimeVal| {
        Duration::new(t.tv_sec().try_into().unwrap(), u32::try_from(t.tv_usec()).unwrap() * 1000)
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// CPU time of this process to the nanosecond.
fn own_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap().into()
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

fn ms(d: Duration) -> String {
    format!("{:.2}", d.as_secs_f64() * 1000.0)
}

/// So many ranges, of which `other` are others than without.
fn ranges(n: u32, other: u32) -> AddrSet {
    let v4 = (0..n).map(|k| {
        let first = if k < other { 0xc000_0000 + (k << 10) } else { 0x0d00_0000 + (k << 10) };
        (first, first + 255)
    });
    AddrSet { v4: v4.collect(), ..AddrSet::default() }
}

fn ruleset(set: AddrSet, protocol: Protocol) -> Ruleset {
    Ruleset {
        sets: [("edge".to_owned(), set)].into(),
        rules: vec![Allow { protocol, ports: [443].into(), source: "edge".to_owned() }],
        guard_published: true,
        log_group: Some(5),
        ..Ruleset::default()
    }
}

/// What changing a set costs: us by netlink, and nft by its own way.
fn changes(names: &Names) -> String {
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut table = names.table();
    let mut text = String::from(
        "| change | palisade CPU ms | palisade ms | nft -f CPU ms | nft -f ms | CPU ratio |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    let mut apply = |want: &Ruleset| {
        let (cpu, begun) = (own_cpu(), Instant::now());
        runtime.block_on(async {
            let have = table.read().await.unwrap();
            if let Some(change) = compare(want, &have) {
                table.apply(&change).await.unwrap();
                // As the agent does: what is in force is what was read back.
                assert_eq!(compare(want, &table.read().await.unwrap()), None);
            }
        });
        (own_cpu() - cpu, begun.elapsed())
    };
    for n in [50_u32, 1_000, 10_000] {
        for (what, other) in [("all others", n), ("10 others", 10)] {
            let (one, two) = (ranges(n, 0), ranges(n, other));
            apply(&ruleset(one.clone(), Protocol::Tcp));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let delta = |from: &AddrSet, to: &AddrSet| {
                let list = |s: &AddrSet| s.prefixes().join(",");
                let set = "inet theirs edge_v4";
                if other == n {
                    return format!("flush set {set}\nadd element {set} {{ {} }}\n", list(to));
                }
                let (out, into) = (from.difference(to), to.difference(from));
                format!(
                    "delete element {set} {{ {} }}\nadd element {set} {{ {} }}\n",
                    list(&out),
                    list(&into)
                )
            };
            names.nft(&format!(
                "table inet theirs {{ set edge_v4 {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}; }}\n",
                one.prefixes().join(",")
            ));
            let rounds = if n > 1_000 { 5 } else { ROUNDS };
            for _ in 0..rounds {
                for (from, to) in [(&one, &two), (&two, &one)] {
                    ours.push(apply(&ruleset(to.clone(), Protocol::Tcp)));
                    theirs.push(names.nft(&delta(from, to)));
                }
            }
            names.nft("delete table inet theirs\n");
            let of = |all: &[(Duration, Duration)]| {
                (
                    median(all.iter().map(|x| x.0).collect()),
                    median(all.iter().map(|x| x.1).collect()),
                )
            };
            let ((a, b), (c, d)) = (of(&ours), of(&theirs));
            let ratio = c.as_secs_f64() / a.as_secs_f64();
            writeln!(
                text,
                "| {n} ranges, {what} | {} | {} | {} | {} | {ratio:.0} |",
                ms(a),
                ms(b),
                ms(c),
                ms(d)
            )
            .unwrap();
        }
    }
    text
}

/// A chain as somebody would write it by hand for the same purpose.
fn minimal(set: &AddrSet) -> String {
    format!(
        "table inet hand {{ set edge {{ type ipv4_addr; flags interval; elements = {{ {} }}; }}\n\
         chain input {{ type filter hook input priority -10; policy drop;\n\
         iif lo accept\nct state established,related accept\n\
         udp dport 443 ip saddr @edge accept\n}}\n}}\n",
        set.prefixes().join(",")
    )
}

/// Nanoseconds of a packet from the other host through the input hook.
fn send(names: &Names, answered: bool) -> f64 {
    let at = |name: &str, address: &str| {
        let namespace = File::open(format!("/run/netns/{name}")).unwrap();
        let address = address.to_owned();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind(address).unwrap()
        })
        .join()
        .unwrap()
    };
    let sink = at(&names.here, "192.0.2.1:443");
    let source = at(&names.there, "192.0.2.2:0");
    source.connect("192.0.2.1:443").unwrap();
    if answered {
        source.send(b"x").unwrap();
        let mut got = [0; 8];
        sink.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (_, from) = sink.recv_from(&mut got).unwrap();
        sink.send_to(b"y", from).unwrap();
    }
    let begun = own_cpu();
    for _ in 0..PACKETS {
        // A full buffer at the sink is no matter: the rules have seen the packet.
        source.send(b"x").unwrap();
    }
    (own_cpu() - begun).as_secs_f64() * 1e9 / f64::from(PACKETS)
}

fn packets(names: &Names) -> String {
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut set = ranges(50, 0);
    set.v4 = set.v4.union(&[(0xc000_0200, 0xc000_02ff)].into_iter().collect());
    let ours = ruleset(set.clone(), Protocol::Udp);
    let mut all: BTreeMap<(bool, &str), Vec<f64>> = BTreeMap::new();
    let mut kinds = ["none", "by hand", "palisade"];
    for _ in 0..PACKET_ROUNDS {
        // In turns, so that none is always the first after something else.
        kinds.rotate_left(1);
        for (answered, whose) in [false, true].into_iter().flat_map(|a| kinds.map(|k| (a, k))) {
            match whose {
                "by hand" => drop(names.nft(&minimal(&set))),
                "palisade" => runtime.block_on(async {
                    let mut table = names.table();
                    let change = compare(&ours, &table.read().await.unwrap()).unwrap();
                    table.apply(&change).await.unwrap();
                }),
                _ => {}
            }
            all.entry((answered, whose)).or_default().push(send(names, answered));
            match whose {
                "by hand" => drop(names.nft("delete table inet hand\n")),
                "palisade" => drop(names.nft("delete table inet palisade\n")),
                _ => {}
            }
        }
    }
    let mut text = String::from(
        "\n| packet | no rules ns | chain by hand ns | palisade ns | palisade to by hand |\n\
         |---|--:|--:|--:|--:|\n",
    );
    let of = |answered, whose| {
        let mut rounds = all[&(answered, whose)].clone();
        rounds.sort_unstable_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    };
    for (answered, what) in [(true, "of a connection that is known"), (false, "that begins one")] {
        let [none, hand, ours] = ["none", "by hand", "palisade"].map(|w| of(answered, w));
        writeln!(text, "| {what} | {none:.0} | {hand:.0} | {ours:.0} | {:.3} |", ours / hand)
            .unwrap();
    }
    text
}

fn main() {
    let names = Names::build();
    let text = changes(&names) + &packets(&names);
    println!("{text}");
}
