//! What the rules let through, told by real packets across namespaces.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; skips are printed"
)]

#[path = "firewall_lab/mod.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod lab;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use lab::{
    Agent, Clock, EDGE4, EDGE6, Lab, ORIGIN4, ORIGIN6, STRANGER4, STRANGER6, Session, source,
};
use nix::time::{ClockId, clock_gettime};
use palisade_agent::firewall::{PortRule, Settings, Source, TableOwner, export};
use tokio::{sync::watch, time::Instant};

/// How long a packet that is let in may take on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// How long a packet that is not let in is waited for.
const NEVER: Duration = Duration::from_millis(400);
/// What containers would listen on, behind a published port.
const INNER: u16 = 8443;

fn port_rule(port: u16, from: &[&str]) -> PortRule {
    let from = from.iter().map(|name| source(name)).collect();
    PortRule { tcp: vec![NonZeroU16::new(port).unwrap()], from }
}

/// The edge at 443; the edge's host is also the bastion at 22, beside grants.
fn with_ssh(lab: &Lab) -> Settings {
    let mut settings = lab::settings(lab);
    let bastion = Source::Cidrs(vec![format!("{EDGE4}/32").parse().unwrap()]);
    settings.ports.push(port_rule(22, &["bastion", "grants"]));
    settings.sources.insert(source("bastion"), vec![bastion]);
    settings.sources.insert(source("grants"), vec![Source::Grants]);
    settings
}

fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1000 + u64::try_from(now.tv_nsec()).unwrap() / 1_000_000
}

fn granted(who: &[&str], after: Duration) -> BTreeMap<IpAddr, u64> {
    let end = boot_ms() + u64::try_from(after.as_millis()).unwrap();
    who.iter().map(|ip| (ip.parse().unwrap(), end)).collect()
}

