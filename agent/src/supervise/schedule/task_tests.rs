//! The task with a supervisor over a host in memory, and clocks that tests move.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::tz::TimeZone;

use super::*;
use crate::supervise::{
    Calendar, Cgroup, Inherited, Missed, Notation, ProcessSpec, Settings, Wiring, start,
    testutil::{Behaviour, FakeHost, NoSink, NoStore, spec},
};

/// Two minutes to three o'clock of some day.
const BEGIN: i64 = 20_000 * 86_400 + 3 * 3600 - 120;

/// A wall clock that goes with tokio's, and that can be set.
#[derive(Clone, Debug)]
struct Clock {
    zero: Instant,
    ahead: Arc<AtomicI64>,
}

impl Clock {
    fn new() -> Self {
        Self { zero: Instant::now(), ahead: Arc::new(AtomicI64::new(BEGIN * 1000)) }
    }

    fn set_by(&self, seconds: i64) {
        self.ahead.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl WallClock for Clock {
    fn now(&self) -> Timestamp {
        let gone = i64::try_from(self.zero.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(self.ahead.load(Ordering::Relaxed) + gone)
    }
}

/// A disk and a book, in memory.
#[derive(Clone, Debug, Default)]
struct Memory {
    records: Arc<Mutex<BTreeMap<ProcessName, Vec<u8>>>>,
    notes: Arc<Mutex<Vec<String>>>,
    is_full: Arc<std::sync::atomic::AtomicBool>,
}

impl Memory {
    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ledger for Memory {
    fn names(&self) -> io::Result<Vec<ProcessName>> {
        Ok(self.records.lock().unwrap().keys().cloned().collect())
    }
    fn load(&self, name: &ProcessName) -> io::Result<Option<Vec<u8>>> {
        Ok(self.records.lock().unwrap().get(name).cloned())
    }
    fn save(&self, name: &ProcessName, record: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.records.lock().unwrap().insert(name.clone(), record.to_vec());
        Ok(())
    }
    fn remove(&self, name: &ProcessName) -> io::Result<()> {
        self.records.lock().unwrap().remove(name);
        Ok(())
    }
}

impl Diary for Memory {
    fn note(&self, process: &ProcessName, what: &str, why: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(format!("{process}: {what}: {why}"));
    }
}

/// An agent with a supervisor and the task. Dropping it is what SIGKILL does.
struct Agent {
    handle: Handle,
    _scope: Scope,
}

impl Agent {
    fn on(host: &FakeHost, clock: &Clock, memory: &Memory, processes: &[ProcessSpec]) -> Self {
        let settings = settings(processes);
        let mut scope = Scope::new(&CancellationToken::new());
        let wiring = Wiring {
            host: host.clone(),
            sink: NoSink,
            store: NoStore,
            clock: clock.clone(),
            inherited: Inherited::new(),
        };
        let handle = start(&mut scope, settings, wiring).unwrap();
        let task = run(handle.clone(), memory.clone(), memory.clone(), clock.clone(), scope.stop());
        scope.spawn("schedule", task);
        Self { handle, _scope: scope }
    }

    fn row(&self, name: &str) -> ProcessStatus {
        let rows = self.handle.status().borrow().clone();
        rows.into_iter().find(|r| r.name.as_str() == name).unwrap()
    }

    fn last(&self, name: &str) -> Option<(bool, String)> {
        self.row(name).schedule.and_then(|s| s.last).map(|l| (l.ok, l.result))
    }
}

fn settings(processes: &[ProcessSpec]) -> Settings {
    Settings {
        run_dir: "/run/x".into(),
        log_dir: "/log".into(),
        cgroup: Cgroup::Off,
        processes: processes.to_vec(),
    }
}

fn job(name: &str, when: &str) -> ProcessSpec {
    let schedule = Schedule {
        when: Calendar::new(when, Notation::Either, TimeZone::UTC).unwrap(),
        overlap: Overlap::Skip,
        missed: Missed::Skip,
        retries: 0,
        retry_after: Duration::from_secs(60),
    };
    ProcessSpec {
        autostart: false,
        autorestart: crate::supervise::AutoRestart::Never,
        startsecs: Duration::ZERO,
        schedule: Some(schedule),
        ..spec(name)
    }
}

fn with(mut spec: ProcessSpec, change: impl FnOnce(&mut Schedule)) -> ProcessSpec {
    change(spec.schedule.as_mut().unwrap());
    spec
}

async fn pass(seconds: u64) {
    time::sleep(Duration::from_secs(seconds)).await;
}

fn lasts(host: &FakeHost, name: &str, seconds: u64, code: i32) {
    host.behave(&name.parse().unwrap(), Behaviour::Ends(Duration::from_secs(seconds), code));
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_program_runs_at_its_time_and_not_with_the_agent() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "nightly", 5, 0);
    let agent = Agent::on(&host, &clock, &memory, &[job("nightly", "0 3 * * *"), spec("web")]);
    pass(119).await;
    assert_eq!(host.starts().len(), 1);
    let next = agent.row("nightly").schedule.unwrap().next;
    assert_eq!(next, Some((BEGIN + 120) * 1000));
    assert!(agent.row("nightly").is_well());
    pass(2).await;
    assert_eq!(agent.row("nightly").state, ProcessState::Running);
    pass(10).await;
    assert_eq!(agent.row("nightly").state, ProcessState::Exited);
    assert_eq!(agent.last("nightly"), Some((true, "exit 0".to_owned())));
    let next = agent.row("nightly").schedule.unwrap().next;
    assert_eq!(next, Some((BEGIN + 120 + 86_400) * 1000));
    pass(86_400).await;
    assert_eq!(host.starts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_told_and_shown_and_tried_again_as_often_as_said() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "job", 1, 7);
    let spec = with(job("job", "0 3 * * *"), |s| s.retries = 2);
    let agent = Agent::on(&host, &clock, &memory, &[spec]);
    pass(125).await;
    assert_eq!(agent.last("job"), Some((false, "exit 7".to_owned())));
    assert!(!agent.row("job").is_well());
    pass(3600).await;
    assert_eq!(host.starts().len(), 3);
    let notes = memory.notes();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("job: scheduled run failed: exit 7; tried again at"), "{notes:?}");
    assert_eq!(notes[2], "job: scheduled run failed: exit 7");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_not_there_is_a_failed_run_with_its_reason() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    host.behave(&"job".parse().unwrap(), Behaviour::Missing);
    let agent = Agent::on(&host, &clock, &memory, &[job("job", "0 3 * * *")]);
    pass(150).await;
    assert!(host.starts().is_empty() && !agent.row("job").is_well());
    let (ok, why) = agent.last("job").unwrap();
    assert!(!ok && why.starts_with("can't find command"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_is_left_alone_or_followed_or_replaced() {
    for (overlap, starts_after_two, starts_after_end) in
        [(Overlap::Skip, 1, 1), (Overlap::Queue, 1, 2), (Overlap::Replace, 2, 2)]
    {
        let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
        lasts(&host, "job", 4000, 0);
        let spec = with(job("job", "@hourly"), |s| s.overlap = overlap);
        let agent = Agent::on(&host, &clock, &memory, &[spec]);
        pass(120 + 3600 + 30).await;
        assert_eq!(host.starts().len(), starts_after_two, "{overlap:?}");
        assert_eq!(host.living().len(), 1);
        pass(600).await;
        assert_eq!(host.starts().len(), starts_after_end, "{overlap:?}");
        let skipped = agent.row("job").schedule.unwrap().skipped;
        assert_eq!(skipped, u64::from(overlap == Overlap::Skip));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_in_a_run_starts_no_second_one_and_its_successor_tells_the_end() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "job", 100, 3);
    let specs = [job("job", "0 3 * * *")];
    let agent = Agent::on(&host, &clock, &memory, &specs);
    pass(130).await;
    drop(agent);
    pass(5).await;
    let agent = Agent::on(&host, &clock, &memory, &specs);
    pass(5).await;
    assert_eq!(agent.row("job").state, ProcessState::Running);
    pass(120).await;
    assert_eq!(host.starts().len(), 1);
    assert_eq!(agent.last("job"), Some((false, "exit 3".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_run_cut_off_by_a_reboot_or_the_end_of_the_agent_has_failed_and_is_tried_again() {
    for is_reboot in [true, false] {
        let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
        let specs = [with(job("job", "0 3 * * *"), |s| s.retries = 1)];
        let agent = Agent::on(&host, &clock, &memory, &specs);
        pass(130).await;
        assert_eq!(agent.row("job").state, ProcessState::Running);
        let next_host = if is_reboot {
            FakeHost::default()
        } else {
            agent.handle.shut_down(Duration::from_secs(20)).await.unwrap();
            host.clone()
        };
        drop(agent);
        pass(5).await;
        let agent = Agent::on(&next_host, &clock, &memory, &specs);
        pass(5).await;
        let why = "cut off: the agent or the host stopped";
        assert_eq!(agent.last("job"), Some((false, why.to_owned())), "{is_reboot}");
        assert!(memory.notes()[0].contains(why), "{:?}", memory.notes());
        pass(60).await;
        assert_eq!(agent.row("job").state, ProcessState::Running, "{is_reboot}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_stopped_by_request_is_not_tried_again_whoever_dies() {
    for dies in [false, true] {
        let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
        let specs = [with(job("job", "0 3 * * *"), |s| s.retries = 1)];
        let mut agent = Agent::on(&host, &clock, &memory, &specs);
        pass(130).await;
        let before = memory.records.lock().unwrap().clone();
        agent.handle.stop(vec![Target::Process("job".parse().unwrap())]).await.unwrap();
        pass(5).await;
        if dies {
            // The task died before it saw the end.
            drop(agent);
            pass(5).await;
            *memory.records.lock().unwrap() = before;
            agent = Agent::on(&host, &clock, &memory, &specs);
        }
        pass(600).await;
        assert_eq!(agent.last("job"), Some((false, "stopped before its end".to_owned())), "{dies}");
        assert_eq!((host.starts().len(), memory.notes().len()), (1, 0), "{dies}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_gone_when_the_agent_starts_is_forgotten_also_if_it_was_the_last() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    let specs = [with(job("job", "0 3 * * *"), |s| s.missed = Missed::Once)];
    drop(Agent::on(&host, &clock, &memory, &specs));
    let agent = Agent::on(&host, &clock, &memory, &specs);
    pass(1).await;
    assert_eq!(memory.names().unwrap().len(), 1);
    drop(agent);
    pass(1).await;
    let agent = Agent::on(&host, &clock, &memory, &[spec("web")]);
    pass(5).await;
    assert_eq!(memory.names().unwrap(), []);
    drop(agent);
    pass(86_400).await;
    let _agent = Agent::on(&host, &clock, &memory, &specs);
    pass(60).await;
    assert_eq!(host.starts().len(), 1, "web alone");
}

#[tokio::test(start_paused = true)]
async fn times_without_an_agent_are_missed_or_made_up_for_once() {
    for (missed, starts) in [(Missed::Skip, 0), (Missed::Once, 1)] {
        let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
        lasts(&host, "job", 1, 0);
        let specs = [with(job("job", "0 3 * * *"), |s| s.missed = missed)];
        drop(Agent::on(&host, &clock, &memory, &specs));
        let agent = Agent::on(&host, &clock, &memory, &specs);
        pass(1).await;
        drop(agent);
        pass(5 * 86_400).await;
        let agent = Agent::on(&host, &clock, &memory, &specs);
        pass(30).await;
        assert_eq!(host.starts().len(), starts, "{missed:?}");
        assert_eq!(agent.row("job").schedule.unwrap().missed, 1);
        drop(agent);
        pass(1).await;
        let agent = Agent::on(&host, &clock, &memory, &specs);
        pass(30).await;
        assert_eq!(host.starts().len(), starts, "{missed:?}");
        drop(agent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_runs_nothing_twice_and_one_set_ahead_misses() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "job", 1, 0);
    let agent = Agent::on(&host, &clock, &memory, &[job("job", "0 3 * * *")]);
    pass(130).await;
    assert_eq!(host.starts().len(), 1);
    clock.set_by(-3600);
    pass(2 * 3600).await;
    assert_eq!(host.starts().len(), 1);
    // Over the next time and on: it is not made up for.
    clock.set_by(86_400);
    pass(300).await;
    assert_eq!(host.starts().len(), 1);
    assert_eq!(agent.row("job").schedule.unwrap().missed, 1);
    pass(86_400).await;
    assert_eq!(host.starts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_starts_all_does_not_mean_the_nightly_run_and_who_names_it_does() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    let agent = Agent::on(&host, &clock, &memory, &[job("job", "0 3 * * *"), spec("web")]);
    pass(5).await;
    agent.handle.start(vec![Target::All]).await.unwrap();
    assert_eq!(agent.row("job").state, ProcessState::Stopped);
    agent.handle.start(vec![Target::Process("job".parse().unwrap())]).await.unwrap();
    assert_eq!(agent.row("job").state, ProcessState::Running);
    agent.handle.stop(vec![Target::All]).await.unwrap();
    pass(120).await;
    assert_eq!(agent.row("job").state, ProcessState::Running);
    assert_eq!(agent.row("web").state, ProcessState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn new_settings_neither_start_a_job_nor_end_its_run_and_a_gone_one_is_forgotten() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "job", 60, 0);
    let agent = Agent::on(&host, &clock, &memory, &[job("job", "0 3 * * *")]);
    pass(125).await;
    let mut changed = job("job", "0 4 * * *");
    changed.argv.push("x".to_owned());
    agent.handle.update(settings(&[changed.clone()])).await.unwrap();
    pass(10).await;
    assert_eq!((host.starts().len(), host.living().len()), (1, 1));
    pass(60).await;
    assert_eq!(agent.last("job").map(|l| l.0), Some(true));
    changed.argv.push("y".to_owned());
    agent.handle.update(settings(&[changed])).await.unwrap();
    pass(3600).await;
    assert_eq!(host.starts().len(), 2);
    agent.handle.update(settings(&[spec("web")])).await.unwrap();
    pass(5).await;
    assert_eq!(memory.names().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_no_run_back_and_is_told_once() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    lasts(&host, "job", 1, 0);
    memory.is_full.store(true, Ordering::Relaxed);
    let _agent = Agent::on(&host, &clock, &memory, &[job("job", "*:0/1")]);
    pass(301).await;
    assert_eq!(host.starts().len(), 5);
    assert_eq!(memory.notes().len(), 1, "{:?}", memory.notes());
}

#[tokio::test(start_paused = true)]
async fn a_run_owed_while_the_supervisor_hands_over_is_made_when_it_goes_on() {
    let (host, clock, memory) = (FakeHost::default(), Clock::new(), Memory::default());
    let agent = Agent::on(&host, &clock, &memory, &[job("job", "0 3 * * *")]);
    pass(115).await;
    agent.handle.prepare_handover(Duration::from_secs(5)).await.unwrap();
    pass(10).await;
    assert_eq!(host.starts().len(), 0);
    agent.handle.resume().await.unwrap();
    pass(5).await;
    assert_eq!(host.starts().len(), 1);
}
