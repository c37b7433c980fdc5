//! The task against a host in memory and a clock that tests move.

use palisade_types::ProcessState;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::{SetClock, Timestamp},
    supervise::{
        AutoRestart, Cgroup, Exit, NOT_LET_GO, Probe, ProbeTarget, ProcessSpec, Ready, StopError,
        Target,
        testutil::{Behaviour, FakeHost, NoSink, NoStore, spec},
        twin::outer,
    },
};

/// One agent on a host. Dropping it is what SIGKILL does.
pub(in crate::supervise) struct Agent {
    pub(in crate::supervise) handle: Handle,
    scope: Scope,
}

impl Agent {
    pub(in crate::supervise) fn on(host: &FakeHost, processes: &[ProcessSpec]) -> Self {
        let settings = Settings {
            run_dir: "/run/x".into(),
            log_dir: "/log".into(),
            cgroup: Cgroup::Off,
            processes: processes.to_vec(),
        };
        let mut scope = Scope::new(&CancellationToken::new());
        let wiring = Wiring {
            host: host.clone(),
            sink: NoSink,
            store: NoStore,
            clock: SetClock::at(Timestamp::from_secs(1_000_000)),
            inherited: Inherited::new(),
        };
        let handle = start(&mut scope, settings, wiring).unwrap();
        Self { handle, scope }
    }

    pub(in crate::supervise) fn states(&self) -> Vec<ProcessState> {
        self.handle.status.borrow().iter().map(|r| r.state).collect()
    }

    pub(in crate::supervise) async fn update(&self, specs: &[ProcessSpec]) {
        let settings = Settings {
            run_dir: "/run/x".into(),
            log_dir: "/log".into(),
            cgroup: Cgroup::Off,
            processes: specs.to_vec(),
        };
        self.handle.update(settings).await.unwrap();
    }

    /// Ends without a chance to say or write anything.
    pub(in crate::supervise) async fn crash(self) {
        drop(self.scope);
        // Aborted tasks are dropped when the runtime next looks at them.
        time::sleep(Duration::from_millis(1)).await;
    }

    pub(in crate::supervise) async fn stop(self) {
        self.handle.shut_down(Duration::from_secs(60)).await.unwrap();
        self.scope.shut_down(Duration::from_secs(5)).await;
    }
}

fn named(names: &[&str]) -> Vec<ProcessSpec> {
    names.iter().map(|n| spec(n)).collect()
}

pub(in crate::supervise) async fn pass(seconds: u64) {
    time::sleep(Duration::from_secs(seconds)).await;
}

pub(in crate::supervise) fn pids(host: &FakeHost) -> Vec<i32> {
    host.living().into_iter().map(|(_, pid)| pid).collect()
}

