//! Our rules in the terms of a firewall: what a packet must be, and what becomes of it. Pure.
//!
//! Order at the input hook: loopback, the gate of ports that end with their grant, replies, what a
//! host needs to be a host (ICMP, neighbour discovery, DHCP), one rule for each source and family,
//! then the count of what is dropped. The gate stands before replies, so that the end of a grant ends
//! the connections it opened, even while no agent runs.

use std::collections::{BTreeMap, BTreeSet};

use super::ruleset::{Allow, Protocol, Ruleset};

/// Counter of packets that no rule let in.
pub(super) const DROPPED: &str = "dropped";
/// Counter of packets that belong to no connection and cannot start one.
pub(super) const INVALID: &str = "invalid";
/// Counter of packets that claim to come from this host and came from elsewhere.
pub(super) const SPOOFED: &str = "spoofed";
/// Counter of packets to a gated port from an address that has no grant.
pub(super) const GATED: &str = "gated";
/// Counter of packets to published ports of containers that no rule let through.
pub(super) const PUBLISHED: &str = "published";
/// Counter of requests for instance credentials by users that may not.
pub(super) const METADATA: &str = "metadata";

/// Pings answered in a second, and at once after a pause.
const PINGS: Limit = Limit { per_second: 10, burst: 20 };
/// Packets told to the log in a second by one rule, and at once after a pause.
const LOGGED: Limit = Limit { per_second: 10, burst: 50 };

/// Counter of packets that a source was let in with.
#[must_use]
pub(super) fn counter_of(source: &str) -> String {
    format!("from_{source}")
}

/// Name in the kernel of the addresses of a source.
#[must_use]
pub(super) fn addresses_of(source: &str, family: Family) -> String {
    format!("{source}_{}", family.suffix())
}

/// Name in the kernel of the ports that are open to a source.
#[must_use]
pub(super) fn ports_of(allow: &Allow) -> String {
    format!("{}_{}", allow.source, allow.protocol)
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// Where in the kernel a chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Packets for this host.
    Input,
    /// Packets through this host.
    Forward,
    /// Packets of this host.
    Output,
}

impl Hook {
    /// Its name, which is also that of our chain there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// What becomes of packets that no rule of a chain decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They end.
    Drop,
}

/// A chain as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it is called.
    pub hook: Hook,
    /// What becomes of the rest.
    pub policy: Policy,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule: its clauses are looked at in order, and the first that does not hold ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it is for, in words.
    pub comment: String,
    /// Its clauses.
    pub clauses: Vec<Clause>,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In a second.
    pub per_second: u32,
    /// At once after a pause.
    pub burst: u32,
}

/// States of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Packets of a connection that is known, and errors about one.
    Known,
    /// Packets that belong to none and cannot start one.
    Invalid,
}

/// A part of a rule: a condition, or something done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// It came in at `lo`.
    FromLoopback,
    /// State of its connection.
    State(State),
    /// Its connection was redirected, as published ports of containers are.
    Redirected,
    /// The port it was sent to before it was redirected is in this set.
    OriginalPortIn(String),
    /// Its destination port is in this set.
    PortIn(Protocol, String),
    /// UDP from this port to that one.
    Udp(u16, u16),
    /// Its source is in this set, or is not.
    SourceIn(Family, String, bool),
    /// Its source is 127.0.0.0/8 or `::1`.
    SourceLoopback(Family),
    /// Its source is an address of the link, fe80::/10.
    SourceLinkLocal,
    /// It is for the metadata service of the instance.
    ToMetadata(Family),
    /// It was sent by this user.
    User(u32),
    /// ICMP of types from one to another.
    Icmp(Family, u8, u8),
    /// It came through no router.
    HopLimit255,
    /// Not more often than this.
    AtMost(Limit),
    /// Counted by this name.
    Count(String),
    /// Told to the log with this word.
    Log(u16, &'static str),
    /// Let through.
    Accept,
    /// Ended without an answer.
    Drop,
    /// Ended with a TCP reset; what is not TCP must not get here.
    Reset,
}

/// Ports that end with their grant, and who else may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) name: String,
    pub(super) ports: BTreeSet<u16>,
    sources: BTreeSet<String>,
}

/// The gates: one for each group of ports with the same sources.
pub(super) fn gates(want: &Ruleset) -> Vec<Gate> {
    let mut by_port: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for allow in want.rules.iter().filter(|a| a.protocol == Protocol::Tcp) {
        for port in &allow.ports {
            by_port.entry(*port).or_default().insert(allow.source.clone());
        }
    }
    let mut groups: BTreeMap<BTreeSet<String>, BTreeSet<u16>> = BTreeMap::new();
    for (port, sources) in by_port {
        if sources.iter().any(|s| want.timed.contains_key(s)) {
            groups.entry(sources).or_default().insert(port);
        }
    }
    let numbered = groups.into_iter().enumerate();
    numbered
        .map(|(n, (sources, ports))| Gate { name: format!("gate{n}_tcp"), ports, sources })
        .collect()
}

