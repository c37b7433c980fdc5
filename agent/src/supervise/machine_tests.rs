//! Supervisor's arithmetic as a table, and the laws of the machine against a model of the host.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::supervise::{NotifyFrom, Probe, ProbeTarget, StopStep, testutil::spec};

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A host that obeys effects and lets a test choose what happens next.
struct Model {
    now: Instant,
    state: State,
    want: Want,
    spec: ProcessSpec,
    children: u32,
    spawns: u32,
    kills: u32,
    terms: u32,
    signals: Vec<Signal>,
    news: VecDeque<Event>,
}

impl Model {
    fn new(spec: ProcessSpec) -> Self {
        Self {
            now: Instant::now(),
            state: State::Stopped,
            want: Want::Down,
            spec,
            children: 0,
            spawns: 0,
            kills: 0,
            terms: 0,
            signals: Vec::new(),
            news: VecDeque::new(),
        }
    }

    fn feed(&mut self, event: Event) {
        let (next, effect) = step(self.state, self.want, event, self.now, &self.spec);
        self.state = next;
        match effect {
            Some(Effect::Spawn) => {
                self.children += 1;
                self.spawns += 1;
                self.news.push_back(Event::Spawned(100));
                self.news.push_back(Event::Execed);
            }
            Some(Effect::Kill) => {
                self.kills += 1;
                self.die(Exit::Signal(9));
            }
            Some(Effect::Terminate(signal)) => {
                self.terms += 1;
                self.signals.push(signal);
            }
            None => {}
        }
    }

    fn die(&mut self, exit: Exit) {
        if self.children > 0 {
            self.children -= 1;
            self.news.push_back(Event::Exited { exit, at: self.now, pause: Duration::ZERO });
        }
    }

    fn hear(&mut self) {
        while let Some(e) = self.news.pop_front() {
            self.feed(e);
        }
    }

    fn pass(&mut self, d: Duration) {
        self.now += d;
        self.feed(Event::Tick);
        self.hear();
    }

    fn up(&mut self) {
        self.want = Want::Up;
        self.feed(Event::Start);
        self.hear();
    }

    fn dies_with(&mut self, code: i32) {
        self.die(Exit::Code(code));
        self.hear();
    }

    fn shown(&self) -> ProcessState {
        self.state.shown()
    }
}

#[test]
fn a_program_that_dies_at_once_is_tried_again_after_1_2_and_3_seconds_and_then_given_up() {
    let mut m = Model::new(spec("web"));
    m.up();
    for wait in 1..=3 {
        m.dies_with(0);
        assert_eq!(m.shown(), ProcessState::Backoff);
        m.pass(secs(wait) - Duration::from_millis(1));
        assert_eq!(m.shown(), ProcessState::Backoff, "too early before wait {wait}");
        m.pass(Duration::from_millis(1));
        assert_eq!(m.shown(), ProcessState::Starting);
    }
    m.dies_with(0);
    assert_eq!((m.shown(), m.spawns), (ProcessState::Fatal, 4));
    m.pass(secs(1000));
    m.feed(Event::Tick);
    assert_eq!((m.shown(), m.spawns), (ProcessState::Fatal, 4), "FATAL is left by request only");
    m.up();
    assert_eq!(m.shown(), ProcessState::Starting);
}

#[test]
fn up_means_strictly_longer_than_startsecs() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.now += secs(1);
    m.feed(Event::Tick);
    assert_eq!(m.shown(), ProcessState::Starting);
    m.dies_with(0);
    assert_eq!(m.shown(), ProcessState::Backoff);
}

#[test]
fn an_exit_is_judged_by_when_it_happened_and_not_by_when_it_was_heard_of() {
    let mut m = Model::new(spec("web"));
    m.up();
    let at = m.now + Duration::from_millis(900);
    m.now += secs(5);
    m.children = 0;
    m.feed(Event::Exited { exit: Exit::Code(1), at, pause: Duration::ZERO });
    assert_eq!(m.shown(), ProcessState::Backoff);
}

#[test]
fn startsecs_of_zero_is_up_at_once_and_restarts_without_end_or_delay() {
    let mut m = Model::new(ProcessSpec { startsecs: Duration::ZERO, ..spec("web") });
    m.up();
    for n in 2..50 {
        assert_eq!(m.shown(), ProcessState::Running);
        m.dies_with(1);
        assert_eq!(m.spawns, n);
    }
}

