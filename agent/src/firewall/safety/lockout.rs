//! Whether a change of rules would cut somebody off who must not be. Pure: from the rules before and
//! after, and who is connected.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::super::ruleset::{Protocol, Ruleset};

/// A connection to a port that somebody here listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to port {}", self.remote, self.local.port())
    }
}

/// Who is connected, and how one could be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Established TCP connections that others opened.
    pub connections: Vec<Connection>,
    /// Ports at which sshd listens.
    pub ssh_ports: BTreeSet<u16>,
    /// Whether the SSM agent runs, through which Session Manager gets in without a port.
    pub ssm: bool,
    /// The SSH connection that whoever asks came by, if any.
    pub own: Option<Connection>,
    /// Whether somebody asked, so that `own` says all there is to say.
    pub asked: bool,
}

/// Why a change locks somebody out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockout {
    /// It would cut the login of whoever asks.
    Own(Connection),
    /// It would cut these logins.
    Logins(Vec<Connection>),
    /// Nobody could log in any more: sshd listens here, and it is open to nobody.
    NoWayIn(BTreeSet<u16>),
}

impl fmt::Display for Lockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(c) => write!(f, "it would cut your own SSH session, {c}"),
            Self::Logins(all) => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                write!(f, "it would cut live SSH sessions: {}", all.join(", "))
            }
            Self::NoWayIn(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(
                    f,
                    "it leaves no way in: sshd's port {} would be open to nobody, and no SSM agent runs",
                    ports.join(", ")
                )
            }
        }
    }
}

/// Whether rules let an address connect to a port; no rules let all in.
#[must_use]
pub fn admits(rules: Option<&Ruleset>, ip: IpAddr, port: u16) -> bool {
    let Some(rules) = rules else { return true };
    let ip = ip.to_canonical();
    let fits = |r: &super::super::ruleset::Allow| {
        r.protocol == Protocol::Tcp
            && r.ports.contains(&port)
            && rules.addresses(&r.source).find(ip).is_some()
    };
    ip.is_loopback() || rules.rules.iter().any(fits)
}

/// The connections that are let in now and would not be then.
#[must_use]
pub fn cut(
    now: Option<&Ruleset>,
    then: Option<&Ruleset>,
    connections: &[Connection],
) -> Vec<Connection> {
    let lost = |c: &&Connection| {
        let (ip, port) = (c.remote.ip(), c.local.port());
        // What comes from this host's own address comes over the loopback interface.
        let is_own = ip.to_canonical() == c.local.ip().to_canonical();
        !is_own && admits(now, ip, port) && !admits(then, ip, port)
    };
    let mut all: Vec<Connection> = connections.iter().filter(lost).copied().collect();
    all.sort_unstable();
    all
}

/// Whether somebody could get to a port at all. Grants come and go, so an empty set of theirs counts.
fn is_open_to_somebody(rules: Option<&Ruleset>, port: u16, grants: Option<&str>) -> bool {
    let Some(rules) = rules else { return true };
    rules.rules.iter().any(|r| {
        r.protocol == Protocol::Tcp
            && r.ports.contains(&port)
            && (grants == Some(r.source.as_str())
                || rules.sets.get(&r.source).is_some_and(|s| !s.is_empty()))
    })
}

/// Whom the change would lock out. `grants` is the source that live grants are, where there is one.
#[must_use]
pub fn judge(
    now: Option<&Ruleset>,
    then: Option<&Ruleset>,
    around: &Surroundings,
    grants: Option<&str>,
) -> Vec<Lockout> {
    let mut all = Vec::new();
    let lost = cut(now, then, &around.connections);
    let is_ssh = |c: &&Connection| around.ssh_ports.contains(&c.local.port());
    let logins: Vec<Connection> = lost.iter().filter(is_ssh).copied().collect();
    match around.own {
        Some(own) => all.extend(lost.contains(&own).then_some(Lockout::Own(own))),
        None if around.asked || logins.is_empty() => {}
        None => all.push(Lockout::Logins(logins)),
    }
    let open = |rules| around.ssh_ports.iter().any(|p| is_open_to_somebody(rules, *p, grants));
    // Only what takes the last way away: a host that had none is not locked by this change.
    if !around.ssm && open(now) && !open(then) {
        all.push(Lockout::NoWayIn(around.ssh_ports.clone()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{AddrSet, Allow};

    fn rules(of: &[(&str, &[&str], u16)]) -> Ruleset {
        let mut all = Ruleset::default();
        for (source, prefixes, port) in of {
            let set = AddrSet::parse(prefixes.iter().copied()).unwrap();
            all.sets.insert((*source).to_owned(), set);
            all.rules.push(Allow {
                protocol: Protocol::Tcp,
                ports: [*port].into(),
                source: (*source).to_owned(),
            });
        }
        all
    }

    fn at(remote: &str, port: u16) -> Connection {
        Connection {
            local: SocketAddr::new("192.0.2.1".parse().unwrap(), port),
            remote: remote.parse().unwrap(),
        }
    }

    #[test]
    fn only_who_is_let_in_now_and_would_not_be_then_is_cut() {
        let now = rules(&[("a", &["10.0.0.0/24"], 22), ("b", &["10.1.0.0/24"], 443)]);
        let then = rules(&[("a", &["10.0.0.0/25"], 22), ("b", &["10.1.0.0/24"], 443)]);
        let stays = [at("10.0.0.5:1", 22), at("10.1.0.5:1", 443), at("127.0.0.1:1", 22)];
        let never = [at("10.9.9.9:1", 22), at("192.0.2.1:9", 22)];
        let all: Vec<_> =
            stays.iter().chain(&never).copied().chain([at("10.0.0.200:1", 22)]).collect();
        assert_eq!(cut(Some(&now), Some(&then), &all), [at("10.0.0.200:1", 22)]);
        assert_eq!(cut(Some(&now), None, &all), [], "to enforce nothing cuts nobody");
        assert_eq!(cut(None, Some(&now), &all), [at("10.9.9.9:1", 22)], "the first rules cut too");
        // The other end may be written as IPv6.
        let mapped = [at("[::ffff:10.0.0.200]:1", 22)];
        assert_eq!(cut(Some(&now), Some(&then), &mapped).len(), 1);
    }

    #[test]
    fn the_last_way_in_is_not_taken_away() {
        let open = rules(&[("a", &["10.0.0.0/24"], 2222)]);
        let shut = rules(&[("a", &[], 2222)]);
        let mut around = Surroundings { ssh_ports: [2222].into(), ..Surroundings::default() };
        let lost = judge(Some(&open), Some(&shut), &around, None);
        assert_eq!(lost, [Lockout::NoWayIn([2222].into())]);
        assert!(lost[0].to_string().contains("port 2222 would be open to nobody"));
        assert!(
            judge(None, Some(&rules(&[("a", &["10.0.0.0/24"], 22)])), &around, None).len() == 1
        );
        // Grants open it when they come; Session Manager needs no port; a host without sshd has no way.
        assert_eq!(judge(Some(&open), Some(&shut), &around, Some("a")), []);
        around.ssm = true;
        assert_eq!(judge(Some(&open), Some(&shut), &around, None), []);
        around = Surroundings::default();
        assert_eq!(judge(Some(&open), Some(&shut), &around, None), []);
    }
}
