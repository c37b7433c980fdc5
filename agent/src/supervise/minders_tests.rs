//! Health, memory and storms, against a host in memory.

use palisade_types::ProcessState;

use super::*;
use crate::supervise::{
    AutoRestart, Event, Exit, ProcessSpec, Target, Upkeep,
    task::tests::{Agent, pass, pids},
    testutil::{Behaviour, FakeHost, spec},
};

fn watched() -> ProcessSpec {
    let health = Health {
        target: ProbeTarget::Unix("/x".into()),
        every: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        failures: 3,
    };
    ProcessSpec { health: Some(health), ..spec("web") }
}

fn notes(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Vec<Note> {
    std::iter::from_fn(|| events.try_recv().ok()).filter_map(|e| e.note).collect()
}

#[tokio::test(start_paused = true)]
async fn three_bad_answers_in_a_row_restart_a_program_and_two_do_not() {
    let host = FakeHost::default();
    host.answer_probes(true);
    let agent = Agent::on(&host, &[watched()]);
    let mut events = agent.handle.events();
    pass(15).await;
    host.answer_probes(false);
    pass(20).await;
    host.answer_probes(true);
    pass(20).await;
    assert_eq!((host.starts().len(), notes(&mut events)), (1, vec![]));
    host.answer_probes(false);
    pass(31).await;
    assert_eq!((host.starts().len(), notes(&mut events)), (2, vec![Note::Unhealthy]));
    let row = agent.handle.status().borrow()[0].clone();
    assert_eq!((row.restarts, row.state), (1, ProcessState::Running));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_restarts_do_not_end_makes_no_storm() {
    let host = FakeHost::default();
    let specs: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|n| ProcessSpec { health: watched().health, ..spec(n) })
        .collect();
    let agent = Agent::on(&host, &specs);
    pass(3600).await;
    let starts = host.starts().len() - specs.len();
    assert!((4..=4 * 11).contains(&starts), "{starts} restarts of 4 programs in an hour");
    let row = agent.handle.status().borrow()[0].clone();
    assert!(row.error.unwrap().starts_with("unhealthy: no good answer from unix /x"));
    host.answer_probes(true);
    pass(11).await;
    assert_eq!(agent.handle.status().borrow()[0].error, None);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_being_stopped_is_not_restarted_for_its_health() {
    let host = FakeHost::default();
    host.behave(&"web".parse().unwrap(), Behaviour::Deaf);
    let agent =
        Agent::on(&host, &[ProcessSpec { stopwaitsecs: Duration::from_secs(600), ..watched() }]);
    pass(5).await;
    let stop = agent.handle.stop(vec![Target::All]);
    let later = async {
        pass(300).await;
        assert_eq!(agent.states(), [ProcessState::Stopping]);
    };
    let (stopped, ()) = tokio::join!(stop, later);
    stopped.unwrap();
    assert_eq!((agent.states(), host.starts().len()), (vec![ProcessState::Stopped], 1));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_grew_too_large_is_replaced_with_overlap_and_not_again_at_once() {
    let host = FakeHost::default();
    let upkeep = Upkeep { max_memory: Some(ByteSize::mib(500)), restarts_per_minute: None };
    let mut web = ProcessSpec { upkeep, ..spec("web") };
    web.rolling.overlap = true;
    let agent = Agent::on(&host, &[web]);
    let mut events = agent.handle.events();
    pass(30).await;
    let first = pids(&host)[0];
    host.fill_memory(&"web".parse().unwrap(), 501 << 20);
    pass(10).await;
    let second = pids(&host)[0];
    assert_ne!(first, second);
    assert_eq!(notes(&mut events), [Note::Recycled, Note::Replaced]);
    host.fill_memory(&"web".parse().unwrap(), 0);
    host.fill_memory(&"web~2".parse().unwrap(), 501 << 20);
    pass(200).await;
    assert_eq!(pids(&host), [second], "too soon after the last time");
    pass(120).await;
    assert_ne!(pids(&host), [second]);
    assert_eq!((host.starts().len(), agent.handle.status().borrow()[0].restarts), (3, 2));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_storm_slows_down_and_is_told_once_at_each_end() {
    let host = FakeHost::default();
    let name = "web".parse().unwrap();
    host.behave(&name, Behaviour::Ends(Duration::from_millis(10), 1));
    let upkeep = Upkeep { max_memory: None, restarts_per_minute: Some(20) };
    let web = ProcessSpec {
        upkeep,
        startsecs: Duration::ZERO,
        autorestart: AutoRestart::Always,
        ..spec("web")
    };
    let agent = Agent::on(&host, &[web]);
    let mut events = agent.handle.events();
    pass(300).await;
    let starts = host.starts().len();
    assert!((25..35).contains(&starts), "{starts} starts in five minutes");
    host.behave(&name, Behaviour::Obeys);
    pass(180).await;
    assert_eq!(notes(&mut events), [Note::StormBegan, Note::StormEnded]);
    assert_eq!(agent.states(), [ProcessState::Running]);
    // The next crash is a single one again: at once.
    host.end(pids(&host)[0], Exit::Signal(9));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(agent.states(), [ProcessState::Running]);
    agent.stop().await;
}

/// The agent is killed, and the next one is on the same host.
async fn next(agent: Agent, host: &FakeHost, spec: &ProcessSpec) -> Agent {
    agent.crash().await;
    Agent::on(host, std::slice::from_ref(spec))
}

#[tokio::test(start_paused = true)]
async fn a_storm_goes_on_under_the_next_agent_and_ends_once() {
    let host = FakeHost::default();
    let name = "web".parse().unwrap();
    host.behave(&name, Behaviour::Ends(Duration::from_millis(10), 1));
    let upkeep = Upkeep { max_memory: None, restarts_per_minute: Some(20) };
    let (startsecs, autorestart) = (Duration::ZERO, AutoRestart::Always);
    let web = ProcessSpec { upkeep, startsecs, autorestart, ..spec("web") };
    let agent = Agent::on(&host, std::slice::from_ref(&web));
    pass(100).await;
    let before = host.starts().len();
    let agent = next(agent, &host, &web).await;
    let mut events = agent.handle.events();
    pass(300).await;
    let starts = host.starts().len() - before;
    assert!((3..=6).contains(&starts), "{starts} starts in five minutes");
    host.behave(&name, Behaviour::Obeys);
    while agent.states() != [ProcessState::Running] {
        pass(1).await;
    }
    pass(30).await;
    assert_eq!(notes(&mut events), []);
    let agent = next(agent, &host, &web).await;
    let mut events = agent.handle.events();
    pass(70).await;
    assert_eq!(notes(&mut events), [Note::StormEnded]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_pace_of_repairs_is_kept_by_the_next_agent() {
    let host = FakeHost::default();
    let agent = Agent::on(&host, &[watched()]);
    pass(600).await;
    let starts = host.starts().len();
    let agent = next(agent, &host, &watched()).await;
    pass(1).await;
    let error = agent.handle.status().borrow()[0].error.clone().unwrap();
    assert!(error.starts_with("unhealthy"), "{error}");
    pass(60).await;
    assert_eq!(host.starts().len(), starts, "its time had not come");
    pass(600).await;
    assert_eq!(host.starts().len(), starts + 1);
    host.answer_probes(true);
    pass(40).await;
    assert_eq!(agent.handle.status().borrow()[0].error, None);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_grew_is_not_replaced_again_at_once_by_the_next_agent() {
    let host = FakeHost::default();
    let upkeep = Upkeep { max_memory: Some(ByteSize::mib(500)), restarts_per_minute: None };
    let web = ProcessSpec { upkeep, ..spec("web") };
    host.fill_memory(&"web".parse().unwrap(), 501 << 20);
    let agent = Agent::on(&host, std::slice::from_ref(&web));
    pass(60).await;
    assert_eq!(host.starts().len(), 2);
    let agent = next(agent, &host, &web).await;
    pass(250).await;
    assert_eq!(host.starts().len(), 2, "too soon after the last time");
    // The clock on the wall of this test stands still: the wait begins anew with the agent.
    pass(60).await;
    assert_eq!(host.starts().len(), 3);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unwell_one_is_restarted_although_the_one_before_still_finishes() {
    let host = FakeHost::default();
    host.answer_probes(true);
    host.behave(&"web".parse().unwrap(), Behaviour::Deaf);
    host.behave(&"web~2".parse().unwrap(), Behaviour::Obeys);
    let mut web = ProcessSpec { stopwaitsecs: Duration::from_secs(600), ..watched() };
    web.rolling.overlap = true;
    let agent = Agent::on(&host, &[web]);
    pass(2).await;
    agent.handle.roll("web".parse().unwrap()).await.unwrap().unwrap();
    host.answer_probes(false);
    pass(40).await;
    assert_eq!((host.starts().len(), host.living().len()), (3, 2));
    agent.crash().await;
}
