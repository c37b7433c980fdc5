//! The firewall task against the real kernel, in network namespaces of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
mod lab;

use std::{net::IpAddr, time::Duration};

use lab::{Agent, EDGE4, EDGE6, Lab, ORIGIN4, ORIGIN6, STRANGER4, STRANGER6};
use palisade_agent::firewall::State;

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
    agent.stop().await;
}

#[tokio::test]
async fn whatever_another_program_does_to_the_table_is_repaired_at_once() {
    let Some(lab) = Lab::build("fix") else { return };
    lab.listen(443);
    let mut agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();

    // Five a minute are repaired at once, so the agent is started anew half way through.
    let tampering: [&[&str]; 2] = [
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
    ];
    for half in tampering {
        for (done, command) in half.iter().enumerate() {
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
        agent = Agent::start(&lab).await;
        agent.handle.in_force().await.unwrap();
    }
    agent.stop().await;
}

#[tokio::test]
async fn other_tables_are_neither_touched_nor_a_reason_to_look() {
    let Some(lab) = Lab::build("oth") else { return };
    let agent = Agent::start(&lab).await;
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