/// When the last word that was answered began, and when the first was given up that was not; if that comes
/// within a time. How long an answer takes is the machine's affair.
async fn ends_within(session: &mut Session, within: Duration) -> Option<(Instant, Instant)> {
    let begun = Instant::now();
    let mut answered = begun;
    while begun.elapsed() < within {
        let word = Instant::now();
        if !session.says(SOON) {
            return Some((answered, Instant::now()));
        }
        answered = word;
        // The agent runs on this thread too.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

#[tokio::test]
async fn each_port_is_open_to_its_own_sources_and_loopback_to_all() {
    let Some(lab) = Lab::build("own") else { return };
    let agent = Agent::start_with(&lab, with_ssh(&lab)).await;
    agent.handle.in_force().await.unwrap();
    [22, 443, 9000].into_iter().for_each(|port| lab.listen(port));
    let edge = |port, within| lab.connects("edge", EDGE4, ORIGIN4, port, within);
    assert!(edge(443, SOON) && edge(22, SOON), "the edge is the bastion here");
    assert!(!edge(9000, NEVER));
    assert!(lab.connects("edge", EDGE6, ORIGIN6, 443, SOON));
    assert!(!lab.connects("edge", EDGE6, ORIGIN6, 22, NEVER), "an edge without a grant at 22");
    for port in [22, 443, 9000] {
        assert!(!lab.connects("stranger", STRANGER4, ORIGIN4, port, NEVER), "{port}");
        assert!(!lab.connects("stranger", STRANGER6, ORIGIN6, port, NEVER), "{port}");
        assert!(lab.connects("origin", "127.0.0.1", "127.0.0.1", port, SOON), "{port}");
        assert!(lab.connects("origin", "::1", "::1", port, SOON), "{port}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_dropped_connection_gets_no_answer_and_a_gated_one_is_reset() {
    let Some(lab) = Lab::build("rst") else { return };
    let agent = Agent::start_with(&lab, with_ssh(&lab)).await;
    agent.handle.in_force().await.unwrap();
    // Without a listener, an answer could only come from the rules.
    let refused = |port| lab.refuses("stranger", STRANGER4, ORIGIN4, port, NEVER);
    assert!(!refused(443), "a stranger at 443 was answered");
    assert!(refused(22), "a gated port is silent");
    let status = agent.handle.status().await.unwrap();
    assert!(status.packets["gated"] > 0, "{:?}", status.packets);
    agent.stop().await;
}

#[tokio::test]
async fn a_grant_ends_new_and_live_connections_on_time_though_no_agent_runs() {
    let Some(lab) = Lab::build("ttl") else { return };
    lab.echo(22);
    let end = Instant::now() + Duration::from_secs(4);
    let (grants, seen) = watch::channel(granted(&[STRANGER4, STRANGER6], Duration::from_secs(4)));
    let agent = Agent::start_granting(&lab, with_ssh(&lab), seen).await;
    agent.handle.in_force().await.unwrap();
    let mut four = lab.session("stranger", STRANGER4, ORIGIN4, 22);
    let mut six = lab.session("stranger", STRANGER6, ORIGIN6, 22);
    let mut bastion = lab.session("edge", EDGE4, ORIGIN4, 22);
    assert!(four.says(SOON) && six.says(SOON) && bastion.says(SOON));
    agent.stop().await;
    drop(grants);
    let (answered, gone) =
        ends_within(&mut four, Duration::from_secs(20)).await.expect("it outlived its grant");
    let slack = Duration::from_secs(1);
    assert!(answered < end + slack, "a word {:?} after the end", answered - end);
    assert!(gone + slack > end, "cut off {:?} before the end", end - gone);
    assert!(!six.says(NEVER), "IPv6 outlived its grant");
    assert!(bastion.says(SOON), "the bastion needs no grant");
    assert!(lab.refuses("stranger", STRANGER4, ORIGIN4, 22, NEVER));
}

#[tokio::test]
async fn a_renewed_grant_cuts_nothing_and_a_revoked_one_cuts_at_once() {
    let Some(lab) = Lab::build("ren") else { return };
    lab.echo(22);
    let (grants, seen) = watch::channel(granted(&[STRANGER4], Duration::from_secs(3)));
    let agent = Agent::start_granting(&lab, with_ssh(&lab), seen).await;
    agent.handle.in_force().await.unwrap();
    let mut session = lab.session("stranger", STRANGER4, ORIGIN4, 22);
    assert!(session.says(SOON));
    grants.send_replace(granted(&[STRANGER4], Duration::from_secs(600)));
    assert_eq!(
        ends_within(&mut session, Duration::from_secs(5)).await,
        None,
        "renewal did not hold"
    );
    let revoked = Instant::now();
    grants.send_replace(BTreeMap::new());
    let (answered, _) = ends_within(&mut session, SOON).await.unwrap();
    let after = answered.saturating_duration_since(revoked);
    println!("revoked: the last answered word began {after:?} later");
    assert!(after < Duration::from_secs(1), "{after:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_moves_no_end_of_a_grant() {
    let Some(lab) = Lab::build("clk") else { return };
    let (_grants, seen) = watch::channel(granted(&[STRANGER4], Duration::from_secs(600)));
    let clock = Clock::at(1_790_000_000);
    let agent = Agent::start_at(&lab, with_ssh(&lab), seen, clock.clone()).await;
    agent.handle.in_force().await.unwrap();
    let left = || {
        let listing = lab.nft("list set inet palisade grants_v4");
        let text = listing.split("expires ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        println!("left: {text}");
        text
    };
    assert!(left().starts_with("9m5"), "ten minutes, less a moment");
    for secs in [1_790_000_000 + 3_600, 1_790_000_000 - 3_600] {
        clock.set(secs);
        agent.handle.refresh().await.unwrap();
        assert!(left().starts_with("9m5"), "the clock was set and the grant moved");
    }
    agent.stop().await;
}

#[tokio::test]
async fn what_a_host_needs_gets_in_and_forgeries_do_not() {
    let Some(lab) = Lab::build("icm") else { return };
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    let packets = async |name: &str| agent.handle.status().await.unwrap().packets[name];
    lab.nft(
        "table inet seen { chain after { type filter hook input priority 10; \
         icmpv6 type 136 counter; icmpv6 type 2 counter; icmp type 3 counter; \
         udp dport 68 counter; }; }",
    );
    let counts = || lab.packet_counts("seen");
    // A neighbour's answer is believed only if it came through no router.
    for (hops, passes) in [(255, true), (254, false)] {
        let before = counts()[0];
        lab.at("edge", move || lab::forge_icmp6(EDGE6.parse().unwrap(), 136, hops));
        assert_eq!(lab.settles(|| counts()[0] > before, passes), passes, "hop limit {hops}");
    }
    // That a packet is too big is believed of a connection that is there, and of no other.
    lab.echo(443);
    let open = [lab.session("edge", EDGE4, ORIGIN4, 443), lab.session("edge", EDGE6, ORIGIN6, 443)];
    for (nth, session) in [(2, &open[0]), (1, &open[1])] {
        let (here, there) = session.ends();
        for (port, passes) in [(here.port(), true), (here.port() ^ 1, false)] {
            let before = counts()[nth];
            let here = SocketAddr::new(here.ip(), port);
            lab.at("edge", move || lab::forge_too_big(here, there));
            assert_eq!(lab.settles(|| counts()[nth] > before, passes), passes, "{here} {there}");
        }
    }
    let before = counts()[3];
    lab.at("edge", || lab::forge_udp_ports(EDGE4.parse().unwrap(), 67, 68));
    assert!(lab.settles(|| counts()[3] > before, true), "a DHCP answer was dropped");
    // Addresses of this host do not come from the wire. The kernel itself refuses most of them.
    let dropped = packets("dropped").await + packets("spoofed").await;
    lab.route_localnet();
    // Neighbours first: nobody answers a question that comes from 127.0.0.1.
    assert!(lab.pings("stranger", STRANGER4, ORIGIN4));
    lab.at("stranger", || lab::forge_udp("127.0.0.1".parse().unwrap()));
    let mut later = dropped;
    for _ in 0..50 {
        later = packets("dropped").await + packets("spoofed").await;
        if later > dropped {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(later > dropped, "a packet from 127.0.0.1 came in at the wire");
    agent.stop().await;
}

#[tokio::test]
async fn a_published_port_of_a_container_is_open_to_its_sources_only() {
    let Some(lab) = Lab::build("pub") else { return };
    lab.container(INNER, &[443, 8080]);
    let edge = |port, within| lab.connects("edge", EDGE4, ORIGIN4, port, within);
    let stranger = |port, within| lab.connects("stranger", STRANGER4, ORIGIN4, port, within);
    assert!(edge(443, SOON) && stranger(443, SOON), "without rules all get in");
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    assert!(edge(443, SOON), "the edge reaches the container");
    assert!(!stranger(443, NEVER), "a stranger reaches a published port");
    assert!(!edge(8080, NEVER), "a published port that no rule opens is open");
    assert!(lab.container_reaches(EDGE4, SOON), "the container can no longer talk to others");
    let mut open = lab::settings(&lab);
    open.guard_published = false;
    agent.settings.send_replace(open);
    agent.handle.refresh().await.unwrap();
    assert!(stranger(443, SOON), "unguarded, and still closed");
    agent.stop().await;
}

#[tokio::test]
async fn instance_credentials_are_for_the_users_named() {
    let Some(lab) = Lab::build("md") else { return };
    let mut settings = lab::settings(&lab);
    settings.metadata_users = Some([0, 990].into());
    lab.metadata();
    let agent = Agent::start_with(&lab, settings).await;
    agent.handle.in_force().await.unwrap();
    let may = |uid| lab.asks_metadata(uid, SOON);
    assert!(may(0) && may(990), "users that may");
    assert!(!lab.asks_metadata(33, NEVER), "a user that may not");
    assert!(agent.handle.status().await.unwrap().packets["metadata"] > 0);
    agent.stop().await;
}

#[tokio::test]
async fn another_tables_drop_wins_and_its_accept_does_not() {
    let Some(lab) = Lab::build("prec") else { return };
    lab.listen(443);
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    lab.nft(
        "table inet theirs { chain early { type filter hook input priority -20; accept; }; \
             chain route { type filter hook prerouting priority -300; accept; }; }",
    );
    assert!(
        !lab.connects("stranger", STRANGER4, ORIGIN4, 443, NEVER),
        "an accept elsewhere opened it"
    );
    lab.nft("add chain inet theirs late { type filter hook input priority 20; policy drop; }");
    assert!(!lab.connects("edge", EDGE4, ORIGIN4, 443, NEVER), "a drop elsewhere was overruled");
    agent.stop().await;
}

/// Two ways from one model to the kernel: ours, and nft with what `export` prints. What nft lists of
/// both is the same.
#[tokio::test]
async fn what_is_exported_is_what_is_in_force() {
    let Some(lab) = Lab::build("exp") else { return };
    let mut settings = with_ssh(&lab);
    settings.metadata_users = Some([0, 33].into());
    settings.drops.group = Some(5);
    settings.table_owner = TableOwner::Off;
    let agent = Agent::start_with(&lab, settings).await;
    agent.handle.in_force().await.unwrap();
    let ours = lab.nft("list table inet palisade");
    let ruleset = agent.handle.ruleset().await.unwrap();
    agent.stop().await;
    lab.load_json(&export(&ruleset).unwrap());
    let theirs = lab.nft("list table inet palisade");
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|l| !l.trim_start().starts_with("packets"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(plain(&ours), plain(&theirs));
}

#[tokio::test]
async fn nobody_else_can_flush_or_change_a_table_that_has_an_owner() {
    let Some(lab) = Lab::build("own2") else { return };
    lab.listen(443);
    let agent = Agent::start(&lab).await;
    agent.handle.in_force().await.unwrap();
    if !lab.nft("list table inet palisade").contains("owner") {
        println!("skipped: this kernel knows no owners that leave their table (6.9)");
        return agent.stop().await;
    }
    let before = lab.generation();
    lab.nft("flush ruleset");
    for command in [
        "delete table inet palisade",
        "add element inet palisade cloudfront_v4 { 198.51.100.0/24 }",
        "insert rule inet palisade input accept",
        "flush chain inet palisade input",
    ] {
        assert!(lab.nft_refused(command).contains("Operation not permitted"), "{command}");
    }
    assert_eq!(lab.generation(), before);
    assert!(lab.connects("edge", EDGE4, ORIGIN4, 443, SOON));
    assert!(!lab.connects("stranger", STRANGER4, ORIGIN4, 443, NEVER));
    assert_eq!(agent.handle.status().await.unwrap().drift.repairs, 0);
    agent.stop().await;
}
