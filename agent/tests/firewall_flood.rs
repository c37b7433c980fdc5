//! Swapping real lists under a flood of packets: none that is allowed may be lost, none that is not
//! may get in.
//!
//! Two counters at the origin, in a table of their own, see each packet of the flood: one before
//! routing, one at the input hook after our chain. For the edge the two must be equal; for the
//! stranger the second must be nothing. The configuration knows TCP only, so the rule is a [`Ruleset`]
//! with a UDP port; it takes the same way through renderer, adapter and kernel. Nothing answers, so
//! connection tracking sees every packet as new and each one is judged by the sets.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod lab;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lab::{EDGE4, EDGE6, Lab, ORIGIN4, ORIGIN6, STRANGER4, STRANGER6};
use palisade_agent::{
    firewall::{
        AddrSet, Allow, Elements, Extent, Kernel as _, Observed, Protocol, Ruleset, compare,
    },
    sys::nftables::NftTable,
};
use serde::Deserialize;

const SWAPS: usize = 200;
/// A machine that is busy otherwise gets more swaps, up to this, until there are packets enough.
const MOST_SWAPS: usize = 20 * SWAPS;
const PORT: u16 = 443;
/// From each sender: enough to mean something.
const LEAST_PACKETS: u64 = 20_000;

#[derive(Deserialize)]
struct Past {
    v4: Vec<String>,
    v6: Vec<String>,
}

fn real_lists() -> Option<Vec<AddrSet>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/ip-ranges/origin-facing-history.json");
    let Ok(text) = std::fs::read(&path) else {
        println!("skipped: there is no {}", path.display());
        return None;
    };
    let past: Vec<Past> = serde_json::from_slice(&text).unwrap();
    // The edge's own IPv6 range is of 2025, so that lists from before then get it too.
    let edge = AddrSet::parse(["2600:9000:1000::/36"]).unwrap();
    let set = |p: &Past| AddrSet::parse(p.v4.iter().chain(&p.v6).map(String::as_str)).unwrap();
    let mut lists: Vec<AddrSet> = past.iter().map(|p| set(p).union(&edge)).collect();
    // With that range some neighbours are the same, and would be no swap.
    lists.dedup();
    Some(lists)
}

/// The ruleset with a list; now and then the rules are others too.
fn ruleset(set: &AddrSet, other_rules: bool) -> Ruleset {
    let mut rules = vec![Allow {
        protocol: Protocol::Udp,
        ports: [PORT].into(),
        source: "cloudfront".to_owned(),
    }];
    if other_rules {
        let more = Allow { protocol: Protocol::Tcp, ports: [22, 80].into(), ..rules[0].clone() };
        rules.insert(0, more);
    }
    let sets = [("cloudfront".to_owned(), set.clone())].into();
    Ruleset { sets, rules, owned: true, ..Ruleset::default() }
}

/// Sends to the origin from a host by both families until told to stop.
fn flood(
    lab: &Lab,
    host: &str,
    from: [&str; 2],
    stop: &Arc<AtomicBool>,
    sent: &Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let sockets = std::iter::zip(from, [ORIGIN4, ORIGIN6]).map(|(from, to)| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let socket = lab.at(host, move || UdpSocket::bind((from, 0)).unwrap());
        socket.connect(SocketAddr::new(to, PORT)).unwrap();
        socket
    });
    let sockets: Vec<UdpSocket> = sockets.collect();
    let (stop, sent) = (Arc::clone(stop), Arc::clone(sent));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for s in &sockets {
                // What the sender itself cannot send is no loss: the first counter has not seen it.
                if s.send(b"x").is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    })
}

const PROBE: &str = "table inet probe {
  chain before { type filter hook prerouting priority -400;
    udp dport 443 ip saddr SRC4 counter comment \"before\"
    udp dport 443 ip6 saddr SRC6 counter comment \"before\"
    udp dport 443 ip saddr OUT4 counter comment \"stranger before\"
    udp dport 443 ip6 saddr OUT6 counter comment \"stranger before\"
  }
  chain after { type filter hook input priority 10;
    udp dport 443 ip saddr SRC4 counter comment \"after\"
    udp dport 443 ip6 saddr SRC6 counter comment \"after\"
    udp dport 443 ip saddr OUT4 counter comment \"stranger after\"
    udp dport 443 ip6 saddr OUT6 counter comment \"stranger after\"
  }
}";