/// All chains that are to be there.
#[must_use]
pub fn chains(want: &Ruleset) -> Vec<Chain> {
    let mut all = vec![Chain { hook: Hook::Input, policy: Policy::Drop, rules: input(want) }];
    if want.guard_published {
        let rules = forward(want);
        all.push(Chain { hook: Hook::Forward, policy: Policy::Accept, rules });
    }
    if let Some(users) = &want.metadata_users {
        let rules = output(users, want.log_group);
        all.push(Chain { hook: Hook::Output, policy: Policy::Accept, rules });
    }
    all
}

/// Names of the counters that chains count by.
#[must_use]
pub(super) fn counters(chains: &[Chain]) -> BTreeSet<String> {
    let clauses = chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.clauses);
    let count = |clause: &Clause| match clause {
        Clause::Count(name) => Some(name.clone()),
        _ => None,
    };
    clauses.filter_map(count).collect()
}

/// The rules in words, for `plan`.
#[must_use]
pub(super) fn texts(want: &Ruleset) -> Vec<String> {
    let rules = chains(want).into_iter().flat_map(|c| c.rules);
    rules.map(|r| r.comment).collect()
}

fn rule(comment: impl Into<String>, clauses: impl Into<Vec<Clause>>) -> Rule {
    // The kernel takes comments of up to 128 bytes.
    Rule { comment: comment.into().chars().take(120).collect(), clauses: clauses.into() }
}

fn input(want: &Ruleset) -> Vec<Rule> {
    let mut all = vec![rule("loopback", [Clause::FromLoopback, Clause::Accept])];
    for gate in gates(want) {
        all.extend(Family::BOTH.map(|family| gate_rule(&gate, family)));
    }
    all.extend(host_rules());
    for allow in &want.rules {
        all.extend(Family::BOTH.map(|family| allow_rule(allow, family)));
    }
    all.extend(want.log_group.map(|group| log_rule(group, "dropped", Vec::new())));
    all.push(rule("all else is dropped", [Clause::Count(DROPPED.to_owned()), Clause::Drop]));
    all
}

fn log_rule(group: u16, word: &'static str, mut clauses: Vec<Clause>) -> Rule {
    clauses.extend([Clause::AtMost(LOGGED), Clause::Log(group, word)]);
    rule(format!("log: {word}"), clauses)
}

fn gate_rule(gate: &Gate, family: Family) -> Rule {
    let ports: Vec<String> = gate.ports.iter().map(u16::to_string).collect();
    let comment = format!("tcp {} ends without a grant", ports.join(","));
    let mut clauses = vec![Clause::PortIn(Protocol::Tcp, gate.name.clone())];
    let outside = |s: &String| Clause::SourceIn(family, addresses_of(s, family), false);
    clauses.extend(gate.sources.iter().map(outside));
    clauses.extend([Clause::Count(GATED.to_owned()), Clause::Reset]);
    rule(comment, clauses)
}

fn allow_rule(allow: &Allow, family: Family) -> Rule {
    let ports: Vec<String> = allow.ports.iter().map(u16::to_string).collect();
    let set = addresses_of(&allow.source, family);
    let comment = format!("{} {} from {set}", allow.protocol, ports.join(","));
    let clauses = [
        Clause::PortIn(allow.protocol, ports_of(allow)),
        Clause::SourceIn(family, set, true),
        Clause::Count(counter_of(&allow.source)),
        Clause::Accept,
    ];
    rule(comment, clauses)
}

/// The rules that do not depend on the configuration.
fn host_rules() -> Vec<Rule> {
    use Clause::{Accept, AtMost, Count, Drop, HopLimit255, Icmp, SourceLinkLocal, Udp};
    use Family::{V4, V6};
    let spoofed = |family| {
        let clauses = [Clause::SourceLoopback(family), Count(SPOOFED.to_owned()), Drop];
        rule("from here, but not at loopback", clauses)
    };
    vec![
        rule("replies", [Clause::State(State::Known), Accept]),
        rule("no connection", [Clause::State(State::Invalid), Count(INVALID.to_owned()), Drop]),
        spoofed(V4),
        spoofed(V6),
        // Destination unreachable, with "fragmentation needed" among its codes.
        rule("icmp errors", [Icmp(V4, 3, 3), Accept]),
        // Time exceeded, parameter problem.
        rule("icmp errors", [Icmp(V4, 11, 12), Accept]),
        rule("ping", [Icmp(V4, 8, 8), AtMost(PINGS), Accept]),
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        rule("icmpv6 errors", [Icmp(V6, 1, 4), Accept]),
        rule("ping", [Icmp(V6, 128, 128), AtMost(PINGS), Accept]),
        // Router advertisement, neighbour solicitation, neighbour advertisement.
        rule("neighbours", [HopLimit255, Icmp(V6, 134, 136), Accept]),
        rule("multicast listeners", [SourceLinkLocal, Icmp(V6, 130, 130), Accept]),
        rule("dhcp", [Udp(67, 68), Accept]),
        rule("dhcpv6", [SourceLinkLocal, Udp(547, 546), Accept]),
    ]
}

