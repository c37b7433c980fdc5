use super::*;
use crate::{
    firewall::{AddrSet, Allow, Protocol, safety::expected},
    sys::children::Children,
};

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a skip and a figure are printed")]
async fn packets_do_what_the_rules_say_in_a_network_that_leaves_nothing_behind() {
    use crate::firewall::safety::Prober as _;
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    let set = AddrSet::parse(["203.0.113.0/24", "2001:db8:1::/48"]).unwrap();
    let allow = Allow { protocol: Protocol::Tcp, ports: [443].into(), source: "edge".to_owned() };
    let rules = Ruleset {
        sets: [("edge".to_owned(), set)].into(),
        rules: vec![allow],
        ..Ruleset::default()
    };
    let probe = |from: &str, port| Probe { from: from.parse().unwrap(), port };
    let probes = [
        probe("203.0.113.0", 443),
        probe("203.0.113.255", 443),
        probe("203.0.114.0", 443),
        probe("203.0.113.7", 22),
        probe("2001:db8:1::", 443),
        probe("2001:db8:2::", 443),
    ];
    let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let mut scratch = Scratch::new(Children::default());
    let started = tokio::time::Instant::now();
    let answers = scratch.probe(&rules, &probes).await.unwrap();
    println!("{} probes took {:?}", probes.len(), started.elapsed());
    let read: Vec<Verdict> = probes.iter().map(|p| expected(Some(&rules), p)).collect();
    assert_eq!(answers.verdicts, read);
    assert_eq!(read.iter().filter(|v| **v == Verdict::Accepted).count(), 3);
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
}
