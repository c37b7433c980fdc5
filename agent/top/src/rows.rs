//! Which processes are in the list, and in which order.

use std::cmp::{Ordering, Reverse};

use palisade_types::ProcessWithUsage;

use crate::words::full_name;

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the agent has it.
    Agent,
    /// Most CPU first.
    Cpu,
    /// Most memory first.
    Memory,
    /// Most restarts first.
    Restarts,
}

impl Order {
    /// What a column is called that the list is sorted by.
    pub(crate) fn column(self) -> Option<&'static str> {
        match self {
            Self::Agent => None,
            Self::Cpu => Some("CPU%"),
            Self::Memory => Some("MEM"),
            Self::Restarts => Some("RST"),
        }
    }
}

/// The rows whose name or state has the filter in it, upper and lower case being the same. Rows that
/// are equal in the order keep the agent's.
pub(crate) fn visible<'a>(
    all: &'a [ProcessWithUsage],
    order: Order,
    filter: &str,
) -> Vec<&'a ProcessWithUsage> {
    let wanted = filter.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let mut rows: Vec<_> = all
        .iter()
        .filter(|r| has(&full_name(&r.status)) || has(&r.status.state.to_string()))
        .collect();
    match order {
        Order::Agent => {}
        Order::Cpu => rows.sort_by(|a, b| by_cpu(b, a)),
        Order::Memory => rows.sort_by_key(|r| Reverse(r.usage.map(|u| u.memory_bytes))),
        Order::Restarts => rows.sort_by_key(|r| Reverse(r.status.restarts)),
    }
    rows
}

/// A process whose share is not known comes below all others.
fn by_cpu(a: &ProcessWithUsage, b: &ProcessWithUsage) -> Ordering {
    let share = |r: &ProcessWithUsage| r.usage.and_then(|u| u.cpu_percent).unwrap_or(-1.0);
    share(a).total_cmp(&share(b))
}
