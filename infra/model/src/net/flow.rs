//! Which packets get from one end to another: egress rules, ACLs, routes and ingress rules, both ways. Sets
//! of ports and of addresses are exact; nothing is sampled.
//!
//! Rules of security groups cut the ports into pieces in which all ports are alike. For each piece a set of
//! the source's and one of the destination's addresses goes through the hops; each hop narrows one of them.
//! No hop relates the two, so a pair of sets is all there is to know.

mod ends;
mod hops;

use std::fmt;

use super::{Network, addresses::FAMILIES, groups::Protocol, ranges::Ranges};

pub use ends::{End, Where};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Whether some packet gets through: for what must not be.
    May,
    /// Whether all packets get through, from every address to every address: for what must be.
    Must,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// The ports that get through.
    pub ports: Ranges,
    /// By which rules, hop by hop; or as far as it got.
    pub steps: Vec<Step>,
    /// What stops it, if nothing gets through.
    pub stopped: Option<Step>,
}

/// A hop of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(pub String);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of `ports` get from one end to another.
#[must_use]
pub fn flow(
    net: &Network,
    from: End,
    to: End,
    protocol: Protocol,
    ports: &Ranges,
    mode: Mode,
) -> Flow {
    if let Some(viewers) = viewers(net, from, to, protocol, ports) {
        return viewers;
    }
    let pairs = match ends::pairs(net, from, to, mode) {
        Ok(pairs) => pairs,
        Err(why) => return Flow { stopped: Some(Step(why)), ..Flow::default() },
    };
    let mut best: Option<Flow> = None;
    for (source, destination) in &pairs {
        let one = between(net, source, destination, protocol, ports, mode);
        best = Some(match (best, mode) {
            (None, _) => one,
            (Some(best), Mode::May) => either(best, one),
            (Some(best), Mode::Must) => both(best, one),
        });
    }
    best.unwrap_or_default()
}

/// A distribution is open to all that the internet routes: who may see what is the web firewall's business.
fn viewers(net: &Network, from: End, to: End, protocol: Protocol, ports: &Ranges) -> Option<Flow> {
    let (End::Internet | End::Admins, End::CloudFront) = (from, to) else { return None };
    let Some((name, at)) = net.edge.distributions.first() else {
        let stopped = Some(Step("there is no distribution".to_owned()));
        return Some(Flow { stopped, ..Flow::default() });
    };
    // HTTP/3 comes by UDP.
    let open = match protocol {
        Protocol::TCP => Ranges::from_many([(80, 80), (443, 443)]),
        Protocol::UDP => Ranges::one(443),
        Protocol(_) => Ranges::none(),
    };
    let open = open.and(ports);
    let said = format!("{protocol} to {name} ({at}), which answers everybody at {open}");
    let stopped = open.is_empty().then(|| Step("a distribution listens at 80 and 443".to_owned()));
    Some(Flow { ports: open, steps: vec![Step(said)], stopped })
}

/// Some packet gets through if it does by one of two ways. The steps of the one that lets most through.
fn either(a: Flow, b: Flow) -> Flow {
    let ports = a.ports.union(&b.ports);
    let first = match (a.ports.size(), b.ports.size()) {
        // Of two that are stopped, the one that got further says more.
        (0, 0) => a.steps.len() >= b.steps.len(),
        (a, b) => a >= b,
    };
    Flow { ports, ..if first { a } else { b } }
}

/// All packets get through if they do by both. The steps of the one that lets least through.
fn both(a: Flow, b: Flow) -> Flow {
    let ports = a.ports.and(&b.ports);
    Flow { ports, ..if a.ports.size() <= b.ports.size() { a } else { b } }
}

/// Between one subnet (or outside place) of the source and one of the destination.
fn between(
    net: &Network,
    from: &Where<'_>,
    to: &Where<'_>,
    protocol: Protocol,
    ports: &Ranges,
    mode: Mode,
) -> Flow {
    let hops = hops::between(net, from, to);
    let mut total = Flow::default();
    for family in FAMILIES {
        let (sources, destinations) = (from.addresses.of(family), to.addresses.of(family));
        if sources.is_empty() || destinations.is_empty() {
            continue;
        }
        let mut alive: Vec<_> = hops::pieces(&hops, protocol, ports)
            .into_iter()
            .map(|piece| (piece, sources.clone(), destinations.clone()))
            .collect();
        let (mut steps, mut stopped) = (vec![Step(from.text(protocol))], None);
        for hop in &hops {
            let before = union(&alive);
            alive.retain_mut(|(piece, src, dst)| {
                let (set, whole) = if hop.narrows_source() {
                    (&mut *src, sources)
                } else {
                    (&mut *dst, destinations)
                };
                *set = hop.lets(net, protocol, piece, family, set, mode);
                match mode {
                    Mode::May => !set.is_empty(),
                    Mode::Must => set == whole,
                }
            });
            if alive.is_empty() {
                stopped = Some(Step(hop.why_not(protocol, &before)));
                break;
            }
            steps.extend(hop.by(protocol, &union(&alive)).map(Step));
        }
        let through = union(&alive);
        if stopped.is_none() {
            steps.push(Step(to.arrival(protocol, &through)));
        }
        let one = Flow { ports: through, steps, stopped };
        total = if total.steps.is_empty() { one } else { either(total, one) };
        // Version 4 is there everywhere; what must be reached must be by it.
        if mode == Mode::Must {
            break;
        }
    }
    total
}

fn union(alive: &[(Ranges, Ranges, Ranges)]) -> Ranges {
    Ranges::from_many(alive.iter().flat_map(|(piece, ..)| piece.parts().iter().copied()))
}

#[cfg(test)]
#[path = "flow/tests.rs"]
mod tests;