fn counts(lab: &Lab) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for line in lab.nft("list table inet probe").lines().filter(|l| l.contains("comment")) {
        let name = line.split('"').nth(1).unwrap().to_owned();
        let packets = line.split("packets ").nth(1).unwrap().split(' ').next().unwrap();
        *all.entry(name).or_insert(0) += packets.parse::<u64>().unwrap();
    }
    all
}

#[tokio::test]
async fn two_hundred_swaps_under_a_flood_lose_nothing_and_leak_nothing() {
    let Some(lists) = real_lists() else { return };
    let Some(lab) = Lab::build("fld") else { return };
    for set in &lists {
        assert!(set.find(EDGE4.parse().unwrap()).is_some());
        assert!(set.find(EDGE6.parse().unwrap()).is_some());
        assert!(set.find(STRANGER4.parse().unwrap()).is_none());
    }
    let _sink = lab.at("origin", || UdpSocket::bind(("::", PORT)).unwrap());
    let probe = [("SRC4", EDGE4), ("SRC6", EDGE6), ("OUT4", STRANGER4), ("OUT6", STRANGER6)]
        .iter()
        .fold(PROBE.to_owned(), |text, (mark, ip)| text.replace(mark, ip));
    let mut nft = NftTable::open_in(&lab.path("origin")).unwrap();
    let first = compare(&ruleset(&lists[0], false), &nft.read().await.unwrap()).unwrap();
    nft.apply(&first).await.unwrap();
    lab.nft(&probe);

    let (stop, sent) =
        (Arc::new(AtomicBool::new(false)), [(); 2].map(|()| Arc::new(AtomicU64::new(0))));
    let floods = [
        flood(&lab, "edge", [EDGE4, EDGE6], &stop, &sent[0]),
        flood(&lab, "stranger", [STRANGER4, STRANGER6], &stop, &sent[1]),
    ];
    let started = tokio::time::Instant::now();
    let (mut swaps, mut with_rules) = (0, 0);
    let enough = || sent.iter().all(|n| n.load(Ordering::Relaxed) > 2 * LEAST_PACKETS);
    while swaps < SWAPS || (!enough() && swaps < MOST_SWAPS) {
        // Every tenth swap changes the rules as well, which rewrites the chain.
        let want = ruleset(&lists[(swaps + 1) % lists.len()], (swaps / 10) % 2 == 1);
        let have = nft.read().await.unwrap();
        let change = compare(&want, &have).unwrap();
        with_rules += u32::from(matches!(change.extent, Extent::Rules { .. }));
        nft.apply(&change).await.unwrap();
        swaps += 1;
    }
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    for f in floods {
        f.join().unwrap();
    }
    // What is still on its way has arrived once the counters stand still.
    let mut seen = counts(&lab);
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let again = counts(&lab);
        if again == seen {
            break;
        }
        seen = again;
    }

    let lost = seen["before"] - seen["after"];
    println!(
        "{swaps} swaps ({with_rules} with rules) in {:.1} s, {} packets sent: {lost} of {} allowed lost, \
         {} of {} foreign let in",
        took.as_secs_f64(),
        sent.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>(),
        seen["before"],
        seen["stranger after"],
        seen["stranger before"],
    );
    assert!(seen["before"] > LEAST_PACKETS && seen["stranger before"] > LEAST_PACKETS, "{seen:?}");
    assert_eq!((lost, seen["stranger after"]), (0, 0));
    let Observed::Table(table) = nft.read().await.unwrap() else { panic!("no table") };
    let last = &lists[swaps % lists.len()];
    assert_eq!(table.sets["cloudfront_v4"], Elements::V4(last.v4.clone()));
    // Each was judged by our rule and not waved through as a reply.
    assert!(table.counters["from_cloudfront"] >= seen["after"], "{:?}", table.counters);
}
