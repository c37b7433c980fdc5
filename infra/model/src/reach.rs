//! `palisade-infra reach FROM TO[:PORT]`: the question in people's names, the answer with its lines.

use std::fmt;

use crate::{
    estate::Estate,
    net::{
        Network,
        flow::{End, Flow, Mode, flow},
        groups::Protocol,
        nodes::Kind,
        ranges::Ranges,
    },
};

/// Names that mean the same in every estate. Any node is also called `stack.Logical`.
pub const NAMES: [&str; 9] = [
    "internet",
    "cloudfront",
    "admins",
    "bastion",
    "load-balancer",
    "origin",
    "aurora",
    "redis",
    "endpoints",
];

/// The most hops of a detour: internet, CloudFront, load balancer, origin and one more.
const LONGEST_DETOUR: usize = 5;

/// A question that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// A name that is neither one of [`NAMES`] nor that of a node.
    #[error("nothing here is called {name}")]
    Unknown {
        /// It.
        name: String,
        /// Names that can be asked about.
        known: Vec<String>,
    },
    /// A name of [`NAMES`] of which this environment has none.
    #[error("this environment has no {name}")]
    None {
        /// It.
        name: String,
    },
}

impl BadQuestion {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { known, .. } => format!("ask about one of {}", known.join(", ")),
            Self::None { .. } => {
                "the environment's parameters decide what it has: see infra/params".to_owned()
            }
        }
    }
}

/// Whether one thing gets to another, without anything between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// `tcp`.
    pub protocol: String,
    /// `443`, or nothing if nothing gets through.
    pub ports: Option<String>,
    /// By which rules.
    pub steps: Vec<String>,
    /// What stops it.
    pub stopped: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From whom, as asked.
    pub from: String,
    /// To whom, as asked.
    pub to: String,
    /// At which port; any if none.
    pub port: Option<u16>,
    /// Packets: every source to every destination.
    pub direct: Vec<Line>,
    /// Requests that others forward: CloudFront, a load balancer, a bastion. The shortest way, if
    /// no packet gets there by itself.
    pub detour: Vec<Line>,
}

impl Answer {
    /// Whether some packet gets there by itself.
    #[must_use]
    pub fn yes(&self) -> bool {
        self.direct.iter().any(|line| line.ports.is_some())
    }
}

/// May `from` reach `to`, and by which rules? Without a port: any port of TCP, then of UDP.
///
/// # Errors
/// A name that nothing has.
pub fn reach(
    estate: &Estate,
    from: &str,
    to: &str,
    port: Option<u16>,
) -> Result<Answer, BadQuestion> {
    let net = Network::of(estate);
    let (sources, destinations) = (ends(&net, from)?, ends(&net, to)?);
    let ports = port.map_or_else(Ranges::all_ports, |p| Ranges::one(p.into()));
    let mut direct = Vec::new();
    for source in &sources {
        for destination in destinations.iter().filter(|d| *d != source) {
            let mut lines = [Protocol::TCP, Protocol::UDP].map(|protocol| {
                let flow = flow(&net, *source, *destination, protocol, &ports, Mode::May);
                line(&net, *source, *destination, protocol, flow)
            });
            let udp_says_more = lines[0].ports.is_none() && lines[1].ports.is_some();
            lines.rotate_left(usize::from(udp_says_more));
            let [first, second] = lines;
            let both = first.ports.is_some() && second.ports.is_some();
            direct.push(first);
            direct.extend(both.then_some(second));
        }
    }
    let mut answer =
        Answer { from: from.to_owned(), to: to.to_owned(), port, direct, detour: Vec::new() };
    if !answer.yes() {
        answer.detour = detour(&net, &sources, &destinations, &ports);
    }
    Ok(answer)
}

/// The ends that a name means.
fn ends(net: &Network, name: &str) -> Result<Vec<End>, BadQuestion> {
    let kind = |kind: Kind| net.of_kind(kind).map(|(i, _)| End::Node(i)).collect::<Vec<_>>();
    let found = match name {
        "internet" => vec![End::Internet],
        "cloudfront" => vec![End::CloudFront],
        "admins" => vec![End::Admins],
        "bastion" => net.bastions().map(|(i, _)| End::Node(i)).collect(),
        "origin" => net.origins().map(|(i, _)| End::Node(i)).collect(),
        "load-balancer" => [kind(Kind::LoadBalancer), kind(Kind::NetworkLoadBalancer)].concat(),
        "aurora" => kind(Kind::Database),
        "redis" => kind(Kind::Cache),
        "endpoints" => kind(Kind::Endpoint),
        _ => {
            let node = net.nodes.iter().position(|n| n.name == name);
            let node = node.ok_or_else(|| BadQuestion::Unknown {
                name: name.to_owned(),
                known: NAMES
                    .iter()
                    .map(|n| (*n).to_owned())
                    .chain(net.nodes.iter().map(|n| n.name.clone()))
                    .collect(),
            })?;
            vec![End::Node(node)]
        }
    };
    if found.is_empty() { Err(BadQuestion::None { name: name.to_owned() }) } else { Ok(found) }
}

