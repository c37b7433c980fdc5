//! The firewall task against the real kernel, in network namespaces of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod lab;

use std::{net::IpAddr, time::Duration};

use lab::{Agent, EDGE4, EDGE6, Lab, ORIGIN4, ORIGIN6, STRANGER4, STRANGER6, feed_source};
use palisade_agent::{
    firewall::{
        Allow, Enforce, FeedState, Kernel as _, Observed, Protocol, Ruleset, Settings, State,
        TableOwner, compare,
    },
    sys::nftables::NftTable,
};

/// How long a packet that is let in may take on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// How long a packet that is not let in is waited for.
const NEVER: Duration = Duration::from_millis(400);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who of the two gets through on which port: v4 edge, v6 edge, v4 stranger, v6 stranger.
fn who_gets_in(lab: &Lab, port: u16) -> [bool; 4] {
    [
        lab.connects("edge", EDGE4, ORIGIN4, port, SOON),
        lab.connects("edge", EDGE6, ORIGIN6, port, SOON),
        lab.connects("stranger", STRANGER4, ORIGIN4, port, NEVER),
        lab.connects("stranger", STRANGER6, ORIGIN6, port, NEVER),
    ]
}

/// A table that everybody may change.
fn shared(lab: &Lab) -> Settings {
    Settings { table_owner: TableOwner::Off, ..lab::settings(lab) }
}

#[tokio::test]
async fn the_edge_gets_in_by_both_families_and_the_stranger_by_none() {
    let Some(lab) = Lab::build("two") else { return };
    lab.listen(443);
    lab.listen(8080);
    assert_eq!(who_gets_in(&lab, 443), [true; 4], "without rules all get in");

    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    assert_eq!(who_gets_in(&lab, 443), [true, true, false, false]);
    assert!(!lab.connects("edge", EDGE4, ORIGIN4, 8080, NEVER), "other ports are closed to all");

    // Neighbours can find each other and pings are answered, or IPv6 would be dead within minutes.
    lab.forget_neighbours();
    for (host, from, to) in
        [("edge", EDGE4, ORIGIN4), ("edge", EDGE6, ORIGIN6), ("stranger", STRANGER6, ORIGIN6)]
    {
        assert!(lab.pings(host, from, to), "{host} to {to}");
    }
    assert!(lab.connects_out(EDGE4, SOON), "replies to what we start come back");

    // What `explain` says is what the packets do.
    for (who, from, to) in [("edge", EDGE4, ORIGIN4), ("stranger", STRANGER4, ORIGIN4)] {
        let said = agent.handle.explain(ip(from), Some(443)).await.unwrap();
        assert_eq!(said.accepted, lab.connects(who, from, to, 443, SOON), "{}", said.text);
    }
    let status = agent.handle.status().await.unwrap();
    assert!(status.packets["from_cloudfront"] > 0 && status.packets["dropped"] > 0, "{status:?}");
    let plan = agent.handle.plan().await.unwrap();
    assert!(!plan.differs, "{plan:?}");

    // The rules stay when the agent stops.
    agent.stop().await;
    assert_eq!(who_gets_in(&lab, 443), [true, true, false, false]);

    // A new agent finds them as they should be, and changes nothing.
    let generation = lab.generation();
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    assert_eq!(lab.generation(), generation);

    // Told to enforce nothing, it lets all in: `status` says nothing is enforced, and that is so.
    agent.settings.send_modify(|s| s.enforce = Enforce::PlanOnly);
    let mut status = agent.handle.watch();
    status.wait_for(|s| matches!(s.state, State::PlanOnly { .. })).await.unwrap();
    assert_eq!(who_gets_in(&lab, 443), [true; 4]);
    agent.stop().await;
}

#[tokio::test]
async fn whatever_another_program_does_to_the_table_is_repaired_at_once() {
    let Some(lab) = Lab::build("fix") else { return };
    lab.listen(443);
    let mut agent = Agent::start_with(&lab, shared(&lab)).await;
    agent.handle.in_force().await.unwrap();

    // Five a minute are repaired at once, so the agent is started anew after as many.
    let tampering: [&[&str]; 3] = [
        &[
            "flush ruleset",
            "flush set inet palisade cloudfront_v4",
            "add element inet palisade cloudfront_v4 { 198.51.100.0/24 }",
            "chain inet palisade input { policy accept; }",
            "flush chain inet palisade input",
        ],
        &[
            "insert rule inet palisade input accept",
            "add table inet palisade { flags dormant; }",
            "add chain inet palisade extra { type filter hook input priority -20; policy accept; }",
            "delete table inet palisade",
            "add map inet palisade m { type ipv4_addr : verdict; }",
        ],
        // What belongs to a rule goes with it, and cannot be deleted by itself.
        &[
            "insert rule inet palisade input tcp dport { 443, 8443 } accept",
            "insert rule inet palisade input tcp dport 443 jump { accept; }",
            "insert rule inet palisade input tcp dport vmap { 443 : accept }",
        ],
    ];
    for part in tampering {
        for (done, command) in part.iter().enumerate() {
            lab.nft(command);
            let mut seen = agent.handle.watch();
            let repairs = done as u64 + 1;
            let repaired = seen.wait_for(|s| s.drift.repairs >= repairs);
            let status = tokio::time::timeout(SOON, repaired).await;
            let status =
                status.unwrap_or_else(|_| panic!("{command} is not repaired")).unwrap().clone();
            let last = status.drift.last.unwrap();
            println!(
                "{command}: repaired in {} ms, {:?} by {:?}",
                last.took_ms, last.changes, last.culprit
            );
            assert!(matches!(status.state, State::InForce { .. }), "{command}: {:?}", status.state);
            assert!(last.culprit.is_some_and(|c| c.starts_with("nft (pid ")), "{command}");
            assert_eq!(who_gets_in(&lab, 443), [true, true, false, false], "{command}");
            let plan = agent.handle.plan().await.unwrap();
            assert!(!plan.differs, "{command}: {plan:?}");
        }
        agent.stop().await;
        // And one that finds it so as it starts.
        lab.nft(part[0]);
        agent = Agent::start_with(&lab, shared(&lab)).await;
        agent.handle.in_force().await.unwrap();
        assert_eq!(who_gets_in(&lab, 443), [true, true, false, false], "{}", part[0]);
    }
    agent.stop().await;
}

