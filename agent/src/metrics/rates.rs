//! Two readings make a rate: CPU of the host and of programs.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::facts::{CpuTicks, ProcessFacts};

/// Less than this between two readings tells nothing: the kernel counts in ticks of 10 ms.
const LEAST: Duration = Duration::from_secs(1);

/// A reading to compare with later ones.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    at: Instant,
    host: Option<CpuTicks>,
    /// By process: what tells it from its successor, and its CPU time.
    processes: BTreeMap<String, (u64, Duration)>,
}

impl Baseline {
    pub(super) fn of(at: Instant, host: Option<CpuTicks>, processes: &[ProcessFacts]) -> Self {
        let used = processes
            .iter()
            .filter_map(|p| p.used.map(|used| (p.process.clone(), (used.start_ticks, used.cpu))));
        Self { at, host, processes: used.collect() }
    }

    fn span(&self, at: Instant) -> Option<Duration> {
        Some(at.saturating_duration_since(self.at)).filter(|span| *span >= LEAST)
    }

    /// Hundredths of all CPUs that were busy since.
    pub(super) fn host_percent(&self, at: Instant, now: Option<CpuTicks>) -> Option<f64> {
        self.span(at)?;
        let (before, now) = (self.host?, now?);
        let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
        // Ticks of idle CPUs can go back by a few.
        let busy = now.busy.saturating_sub(before.busy).min(all);
        Some(super::snapshot::count(busy) * 100.0 / super::snapshot::count(all))
    }

    /// Hundredths of one CPU that these processes used since; none if none of them was there.
    pub(super) fn program_percent<'a>(
        &self,
        at: Instant,
        of: impl Iterator<Item = &'a ProcessFacts>,
    ) -> Option<f64> {
        let span = self.span(at)?;
        let mut used = None;
        for p in of {
            let Some(now) = p.used else { continue };
            let Some((start, before)) = self.processes.get(&p.process) else { continue };
            if *start == now.start_ticks {
                *used.get_or_insert(Duration::ZERO) += now.cpu.saturating_sub(*before);
            }
        }
        used.map(|used: Duration| used.as_secs_f64() * 100.0 / span.as_secs_f64())
    }
}