/// What an end is called.
fn called(net: &Network, end: End) -> String {
    match end {
        End::Internet => "internet".to_owned(),
        End::CloudFront => "cloudfront".to_owned(),
        End::Admins => "admins".to_owned(),
        End::Node(i) => net.nodes.get(i).map(|n| n.name.clone()).unwrap_or_default(),
    }
}

fn line(net: &Network, from: End, to: End, protocol: Protocol, flow: Flow) -> Line {
    Line {
        from: called(net, from),
        to: called(net, to),
        protocol: protocol.to_string(),
        ports: (!flow.ports.is_empty()).then(|| flow.ports.to_string()),
        steps: flow.steps.into_iter().map(|s| s.0).collect(),
        stopped: flow.stopped.map(|s| s.0).filter(|_| flow.ports.is_empty()),
    }
}

/// Whom an end hands requests on to, and at which ports.
fn forwards(net: &Network, end: End) -> Vec<(End, Ranges)> {
    match end {
        End::Internet | End::Admins => {
            let nodes = (0..net.nodes.len()).filter(|i| is_between(net, *i)).map(End::Node);
            let all = nodes.chain([End::CloudFront]);
            all.map(|to| (to, Ranges::all_ports())).collect()
        }
        End::CloudFront => {
            let all = net.edge.origins.iter();
            all.map(|o| (End::Node(o.node), Ranges::one(o.port.into()))).collect()
        }
        End::Node(node) if net.is_bastion(node) => {
            let others = (0..net.nodes.len()).filter(|i| *i != node);
            others.map(|i| (End::Node(i), Ranges::all_ports())).collect()
        }
        End::Node(node) => {
            let own = net.edge.forwards.iter().filter(|f| f.from == node);
            own.map(|f| (End::Node(f.to), f.ports.clone())).collect()
        }
    }
}

/// Whether a node hands on what it is sent.
fn is_between(net: &Network, node: usize) -> bool {
    net.is_bastion(node) || net.edge.listens.contains_key(&node)
}

/// The shortest way by others that hand on what they are sent.
fn detour(net: &Network, from: &[End], to: &[End], ports: &Ranges) -> Vec<Line> {
    let mut ways: Vec<(End, Vec<Line>)> = from.iter().map(|end| (*end, Vec::new())).collect();
    let mut seen: Vec<End> = from.to_vec();
    for _ in 0..LONGEST_DETOUR {
        let mut next = Vec::new();
        for (end, way) in &ways {
            for (onward, at) in forwards(net, *end) {
                let last = to.contains(&onward);
                if seen.contains(&onward) {
                    continue;
                }
                // Only the last hop is at the port that was asked about.
                let at = if last { at.and(ports) } else { at };
                let flow = flow(net, *end, onward, Protocol::TCP, &at, Mode::May);
                if flow.ports.is_empty() {
                    continue;
                }
                let line = line(net, *end, onward, Protocol::TCP, flow);
                let way = [way.as_slice(), &[line]].concat();
                if last {
                    return way;
                }
                seen.push(onward);
                next.push((onward, way));
            }
        }
        ways = next;
    }
    Vec::new()
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ports {
            Some(ports) => {
                write!(f, "{} -> {}: yes, {} {ports}", self.from, self.to, self.protocol)?
            }
            None => write!(f, "{} -> {}: no", self.from, self.to)?,
        }
        for step in self.steps.iter().chain(&self.stopped) {
            write!(f, "\n    {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.direct.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{line}")?;
        }
        if !self.detour.is_empty() {
            let ends = self.detour.iter().map(|line| line.to.as_str());
            let way: Vec<_> = std::iter::once(self.from.as_str()).chain(ends).collect();
            write!(f, "\nnot by itself, but handed on: {}", way.join(" -> "))?;
            for line in &self.detour {
                write!(f, "\n{line}")?;
            }
        }
        Ok(())
    }
}
