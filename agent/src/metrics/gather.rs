//! From facts to values. Pure but for what it remembers: totals, and the reading before.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    facts::{Facts, FirewallFacts, HostFacts, LogsFacts, ProcessFacts, SourceFacts},
    rates::Baseline,
    snapshot::{Snapshot, count},
    table::*,
    totals::{Fallen, New, Totals},
};
use crate::clock::Timestamp;

/// What stands as source for losses of what is shipped no more.
const GONE: &str = "(gone)";

/// What one sample must know of those before.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    totals: Totals,
    baseline: Option<Baseline>,
    /// Processes were seen before: one that was not is a new one.
    knows_processes: bool,
}

impl Memory {
    /// The values of this moment. `keeps`: rates are taken from here the next time.
    pub(super) fn sample(
        &mut self,
        (at, now): (Timestamp, Instant),
        facts: &Facts,
        host: Option<&HostFacts>,
        keeps: bool,
    ) -> Snapshot {
        let mut s = Snapshot::new(at);
        s.host(AGENT_UP, 1.0);
        self.programs(&mut s, now, &facts.processes);
        if let Some(firewall) = &facts.firewall {
            self.firewall(&mut s, firewall);
        }
        if let Some(age) = facts.origin_secret_age {
            s.host(ORIGIN_SECRET_AGE, age.as_secs_f64());
        }
        if let Some(logs) = &facts.logs {
            self.logs(&mut s, logs);
        }
        if let Some(patch) = &facts.patch {
            if let Some(missing) = patch.missing {
                s.host(PATCH_MISSING, count(missing));
            }
            s.host(PATCH_FAILED, count(patch.failed));
            s.host(PATCH_PENDING_REBOOT, f64::from(u8::from(patch.pending_reboot)));
            if let Some(age) = patch.lists_age {
                s.host(PATCH_LISTS_AGE, age.as_secs_f64());
            }
        }
        if let Some(access) = &facts.access {
            s.host(ACCESS_LIVE, count(access.live));
            self.total(&mut s, ACCESS_REFUSED, access.refused);
        }
        if let Some(host) = host {
            self.host(&mut s, now, host);
        }
        self.totals.end_round();
        if keeps || self.baseline.is_none() {
            let cpu = host.and_then(|h| h.cpu);
            self.baseline = Some(Baseline::of(now, cpu, &facts.processes));
        }
        s
    }

    /// A counter of a part that begins with the agent, or anew when its settings change.
    fn total(&mut self, s: &mut Snapshot, metric: Metric, now: u64) {
        self.totals.add(metric, "", ("", now), New::Ours, Fallen::Anew);
        if let Some(total) = self.totals.get(metric, "") {
            s.host(metric, count(total));
        }
    }

    fn programs(&mut self, s: &mut Snapshot, now: Instant, processes: &[ProcessFacts]) {
        let mut programs: BTreeMap<&str, Vec<&ProcessFacts>> = BTreeMap::new();
        for p in processes {
            programs.entry(&p.program).or_default().push(p);
        }
        let new = if self.knows_processes { New::Ours } else { New::Older };
        self.knows_processes |= !processes.is_empty();
        for (name, of_it) in programs {
            let how_many = |is: fn(&ProcessFacts) -> bool| of_it.iter().filter(|p| is(p)).count();
            s.of(PROGRAM_RUNNING, name, count(how_many(|p| p.running) as u64));
            let mut ready = of_it.iter().filter_map(|p| p.ready).peekable();
            if ready.peek().is_some() {
                s.of(PROGRAM_READY, name, f64::from(u8::from(ready.all(|is| is))));
            }
            s.of(PROGRAM_FATAL, name, count(how_many(|p| p.fatal) as u64));
            for p in &of_it {
                let part = (p.process.as_str(), p.restarts);
                self.totals.add(PROGRAM_RESTARTS, name, part, new, Fallen::Anew);
            }
            if let Some(total) = self.totals.get(PROGRAM_RESTARTS, name) {
                s.of(PROGRAM_RESTARTS, name, count(total));
            }
            let used: Vec<_> = of_it.iter().filter_map(|p| p.used).collect();
            if !used.is_empty() {
                s.of(PROGRAM_MEMORY, name, count(used.iter().map(|u| u.memory).sum()));
            }
            let before = self.baseline.as_ref();
            if let Some(cpu) = before.and_then(|b| b.program_percent(now, of_it.iter().copied())) {
                s.of(PROGRAM_CPU, name, cpu);
            }
        }
    }