#[test]
fn a_restart_that_is_slowed_down_waits_and_uses_up_no_try() {
    let mut m = Model::new(ProcessSpec { startsecs: Duration::ZERO, ..spec("web") });
    m.up();
    m.children = 0;
    m.feed(Event::Exited { exit: Exit::Code(1), at: m.now, pause: secs(8) });
    assert!(matches!(m.state, State::Backoff { failures: 0, .. }), "{:?}", m.state);
    m.pass(secs(7));
    assert_eq!(m.spawns, 1);
    m.pass(secs(1));
    assert_eq!((m.spawns, m.shown()), (2, ProcessState::Running));
}

#[test]
fn autorestart_decides_what_follows_the_end_of_a_program_that_was_up() {
    use AutoRestart::{Always, Never, Unexpected};
    for (rule, exit, back) in [
        (Always, Exit::Code(0), true),
        (Always, Exit::Signal(15), true),
        (Unexpected, Exit::Code(0), false),
        (Unexpected, Exit::Code(1), true),
        (Unexpected, Exit::Signal(9), true),
        (Unexpected, Exit::Unknown, true),
        (Never, Exit::Signal(9), false),
        (Never, Exit::Code(1), false),
    ] {
        let mut m = Model::new(ProcessSpec { autorestart: rule, ..spec("web") });
        m.up();
        m.pass(secs(2));
        assert_eq!(m.shown(), ProcessState::Running);
        m.die(exit);
        m.hear();
        let expected = if back { ProcessState::Starting } else { ProcessState::Exited };
        assert_eq!(m.shown(), expected, "{rule:?} {exit:?}");
    }
}

#[test]
fn a_program_that_was_up_has_all_its_retries_again() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.dies_with(1);
    m.pass(secs(1));
    m.pass(secs(2));
    assert_eq!(m.shown(), ProcessState::Running);
    m.dies_with(1);
    m.dies_with(1);
    assert!(matches!(m.state, State::Backoff { failures: 1, .. }), "{:?}", m.state);
}

#[test]
fn stop_in_backoff_is_immediate() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.dies_with(1);
    m.want = Want::Down;
    m.feed(Event::Tick);
    assert_eq!(m.shown(), ProcessState::Stopped);
}

#[test]
fn a_program_that_ignores_the_stop_signal_is_killed_again_and_again() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.want = Want::Down;
    m.feed(Event::Tick);
    assert_eq!((m.terms, m.kills, m.shown()), (1, 0, ProcessState::Stopping));
    m.children = 0; // It cannot die: stuck in the kernel.
    for kills in 1..4 {
        m.pass(secs(10));
        assert_eq!((m.terms, m.kills), (1, kills));
    }
}

/// TERM, wait 600, QUIT, wait 15, KILL: Celery's warm and then its cold shutdown.
#[test]
fn stopping_takes_its_steps_in_order_and_ends_in_kills() {
    let then = StopStep { signal: Signal::SIGQUIT, wait: secs(15) };
    let mut m = Model::new(ProcessSpec {
        stopwaitsecs: secs(600),
        stop_then: vec![then],
        ..spec("worker")
    });
    m.up();
    m.want = Want::Down;
    m.feed(Event::Tick);
    m.pass(secs(599));
    assert_eq!((m.signals.as_slice(), m.kills), ([Signal::SIGTERM].as_slice(), 0));
    m.pass(secs(1));
    assert_eq!((m.signals.as_slice(), m.kills), ([Signal::SIGTERM, Signal::SIGQUIT].as_slice(), 0));
    m.pass(secs(14));
    assert_eq!(m.kills, 0);
    m.children = 0; // It cannot die: stuck in the kernel.
    m.pass(secs(1));
    m.pass(secs(600));
    assert_eq!((m.terms, m.kills, m.shown()), (2, 2, ProcessState::Stopping));
}

#[test]
fn a_step_that_kills_kills_all_of_it() {
    let kill = StopStep { signal: Signal::SIGKILL, wait: secs(5) };
    let mut m = Model::new(ProcessSpec { stop_then: vec![kill], ..spec("web") });
    m.up();
    m.want = Want::Down;
    m.feed(Event::Tick);
    m.pass(secs(10));
    assert_eq!((m.terms, m.kills, m.shown()), (1, 1, ProcessState::Stopped));
}

#[test]
fn a_child_that_the_kernel_will_not_signal_is_unknown_and_tried_again() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.want = Want::Down;
    m.feed(Event::Tick);
    m.feed(Event::Refused);
    assert_eq!(m.shown(), ProcessState::Unknown);
    // No second copy beside it, whoever asks.
    m.want = Want::Up;
    m.feed(Event::Start);
    assert_eq!((m.shown(), m.spawns), (ProcessState::Unknown, 1));
    m.want = Want::Down;
    m.pass(secs(10));
    assert_eq!((m.kills, m.shown()), (1, ProcessState::Stopped));
}