/// Containers' published ports are redirected before the input hook is reached, so who may use them
/// is said here again. That goes for other containers too, as it does at the input hook.
fn forward(want: &Ruleset) -> Vec<Rule> {
    let redirected = || vec![Clause::Redirected];
    let mut all = vec![rule("replies", [Clause::State(State::Known), Clause::Accept])];
    for allow in want.rules.iter().filter(|a| a.protocol == Protocol::Tcp) {
        all.extend(Family::BOTH.map(|family| {
            let set = addresses_of(&allow.source, family);
            let comment = format!("published to {set}");
            let mut clauses = redirected();
            clauses.extend([
                Clause::OriginalPortIn(ports_of(allow)),
                Clause::SourceIn(family, set, true),
                Clause::Count(counter_of(&allow.source)),
                Clause::Accept,
            ]);
            rule(comment, clauses)
        }));
    }
    all.extend(want.log_group.map(|group| log_rule(group, "published", redirected())));
    let mut clauses = redirected();
    clauses.extend([Clause::Count(PUBLISHED.to_owned()), Clause::Drop]);
    all.push(rule("all else that is published is closed", clauses));
    all
}

/// Who may ask for the instance's credentials.
fn output(users: &BTreeSet<u32>, log_group: Option<u16>) -> Vec<Rule> {
    let mut all = Vec::new();
    for family in Family::BOTH {
        all.extend(users.iter().map(|uid| {
            let clauses = [Clause::ToMetadata(family), Clause::User(*uid), Clause::Accept];
            rule(format!("metadata for user {uid}"), clauses)
        }));
        let to = vec![Clause::ToMetadata(family)];
        all.extend(log_group.map(|group| log_rule(group, "metadata", to)));
        let clauses =
            [Clause::ToMetadata(family), Clause::Count(METADATA.to_owned()), Clause::Drop];
        all.push(rule("metadata for nobody else", clauses));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(source: &str, ports: &[u16]) -> Allow {
        Allow {
            protocol: Protocol::Tcp,
            ports: ports.iter().copied().collect(),
            source: source.to_owned(),
        }
    }

    fn comments(want: &Ruleset) -> Vec<String> {
        texts(want)
    }

    #[test]
    fn ports_of_grants_are_gated_before_replies_and_others_are_not() {
        let want = Ruleset {
            timed: [("grants".to_owned(), BTreeMap::new())].into(),
            rules: vec![
                allow("bastion", &[22]),
                allow("cloudfront", &[443]),
                allow("grants", &[22]),
            ],
            ..Ruleset::default()
        };
        let all = comments(&want);
        let at = |text: &str| all.iter().position(|c| c == text).unwrap();
        assert!(at("tcp 22 ends without a grant") < at("replies"), "{all:?}");
        assert_eq!(all.iter().filter(|c| c.contains("ends without")).count(), 2);
        let [gate] = gates(&want).try_into().unwrap();
        assert_eq!((gate.ports, gate.sources.len()), ([22].into(), 2));
    }

    #[test]
    fn without_grants_nothing_is_gated_and_no_other_chain_is_there_unasked() {
        let want = Ruleset { rules: vec![allow("cloudfront", &[443])], ..Ruleset::default() };
        assert!(gates(&want).is_empty());
        let hooks: Vec<Hook> = chains(&want).iter().map(|c| c.hook).collect();
        assert_eq!(hooks, [Hook::Input]);
    }

    #[test]
    fn every_chain_ends_in_a_verdict_for_what_it_guards() {
        let want = Ruleset {
            guard_published: true,
            metadata_users: Some([0].into()),
            rules: vec![allow("cloudfront", &[443])],
            ..Ruleset::default()
        };
        for chain in chains(&want) {
            let last = chain.rules.last().unwrap();
            assert_eq!(last.clauses.last(), Some(&Clause::Drop), "{chain:?}");
        }
    }
}