#[tokio::test(start_paused = true)]
async fn low_priorities_start_first_and_those_that_wait_start_last() {
    let host = FakeHost::default();
    let probe = Probe {
        target: ProbeTarget::Unix("/x".into()),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    };
    let specs = [
        ProcessSpec { priority: 5, ..spec("b") },
        ProcessSpec { priority: 1, after: ["slow".parse().unwrap()].into(), ..spec("a") },
        ProcessSpec { priority: 9, ready: Ready::Probe(probe), ..spec("slow") },
    ];
    let agent = Agent::on(&host, &specs);
    pass(5).await;
    let starts: Vec<_> = host.starts().iter().map(ToString::to_string).collect();
    assert_eq!(starts, ["b", "slow"]);
    host.answer_probes(true);
    pass(5).await;
    assert_eq!(host.starts().len(), 3);
    assert_eq!(agent.states(), vec![ProcessState::Running; 3]);
    agent.stop().await;
    assert!(host.living().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_program_given_up_keeps_nobody_waiting() {
    let host = FakeHost::default();
    host.behave(&"cache".parse().unwrap(), Behaviour::Missing);
    let specs =
        [spec("cache"), ProcessSpec { after: ["cache".parse().unwrap()].into(), ..spec("web") }];
    let agent = Agent::on(&host, &specs);
    pass(3).await;
    assert_eq!(agent.states(), [ProcessState::Backoff, ProcessState::Starting]);
    pass(10).await;
    assert_eq!(agent.states(), [ProcessState::Fatal, ProcessState::Running]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_agent_takes_over_pids_states_and_counts() {
    let host = FakeHost::default();
    let specs = named(&["a", "b"]);
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    agent.handle.stop(vec![Target::Process("a".parse().unwrap())]).await.unwrap();
    pass(1).await;
    host.end(pids(&host)[0], Exit::Signal(9));
    pass(2).await;
    let before = (host.living(), agent.handle.status.borrow().clone());
    agent.crash().await;
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    assert_eq!((host.living(), agent.handle.status.borrow().clone()), before);
    assert_eq!(agent.handle.status.borrow()[1].restarts, 1);
    agent.stop().await;
    // An agent after an orderly end starts afresh, what was stopped by hand too.
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    assert_eq!(host.living().len(), 2);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_no_program_and_the_next_agent_finds_them_by_their_marks() {
    let host = FakeHost::default();
    host.fill_disk(true);
    let agent = Agent::on(&host, &named(&["a", "b"]));
    pass(2).await;
    let before = pids(&host);
    assert_eq!(before.len(), 2);
    agent.crash().await;
    let agent = Agent::on(&host, &named(&["a", "b"]));
    pass(2).await;
    assert_eq!(pids(&host), before);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_goes_with_its_agent_is_started_anew_and_one_that_ends_itself_is_not() {
    for (exit, copies) in [(Exit::Code(NOT_LET_GO), 1), (Exit::Unknown, 1), (Exit::Code(0), 0)] {
        let host = FakeHost::default();
        let once = ProcessSpec { autorestart: AutoRestart::Never, ..spec("a") };
        let agent = Agent::on(&host, std::slice::from_ref(&once));
        time::sleep(Duration::from_millis(100)).await;
        agent.crash().await;
        host.forget_execs();
        // Dying, but still there when the next agent looks.
        let agent = Agent::on(&host, std::slice::from_ref(&once));
        time::sleep(Duration::from_millis(1)).await;
        host.end(pids(&host)[0], exit);
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(pids(&host).len(), copies, "{exit:?}");
        agent.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_all_is_being_stopped_stays_ended() {
    let host = FakeHost::default();
    host.behave(&"deaf".parse().unwrap(), Behaviour::Deaf);
    let low =
        ProcessSpec { priority: 1, autorestart: super::super::AutoRestart::Always, ..spec("low") };
    let agent = Agent::on(&host, &[low, spec("deaf")]);
    pass(2).await;
    let low = host.living().into_iter().find(|(n, _)| n.as_str() == "low").unwrap().1;
    let end = async {
        pass(1).await;
        host.end(low, Exit::Code(1));
        pass(1).await;
        assert_eq!(host.living().len(), 1, "started again during the shutdown");
    };
    tokio::join!(agent.stop(), end);
    assert_eq!((host.living().len(), host.starts().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_will_not_signal_is_told_and_never_doubled() {
    let host = FakeHost::default();
    host.behave(&"a".parse().unwrap(), Behaviour::Untouchable);
    let agent = Agent::on(&host, &named(&["a"]));
    pass(2).await;
    let a = vec![Target::Process("a".parse().unwrap())];
    let stopped = agent.handle.stop(a.clone()).await.unwrap();
    assert!(matches!(stopped[0].1, Err(StopError::Refused(_))), "{stopped:?}");
    assert_eq!(agent.states(), [ProcessState::Unknown]);
    let started = agent.handle.start(a).await.unwrap();
    assert!(started[0].1.is_err(), "{started:?}");
    assert_eq!(host.starts().len(), 1);
    host.end(pids(&host)[0], Exit::Code(0));
    pass(2).await;
    assert_eq!((agent.states(), host.starts().len()), (vec![ProcessState::Running], 2));
    agent.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_kernel_takes_back_is_told_no_longer() {
    let host = FakeHost::default();
    host.behave(&"a".parse().unwrap(), Behaviour::Untouchable);
    let agent = Agent::on(&host, &named(&["a"]));
    pass(2).await;
    let a = vec![Target::Process("a".parse().unwrap())];
    assert!(agent.handle.stop(a).await.unwrap()[0].1.is_err());
    let mut events = agent.handle.events();
    host.let_all_be_signalled();
    pass(30).await;
    let told: Vec<_> =
        std::iter::from_fn(|| events.try_recv().ok()).map(|e| (e.from, e.to)).collect();
    use ProcessState::{Stopped, Stopping, Unknown};
    assert_eq!(told, [(Unknown, Stopping), (Stopping, Stopped)]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn groups_are_ordered_before_the_processes_in_them() {
    let host = FakeHost::default();
    let of = |name: &str, group: &str, group_priority, priority| ProcessSpec {
        group: group.parse().unwrap(),
        group_priority,
        priority,
        ..spec(name)
    };
    let specs = [of("a", "late", 9, 1), of("b", "early", 1, 5), of("c", "early", 1, 2)];
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    let starts: Vec<_> = host.starts().iter().map(ToString::to_string).collect();
    assert_eq!(starts, ["c", "b", "a"]);
    agent.stop().await;
}

#[derive(Clone, Debug)]
enum Move {
    Start(usize),
    Stop(usize),
    Die(usize),
    Pass(u64),
    Crash,
    HandOver,
    Update(usize),
    Disk(bool),
    Roll(usize),
    Restart(usize),
    Change,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..3_usize).prop_map(Move::Start),
        (0..3_usize).prop_map(Move::Stop),
        (0..9_usize).prop_map(Move::Die),
        (0..4_u64).prop_map(Move::Pass),
        Just(Move::Crash),
        Just(Move::HandOver),
        (1..8_usize).prop_map(Move::Update),
        any::<bool>().prop_map(Move::Disk),
        (0..3_usize).prop_map(Move::Roll),
        (0..3_usize).prop_map(Move::Restart),
        Just(Move::Change),
    ];
    proptest::collection::vec(one, 0..25)
}

/// All but `c` overlap.
fn rolling(names: &[&str], version: usize) -> Vec<ProcessSpec> {
    let mut specs = named(names);
    for s in &mut specs {
        s.rolling.overlap = s.name.as_str() != "c";
        s.argv.push(version.to_string());
    }
    specs
}

/// What is wanted, as far as whoever asked can know: an agent that is killed before it could write
/// the table leaves open what was asked of it last.
struct Wanted {
    of: BTreeMap<&'static str, Option<bool>>,
    asked_at: Instant,
    is_unwritten: bool,
}

impl Wanted {
    /// Longer than the time between two writes of the table.
    const WRITTEN_WITHIN: Duration = Duration::from_millis(80);

    fn asked(&mut self, name: &'static str, wanted: bool, host: &FakeHost) {
        if let Some(of) = self.of.get_mut(name) {
            *of = Some(wanted);
            self.happened(host);
        }
    }

    fn happened(&mut self, host: &FakeHost) {
        (self.asked_at, self.is_unwritten) = (Instant::now(), host.fails_to_save());
    }

    /// Those that are new in the settings are wanted, the others as before.
    fn updated(&mut self, names: &[&'static str], specs: &[ProcessSpec], host: &FakeHost) {
        let is_set = |name: &str| specs.iter().any(|s| s.name.as_str() == name);
        let set = names.iter().filter(|n| is_set(n));
        self.of = set.map(|n| (*n, self.of.get(n).copied().unwrap_or(Some(true)))).collect();
        self.happened(host);
    }

    fn disk_filled(&mut self) {
        self.is_unwritten |= self.asked_at.elapsed() < Self::WRITTEN_WITHIN;
    }

    fn crashed(&mut self) {
        if self.is_unwritten || self.asked_at.elapsed() < Self::WRITTEN_WITHIN {
            self.of.values_mut().for_each(|wanted| *wanted = None);
        }
        self.is_unwritten = false;
    }
}

async fn play(moves: Vec<Move>) -> Result<(), TestCaseError> {
    let names = ["a", "b", "c"];
    let mut version = 0;
    let host = FakeHost::default();
    host.behave(&"b".parse().unwrap(), Behaviour::Deaf);
    host.behave(&"c".parse().unwrap(), Behaviour::Ends(Duration::from_millis(1500), 1));
    let mut specs = rolling(&names, version);
    let mut agent = Agent::on(&host, &specs);
    let mut wanted = Wanted { of: BTreeMap::new(), asked_at: Instant::now(), is_unwritten: false };
    wanted.updated(&names, &specs, &host);
    for m in moves {
        let target = |i: usize| vec![Target::Process(names[i].parse().unwrap())];
        // Nobody waits for the outcome: what was asked goes on while the next move is made.
        let short = Duration::from_millis(20);
        match m {
            Move::Start(i) => {
                wanted.asked(names[i], true, &host);
                drop(time::timeout(short, agent.handle.start(target(i))).await);
            }
            Move::Stop(i) => {
                wanted.asked(names[i], false, &host);
                drop(time::timeout(short, agent.handle.stop(target(i))).await);
            }
            Move::Restart(i) => {
                wanted.asked(names[i], true, &host);
                drop(time::timeout(short, agent.handle.restart(target(i))).await);
            }
            Move::Die(i) => {
                if let Some(pid) = pids(&host).get(i) {
                    host.end(*pid, Exit::Signal(9));
                }
            }
            Move::Pass(s) => pass(s).await,
            Move::Crash => {
                agent.crash().await;
                wanted.crashed();
                agent = Agent::on(&host, &specs);
            }
            Move::HandOver => {
                let ready = agent.handle.prepare_handover(Duration::from_secs(1)).await;
                prop_assert!(ready.is_ok() || host.fails_to_save(), "{:?}", ready);
                if ready.is_ok() {
                    agent.crash().await;
                    agent = Agent::on(&host, &specs);
                }
            }
            Move::Update(mask) => {
                specs = rolling(&names, version);
                specs.retain(|s| mask & (1 << (s.name.as_str().as_bytes()[0] - b'a')) != 0);
                agent.update(&specs).await;
                wanted.updated(&names, &specs, &host);
            }
            Move::Change => {
                version += 1;
                specs = rolling(&names, version);
                agent.update(&specs).await;
                wanted.updated(&names, &specs, &host);
            }
            Move::Roll(i) => {
                // One that does not run is started.
                wanted.asked(names[i], true, &host);
                let name = names[i].parse().unwrap();
                drop(time::timeout(short, agent.handle.roll(name)).await);
            }
            Move::Disk(is_full) => {
                host.fill_disk(is_full);
                if is_full {
                    wanted.disk_filled();
                }
            }
        }
        let living = host.living();
        for name in names {
            for key in [name.to_owned(), format!("{name}~2")] {
                let copies = living.iter().filter(|(n, _)| *n.as_str() == key).count();
                prop_assert!(copies <= 1, "{} copies of {}", copies, key);
                prop_assert!(copies == 0 || key != "c~2", "c has no overlap");
            }
        }
        let rows = agent.handle.status.borrow().clone();
        let mut shown: Vec<_> = rows.iter().map(|r| r.name.as_str()).collect();
        shown.dedup();
        prop_assert!(shown.len() == rows.len() && shown.iter().all(|n| names.contains(n)));
    }
    // Left alone, and able to write the table, it comes to one instance of each that is wanted.
    host.fill_disk(false);
    pass(60).await;
    for name in ["a", "b"] {
        let copies = host.living().iter().filter(|(n, _)| outer(n).as_str() == name).count();
        let rows = agent.handle.status.borrow().clone();
        let row = rows.iter().find(|r| r.name.as_str() == name);
        // One that died as often as it may be tried.
        let is_given_up = row.is_some_and(|r| r.state == ProcessState::Fatal);
        let is_right = match wanted.of.get(name) {
            None | Some(Some(false)) => copies == 0,
            Some(Some(true)) => copies == usize::from(!is_given_up),
            Some(None) => copies <= 1,
        };
        prop_assert!(is_right, "{} of {}, {:?}: {:?}", copies, name, wanted.of.get(name), row);
    }
    agent.stop().await;
    prop_assert!(host.living().is_empty(), "{:?}", host.living());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is asked, whatever dies, whenever the agent is killed or hands over, and whether or
    /// not the table can be written: there is never a second copy, and in the end one of each that is wanted.
    #[test]
    fn never_a_second_copy(moves in moves()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(moves))?;
    }
}