#[test]
fn a_program_that_must_say_so_is_not_up_before_it_did() {
    let ready = Ready::Notify { timeout: secs(30), from: NotifyFrom::Any };
    let mut m = Model::new(ProcessSpec { ready, ..spec("web") });
    m.up();
    m.pass(secs(20));
    assert_eq!(m.shown(), ProcessState::Starting);
    m.feed(Event::Ready);
    assert_eq!(m.shown(), ProcessState::Running);
}

#[test]
fn a_program_that_is_not_ready_in_time_is_stopped_and_counts_as_a_failed_start() {
    let target = ProbeTarget::Unix("/x".into());
    let ready = Ready::Probe(Probe { target, every: secs(1), timeout: secs(30) });
    let mut m = Model::new(ProcessSpec { ready, startretries: 1, ..spec("web") });
    m.up();
    m.pass(secs(30));
    assert_eq!(m.shown(), ProcessState::Stopping);
    m.dies_with(0);
    assert_eq!(m.shown(), ProcessState::Backoff);
    m.pass(secs(1));
    m.pass(secs(30));
    m.dies_with(0);
    assert_eq!(m.shown(), ProcessState::Fatal);
}

#[test]
fn a_start_asked_for_while_stopping_is_not_lost() {
    let mut m = Model::new(spec("web"));
    m.up();
    m.want = Want::Down;
    m.feed(Event::Tick);
    m.want = Want::Up;
    m.feed(Event::Start);
    assert_eq!(m.shown(), ProcessState::Stopping);
    m.dies_with(0);
    assert_eq!(m.shown(), ProcessState::Starting);
}

#[test]
fn the_timer_never_rings_without_work() {
    let mut m = Model::new(spec("web"));
    m.up();
    for _ in 0..3 {
        let due = m.state.wake_at(&m.spec).unwrap();
        m.now = due;
        let before = m.state;
        m.feed(Event::Tick);
        m.hear();
        assert_ne!(m.state, before);
        if m.shown() == ProcessState::Running {
            m.want = Want::Down;
            m.feed(Event::Tick);
        } else if m.shown() == ProcessState::Stopped {
            break;
        }
    }
    assert_eq!(m.state.wake_at(&m.spec), None);
}

proptest! {
    /// Whatever the order of news, there is never a second child; and once the want is `Down` and
    /// time passes, there is none.
    #[test]
    fn one_child_at_most_and_none_when_unwanted(
        moves in proptest::collection::vec(0_u8..13, 0..120),
        notify in any::<bool>(),
        retries in 0_u32..4,
    ) {
        let ready = if notify { Ready::Notify { timeout: secs(5), from: NotifyFrom::Any } } else { Ready::Delay };
        let mut m = Model::new(ProcessSpec { ready, startretries: retries, ..spec("web") });
        for mv in moves {
            match mv {
                0 => m.want = Want::Up,
                1 => m.want = Want::Down,
                2 => m.want = Want::Later,
                3 => m.feed(Event::Start),
                4 => m.feed(Event::Replace),
                5 => m.feed(Event::Ready),
                6 => m.die(Exit::Code(1)),
                7 => m.die(Exit::Code(0)),
                8 => m.now += secs(2),
                9 => m.feed(Event::Refused),
                10 | 11 => if let Some(e) = m.news.pop_front() { m.feed(e) },
                _ => m.feed(Event::Tick),
            }
            prop_assert!(m.children <= 1, "{:?}", m.state);
        }
        m.want = Want::Down;
        for _ in 0..6 {
            m.hear();
            m.pass(secs(11));
        }
        prop_assert_eq!(m.children, 0);
        prop_assert_eq!(m.state.pid(), None);
    }

    /// A program that never comes up is tried once and `startretries` times more.
    #[test]
    fn attempts_are_retries_and_one(retries in 0_u32..8, fails_to_spawn in any::<bool>()) {
        let mut m = Model::new(ProcessSpec { startretries: retries, ..spec("web") });
        m.want = Want::Up;
        m.feed(Event::Start);
        for _ in 0..20 {
            if fails_to_spawn && matches!(m.state, State::Spawning { .. }) {
                m.news.clear();
                m.children = 0;
                m.feed(Event::SpawnFailed);
            } else {
                m.hear();
                m.dies_with(1);
            }
            m.now += secs(10);
            m.feed(Event::Tick);
        }
        prop_assert_eq!((m.spawns, m.shown()), (retries + 1, ProcessState::Fatal));
    }
}