    fn firewall(&mut self, s: &mut Snapshot, firewall: &FirewallFacts) {
        s.host(FIREWALL_IN_FORCE, f64::from(u8::from(firewall.in_force)));
        let mut ranges: BTreeMap<&str, u64> = BTreeMap::new();
        for (source, n) in &firewall.ranges {
            *ranges.entry(source).or_default() += n;
        }
        for (source, n) in ranges {
            s.of(FIREWALL_RANGES, source, count(n));
        }
        let mut ages = BTreeMap::new();
        for (source, age) in &firewall.feed_ages {
            let oldest = ages.entry(source.as_str()).or_insert(*age);
            *oldest = (*oldest).max(*age);
        }
        for (source, age) in ages {
            s.of(FIREWALL_FEED_AGE, source, age.as_secs_f64());
        }
        s.host(FIREWALL_HELD, count(firewall.held));
        self.total(s, FIREWALL_DRIFT, firewall.repairs);
        // The kernel's counters outlive agents, and begin anew with the table.
        for (name, packets) in &firewall.dropped {
            let part = (name.as_str(), *packets);
            self.totals.add(FIREWALL_DROPPED, "", part, New::Older, Fallen::Anew);
        }
        if let Some(total) = self.totals.get(FIREWALL_DROPPED, "") {
            s.host(FIREWALL_DROPPED, count(total));
        }
    }

    /// By log group, since there may be thousands of files, and each would be a metric of its own.
    fn logs(&mut self, s: &mut Snapshot, logs: &LogsFacts) {
        let mut groups: BTreeMap<&str, SourceFacts> = BTreeMap::new();
        for source in &logs.sources {
            let sum = groups.entry(&source.group).or_default();
            sum.backlog = sum.backlog.saturating_add(source.backlog);
            sum.lag = sum.lag.max(source.lag);
            sum.dropped = sum.dropped.saturating_add(source.dropped);
            sum.dead_lettered = sum.dead_lettered.saturating_add(source.dead_lettered);
        }
        for (group, sum) in &groups {
            s.of(LOGS_BACKLOG, group, count(sum.backlog));
            s.of(LOGS_LAG, group, sum.lag.as_secs_f64());
        }
        self.losses(s, LOGS_DROPPED, groups.iter().map(|(g, f)| (*g, f.dropped)), logs.dropped);
        let dead = groups.iter().map(|(g, f)| (*g, f.dead_lettered));
        self.losses(s, LOGS_DEAD_LETTERED, dead, logs.dead_lettered);
    }

    /// Losses by group, and what is in none of them and in `all`.
    fn losses<'a>(
        &mut self,
        s: &mut Snapshot,
        metric: Metric,
        of: impl Iterator<Item = (&'a str, u64)>,
        all: u64,
    ) {
        let mut told = 0_u64;
        for (group, lost) in of {
            self.totals.add(metric, group, ("", lost), New::Ours, Fallen::Parted);
            let total = self.totals.get(metric, group).unwrap_or_default();
            told = told.saturating_add(total);
            s.of(metric, group, count(total));
        }
        // No group has an empty name.
        self.totals.add(metric, "", ("", all), New::Ours, Fallen::Anew);
        let gone = self.totals.get(metric, "").unwrap_or_default().saturating_sub(told);
        if gone > 0 {
            s.of(metric, GONE, count(gone));
        }
    }

    fn host(&mut self, s: &mut Snapshot, now: Instant, host: &HostFacts) {
        let before = self.baseline.as_ref();
        if let Some(cpu) = before.and_then(|b| b.host_percent(now, host.cpu)) {
            s.host(HOST_CPU, cpu);
        }
        if let Some(m) = host.memory.filter(|m| m.total > 0) {
            let used = m.total.saturating_sub(m.available);
            s.host(HOST_MEMORY, count(used) * 100.0 / count(m.total));
        }
        let mut told = BTreeSet::new();
        for disk in &host.disks {
            let all = disk.used.saturating_add(disk.available);
            if all > 0 && told.insert(disk.mount.as_str()) {
                s.of(HOST_DISK, &disk.mount, count(disk.used) * 100.0 / count(all));
            }
        }
        if let Some(load) = host.load1 {
            s.host(HOST_LOAD, load);
        }
        // The kernel counts since boot, or since the interface came.
        for (name, traffic) in &host.network {
            let both = [
                (HOST_NETWORK_RECEIVE, traffic.received),
                (HOST_NETWORK_TRANSMIT, traffic.transmitted),
            ];
            for (metric, bytes) in both {
                self.totals.add(metric, "", (name, bytes), New::Older, Fallen::Anew);
            }
        }
        for metric in [HOST_NETWORK_RECEIVE, HOST_NETWORK_TRANSMIT] {
            if let Some(total) = self.totals.get(metric, "").filter(|_| !host.network.is_empty()) {
                s.host(metric, count(total));
            }
        }
        let pressure = [
            (HOST_PRESSURE_CPU, host.pressure.cpu),
            (HOST_PRESSURE_MEMORY, host.pressure.memory),
            (HOST_PRESSURE_IO, host.pressure.io),
        ];
        for (metric, share) in pressure {
            if let Some(share) = share {
                s.host(metric, share);
            }
        }
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
