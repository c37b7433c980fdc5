//! The count of one minute. Pure.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Batch, Dropped,
    summary::{Counts, PortCount, SourceCount},
};

/// Sources that are told apart. When there is one more, the quarter that was seen least makes room
/// and is counted as others.
pub const MAX_SOURCES: usize = 4096;
/// Ports of one source that are told apart; packets to others are counted together.
pub const MAX_PORTS: usize = 8;
/// Words of rules that are told apart; packets of others are counted as `other`.
pub const MAX_REASONS: usize = 16;

/// Sources that a summary names.
pub(super) const TOP: usize = 10;

/// What was logged since it was last taken.
#[derive(Debug, Default)]
pub struct Tally {
    sources: HashMap<IpAddr, Seen>,
    reasons: Vec<(String, u64)>,
    other_reasons: u64,
    /// Packets of sources that made room.
    others: u64,
    /// Sources that made room; one that came back is counted twice.
    made_room: u64,
    lost: u64,
    overruns: u64,
    unclear: u64,
    /// Counts up with each packet, so that of two sources seen as often the older one goes.
    turn: u64,
}

#[derive(Debug, Default)]
struct Seen {
    packets: u64,
    last: u64,
    ports: Vec<(u8, Option<u16>, u64)>,
    other_ports: u64,
}

impl Tally {
    /// Counts what came.
    pub fn take(&mut self, batch: &Batch) {
        self.lost += batch.lost;
        self.overruns += batch.overruns;
        self.unclear += batch.unclear;
        batch.packets.iter().for_each(|p| self.count(p));
    }

    /// Whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turn == 0 && self.lost == 0 && self.overruns == 0 && self.unclear == 0
    }

    fn count(&mut self, packet: &Dropped) {
        self.turn += 1;
        let has_room = self.reasons.len() < MAX_REASONS;
        match self.reasons.iter_mut().find(|(r, _)| *r == packet.reason) {
            Some((_, n)) => *n += 1,
            None if has_room => self.reasons.push((packet.reason.clone(), 1)),
            None => self.other_reasons += 1,
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&packet.source) {
            self.make_room();
        }
        let seen = self.sources.entry(packet.source).or_default();
        seen.packets += 1;
        seen.last = self.turn;
        let key = (packet.protocol, packet.port);
        let has_room = seen.ports.len() < MAX_PORTS;
        match seen.ports.iter_mut().find(|(protocol, port, _)| (*protocol, *port) == key) {
            Some((_, _, n)) => *n += 1,
            None if has_room => seen.ports.push((packet.protocol, packet.port, 1)),
            None => seen.other_ports += 1,
        }
    }

    /// A quarter at once, so that a flood of forged sources costs little for each packet.
    fn make_room(&mut self) {
        let mut ranks: Vec<(u64, u64)> =
            self.sources.values().map(|s| (s.packets, s.last)).collect();
        // `last` differs for each, so that this is exactly a quarter.
        let (_, limit, _) = ranks.select_nth_unstable(MAX_SOURCES / 4 - 1);
        let limit = *limit;
        let (others, made_room) = (&mut self.others, &mut self.made_room);
        self.sources.retain(|_, s| {
            let stays = (s.packets, s.last) > limit;
            if !stays {
                *others += s.packets;
                *made_room += 1;
            }
            stays
        });
    }

    /// What was counted, with at most `most` sources.
    #[must_use]
    pub(super) fn counts(&self, most: usize) -> Counts {
        let mut top: Vec<(&IpAddr, &Seen)> = self.sources.iter().collect();
        // By address too, so that the same packets make the same line.
        top.sort_unstable_by(|(a, x), (b, y)| y.packets.cmp(&x.packets).then(a.cmp(b)));
        Counts {
            logged: self.turn + self.unclear,
            lost: self.lost,
            overruns: self.overruns,
            by_reason: self
                .reasons
                .iter()
                .cloned()
                .chain((self.other_reasons > 0).then(|| ("other".to_owned(), self.other_reasons)))
                .collect(),
            sources: u64::try_from(self.sources.len()).unwrap_or(u64::MAX),
            more_sources: self.made_room > 0,
            top: top.iter().take(most).map(|(ip, seen)| seen.count(**ip)).collect(),
            others: self.others
                + self.unclear
                + top.iter().skip(most).map(|(_, s)| s.packets).sum::<u64>(),
        }
    }
}

impl Seen {
    fn count(&self, source: IpAddr) -> SourceCount {
        let mut ports: Vec<PortCount> = self
            .ports
            .iter()
            .map(|(protocol, port, packets)| PortCount {
                protocol: protocol_name(*protocol),
                port: *port,
                packets: *packets,
            })
            .collect();
        ports.sort_unstable_by_key(|p| (std::cmp::Reverse(p.packets), p.port));
        SourceCount { source, packets: self.packets, ports, other_ports: self.other_ports }
    }
}

/// The name of a protocol, or its number.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        2 => "igmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        47 => "gre".to_owned(),
        50 => "esp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        n => n.to_string(),
    }
}
