//! For tests: processes to show.

use palisade_types::{Counted, ProcessState, ProcessStatus, ProcessWithUsage, Usage};

use crate::{
    input::{Input, Key},
    model::Model,
    ports::{Fact, Snapshot, Tone},
};

/// The present of all tests.
pub(crate) const NOW: i64 = 1_790_000_000_000;

pub(crate) fn row(name: &str, state: ProcessState) -> ProcessWithUsage {
    let is_up = state == ProcessState::Running;
    ProcessWithUsage {
        status: ProcessStatus {
            name: name.parse().unwrap(),
            program: "web".parse().unwrap(),
            group: "app".parse().unwrap(),
            state,
            pid: if is_up { 4711 } else { 0 },
            ready: is_up,
            restarts: 0,
            since: NOW - 192_000,
            exit: None,
            error: None,
            schedule: None,
        },
        usage: is_up.then_some(Usage {
            cpu_percent: Some(1.5),
            memory_bytes: 50 << 20,
            memory_counted: Counted::Resident,
            processes: 3,
        }),
    }
}

/// Four programs, one of each sort.
pub(crate) fn snapshot() -> Snapshot {
    let mut web = row("web_00", ProcessState::Running);
    web.status.restarts = 2;
    let mut worker = row("worker", ProcessState::Running);
    worker.usage = Some(Usage {
        cpu_percent: Some(160.4),
        memory_bytes: 1_503_238_553,
        memory_counted: Counted::Cgroup,
        processes: 9,
    });
    let mut beat = row("beat", ProcessState::Fatal);
    beat.status.error = Some("exited too quickly: exit 1".to_owned());
    let mut flower = row("flower", ProcessState::Starting);
    flower.status.pid = 12;
    let fact = |about, text: &str, tone| Fact { about, text: text.to_owned(), tone };
    Snapshot {
        facts: vec![
            fact("agent", "running: palisade 0.1.0, pid 17, uptime 1:01:01", Tone::Good),
            fact("firewall", "in force: 45 ranges, 12 packets dropped", Tone::Good),
            fact("logs", "1000 events delivered, backlog 12 B", Tone::Plain),
        ],
        programs: vec![beat, flower, web, worker],
    }
}

/// A model that has seen [`snapshot`].
pub(crate) fn model() -> Model {
    let mut model = Model::new();
    assert_eq!(model.step(Input::Snapshot(Ok(snapshot())), NOW), None);
    model
}

/// Presses keys as they are written: each character one.
pub(crate) fn press(model: &mut Model, keys: &str) {
    for c in keys.chars() {
        model.step(Input::Key(Key::Char(c)), NOW);
    }
}