#[tokio::test]
async fn other_tables_are_neither_touched_nor_a_reason_to_look() {
    let Some(lab) = Lab::build("oth") else { return };
    let agent = Agent::start_with(&lab, shared(&lab)).await;
    agent.handle.in_force().await.unwrap();
    lab.nft("add table inet other { chain c { type filter hook input priority 5; meta hour 1 drop; }; quota q { 9999999999 bytes }; }");
    let before = lab.nft("list table inet other");
    agent.handle.refresh().await.unwrap();
    let status = agent.handle.status().await.unwrap();
    assert_eq!(status.drift.repairs, 0);
    lab.nft("flush table inet palisade");
    let mut seen = agent.handle.watch();
    let repaired = seen.wait_for(|s| s.drift.repairs == 1);
    tokio::time::timeout(SOON, repaired).await.unwrap().unwrap();
    assert_eq!(lab.nft("list table inet other"), before);
    agent.stop().await;
}

#[tokio::test]
async fn connections_from_before_the_first_load_go_on_if_they_would_be_let_in() {
    let Some(lab) = Lab::build("old") else { return };
    lab.echo(443);
    let mut edge = lab.session("edge", EDGE4, ORIGIN4, 443);
    let mut stranger = lab.session("stranger", STRANGER4, ORIGIN4, 443);
    assert!(edge.says(SOON) && stranger.says(SOON));
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    assert!(edge.says(SOON), "the edge's connection goes on");
    assert!(!stranger.says(NEVER), "the stranger's does not");
    agent.stop().await;
}

/// The real sets against real packets: the first and last address of every range gets in, the ones
/// before and after it do not, and neither does any of 4,000 others that `find` says are in no range.
#[tokio::test]
async fn every_range_begins_and_ends_where_the_list_says() {
    let Some(lab) = Lab::build("rng") else { return };
    let set = FeedState::new(feed_source(&lab), None).in_force();
    let port =
        Allow { protocol: Protocol::Udp, ports: [443].into(), source: "cloudfront".to_owned() };
    let ruleset = Ruleset {
        sets: [("cloudfront".to_owned(), set.clone())].into(),
        rules: vec![port],
        ..Ruleset::default()
    };
    let mut table = NftTable::open_in(&lab.path("origin")).unwrap();
    let change = compare(&ruleset, &Observed::Absent).unwrap();
    table.apply(&change).await.unwrap();
    assert_eq!(compare(&ruleset, &table.read().await.unwrap()), None);

    let edges4 = set.v4.iter().flat_map(|(a, b)| [a - 1, a, b, b + 1]);
    // Spread over all of unicast space by a multiplier, so that the addresses are the same each time.
    let others4 = (0..4000_u32).map(|n| n.wrapping_mul(2_654_435_761));
    let v4 = edges4.chain(others4).map(|n| IpAddr::V4(n.into())).filter(|ip| match ip {
        IpAddr::V4(a) => {
            !(a.is_loopback() || a.is_multicast() || a.octets()[0] == 0 || a.octets()[0] >= 224)
        }
        IpAddr::V6(_) => false,
    });
    let v6 = set.v6.iter().flat_map(|(a, b)| [a - 1, a, b, b + 1]).map(|n| IpAddr::V6(n.into()));
    let all: Vec<IpAddr> = v4.chain(v6).collect();
    let inside = all.iter().filter(|ip| set.find(**ip).is_some()).count() as u64;
    let sent = all.len() as u64;
    lab.nft(
        "table inet probe { chain before { type filter hook prerouting priority -400; \
         udp dport 443 counter; }; chain after { type filter hook input priority 10; \
         udp dport 443 counter; }; }",
    );
    for batch in all.chunks(50) {
        let batch = batch.to_vec();
        lab.at("edge", move || batch.into_iter().for_each(lab::forge_udp));
    }
    let mut seen = (0, 0);
    for _ in 0..100 {
        let counts = lab.packet_counts("probe");
        seen = (counts[0], counts[1]);
        if seen.0 == sent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{sent} forged packets: {} let in, {inside} expected", seen.1);
    assert_eq!(seen, (sent, inside));
}
