//! What is told of dropped packets: the line of a minute, and the report of the last ones.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::tally::{MAX_PORTS, TOP};
use crate::clock::Timestamp;

/// What was logged in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that the log handed over. The kernel logs a few a second and counts all: see
    /// [`Minute::counted`].
    pub logged: u64,
    /// Packets that it logged and could not hand over.
    pub lost: u64,
    /// Times that the log ran over.
    pub overruns: u64,
    /// Logged packets by the word of the rule.
    pub by_reason: BTreeMap<String, u64>,
    /// Different sources.
    pub sources: u64,
    /// Whether there were more sources than could be told apart.
    pub more_sources: bool,
    /// The sources with the most packets, the first one first.
    pub top: Vec<SourceCount>,
    /// Logged packets of all other sources.
    pub others: u64,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Its address.
    pub source: IpAddr,
    /// Its packets.
    pub packets: u64,
    /// What they were for, the most first.
    pub ports: Vec<PortCount>,
    /// Packets for more ports than could be told apart.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_ports: u64,
}

/// One port of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCount {
    /// `tcp`, `udp`, or a number.
    pub protocol: String,
    /// The destination port, where the protocol has ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets.
    pub packets: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub until: Timestamp,
    /// How far the kernel's own counters went on, by name: all packets, logged or not. Empty where
    /// they could not be read.
    pub counted: BTreeMap<String, u64>,
    /// What was logged.
    #[serde(flatten)]
    pub counts: Counts,
}

impl Minute {
    /// The line that is shipped: the minute with the first few of its sources.
    #[must_use]
    pub fn line(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            v: u32,
            kind: &'static str,
            at: String,
            #[serde(flatten)]
            minute: &'a Minute,
        }
        let mut minute = self.clone();
        let cut = minute.counts.top.split_off(TOP.min(minute.counts.top.len()));
        minute.counts.others += cut.iter().map(|s| s.packets).sum::<u64>();
        let at = minute.until.to_string();
        let line = Line { v: 1, kind: "firewall.drops", at, minute: &minute };
        // Numbers, addresses and names only: it cannot fail.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// The last minutes together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Why the packet log cannot be read; the kernel's counters may still be.
    pub error: Option<String>,
    /// Whether rules log at all, as configured.
    pub logging: bool,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The minutes that are over, oldest first, each without its sources. One in which nothing
    /// happened is left out.
    pub minutes: Vec<Minute>,
    /// How far the kernel's counters went on in those minutes.
    pub counted: BTreeMap<String, u64>,
    /// What was logged in those minutes and in the present one.
    pub total: Counts,
}

/// The sum. Sources that a minute did not name are others.
#[must_use]
pub(super) fn sum<'a>(parts: impl Iterator<Item = &'a Counts>, most: usize) -> Counts {
    let mut all = Counts::default();
    let mut sources: HashMap<IpAddr, SourceCount> = HashMap::new();
    for (minutes, part) in parts.enumerate() {
        all.logged += part.logged;
        all.lost += part.lost;
        all.overruns += part.overruns;
        all.others += part.others;
        // A source of two minutes is one source, so the sum is not the number.
        all.more_sources |= part.more_sources || (minutes > 0 && part.others > 0);
        for (reason, n) in &part.by_reason {
            *all.by_reason.entry(reason.clone()).or_default() += n;
        }
        for source in &part.top {
            match sources.get_mut(&source.source) {
                Some(known) => known.add(source),
                None => drop(sources.insert(source.source, source.clone())),
            }
        }
        all.sources = all.sources.max(part.sources);
    }
    all.sources = all.sources.max(u64::try_from(sources.len()).unwrap_or(u64::MAX));
    all.top = sources.into_values().collect();
    all.top.sort_unstable_by(|a, b| b.packets.cmp(&a.packets).then(a.source.cmp(&b.source)));
    let cut = all.top.split_off(most.min(all.top.len()));
    all.others += cut.iter().map(|s| s.packets).sum::<u64>();
    all
}

impl SourceCount {
    fn add(&mut self, more: &Self) {
        self.packets += more.packets;
        self.other_ports += more.other_ports;
        for port in &more.ports {
            let same = |p: &&mut PortCount| (&p.protocol, p.port) == (&port.protocol, port.port);
            let has_room = self.ports.len() < MAX_PORTS;
            match self.ports.iter_mut().find(same) {
                Some(known) => known.packets += port.packets,
                None if has_room => self.ports.push(port.clone()),
                None => self.other_ports += port.packets,
            }
        }
        self.ports.sort_unstable_by_key(|p| (std::cmp::Reverse(p.packets), p.port));
    }
}

/// How far counters went on. One that went back began anew, as after another program's flush.
#[must_use]
pub(super) fn went_on(
    before: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let since = |(name, n): (&String, &u64)| {
        let was = before.get(name).copied().unwrap_or(0);
        let more = if *n >= was { *n - was } else { *n };
        (more > 0).then(|| (name.clone(), more))
    };
    now.iter().filter_map(since).collect()
}
