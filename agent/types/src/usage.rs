//! What a process uses, as `palisade status --usage` and `palisade top` show it.

use serde::{Deserialize, Serialize};

use crate::ProcessStatus;

/// How the figures of a process and all that it started were come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// By the kernel for its cgroup: memory without what the kernel can drop at once, shared pages
    /// once.
    Cgroup,
    /// Resident memory added up over its processes: pages that they share count in each.
    Resident,
}

/// What a process and all that it started use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Hundredths of one CPU since the look before; unknown at the first one.
    pub cpu_percent: Option<f64>,
    /// Bytes.
    pub memory_bytes: u64,
    /// How `memory_bytes` was come by.
    pub memory_counted: Counted,
    /// Living processes, itself included.
    pub processes: u32,
}

/// A process with what it uses, in one flat document; nothing is told of one that does not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessWithUsage {
    /// What it is.
    #[serde(flatten)]
    pub status: ProcessStatus,
    /// What it uses.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessState;

    fn row(usage: Option<Usage>) -> ProcessWithUsage {
        let status = ProcessStatus {
            name: "web".parse().unwrap(),
            program: "web".parse().unwrap(),
            group: "web".parse().unwrap(),
            state: ProcessState::Running,
            pid: 7,
            ready: true,
            restarts: 0,
            since: 1,
            exit: None,
            error: None,
            schedule: None,
        };
        ProcessWithUsage { status, usage }
    }

    #[test]
    fn usage_stands_beside_the_other_fields_and_may_be_missing() {
        let usage = Usage {
            cpu_percent: Some(12.5),
            memory_bytes: 4096,
            memory_counted: Counted::Resident,
            processes: 2,
        };
        let text = serde_json::to_string(&row(Some(usage))).unwrap();
        assert!(text.contains("\"name\":\"web\"") && text.contains("\"cpu_percent\":12.5"));
        assert_eq!(serde_json::from_str::<ProcessWithUsage>(&text).unwrap(), row(Some(usage)));
        let text = serde_json::to_string(&row(None)).unwrap();
        assert!(!text.contains("cpu_percent"));
        assert_eq!(serde_json::from_str::<ProcessWithUsage>(&text).unwrap(), row(None));
    }
}
