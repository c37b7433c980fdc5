//! Replacing a process that serves, against a host in memory.

use std::time::Duration;

use palisade_types::{ProcessName, ProcessState};

use super::*;
use crate::supervise::{
    ListenAddr, ListenSocket, Probe, ProbeTarget, ProcessSpec, Ready, Reload, Target,
    task::tests::{Agent, pass, pids},
    testutil::{Behaviour, FakeHost, spec},
};

fn name(s: &str) -> ProcessName {
    s.parse().unwrap()
}

fn web() -> ProcessSpec {
    let mut web = spec("web");
    web.rolling.overlap = true;
    web
}

/// `web` in another release.
fn changed() -> ProcessSpec {
    let mut web = web();
    web.argv.push("2".to_owned());
    web
}

fn probed(timeout: u64) -> Ready {
    Ready::Probe(Probe {
        target: ProbeTarget::Unix("/x".into()),
        every: Duration::from_millis(100),
        timeout: Duration::from_secs(timeout),
    })
}

/// The keys of those that live.
fn keys(host: &FakeHost) -> Vec<String> {
    host.living().iter().map(|(key, _)| key.to_string()).collect()
}

async fn up(host: &FakeHost, spec: &ProcessSpec) -> Agent {
    let agent = Agent::on(host, std::slice::from_ref(spec));
    pass(2).await;
    agent
}

async fn roll(agent: &Agent) -> Result<Rolled, RollError> {
    agent.handle.roll(name("web")).await.unwrap()
}

/// Begins a replacement and leaves it at that.
async fn begin(agent: &Agent) {
    let short = Duration::from_millis(100);
    drop(tokio::time::timeout(short, agent.handle.roll(name("web"))).await);
}

#[tokio::test(start_paused = true)]
async fn the_new_one_is_up_before_the_old_one_is_told_to_stop() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    let old = pids(&host)[0];
    let mut events = agent.handle.events();
    let during = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!((keys(&host), host.signals(old)), (vec!["web".into(), "web~2".into()], vec![]));
        assert_eq!(agent.handle.status().borrow()[0].pid, old, "the old one is shown until then");
    };
    let (rolled, ()) = tokio::join!(roll(&agent), during);
    let new = host.living().iter().find(|(k, _)| k.as_str() == "web~2").unwrap().1;
    assert_eq!(rolled, Ok(Rolled::Replaced { before: old, after: new }));
    pass(1).await;
    let rows = agent.handle.status().borrow().clone();
    assert_eq!((rows.len(), rows[0].pid, rows[0].name.as_str()), (1, new, "web"));
    assert_eq!((rows[0].state, rows[0].restarts), (ProcessState::Running, 0));
    let told = events.try_recv().unwrap();
    assert_eq!(
        (told.note, told.pid, told.from),
        (Some(Note::Replaced), new, ProcessState::Running)
    );
    assert!(events.try_recv().is_err(), "what goes on beside it is nobody's business");
    // And back to the first place.
    assert!(matches!(roll(&agent).await, Ok(Rolled::Replaced { .. })));
    pass(1).await;
    assert_eq!((keys(&host), host.starts().len()), (vec!["web".to_owned()], 3));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_tried_once_and_the_old_one_stays() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    let old = pids(&host);
    host.behave(&name("web~2"), Behaviour::Ends(Duration::from_millis(300), 3));
    let failed = roll(&agent).await.unwrap_err().to_string();
    assert!(failed.contains("exit 3") && failed.contains("do not boot"), "{failed}");
    pass(600).await;
    assert_eq!((pids(&host), host.starts().len()), (old, 2), "no storm of tries");
    let row = agent.handle.status().borrow()[0].clone();
    assert_eq!(row.state, ProcessState::Running);
    assert!(row.error.unwrap().contains("the old one stays"));
    host.behave(&name("web~2"), Behaviour::Obeys);
    assert!(roll(&agent).await.is_ok());
    assert_eq!(agent.handle.status().borrow()[0].error, None);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_ready_in_time_goes_and_the_old_one_stays() {
    let host = FakeHost::default();
    host.answer_probes(true);
    let agent = up(&host, &ProcessSpec { ready: probed(5), ..web() }).await;
    let old = pids(&host);
    host.answer_probes(false);
    let failed = roll(&agent).await.unwrap_err().to_string();
    assert!(failed.contains("not ready in time"), "{failed}");
    pass(1).await;
    assert_eq!(pids(&host), old);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_room_for_two_it_is_stopped_and_started_and_says_so() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    host.fill_memory(&name("web"), 600 << 20);
    host.leave_memory(500 << 20);
    match roll(&agent).await {
        Ok(Rolled::Restarted { why: Some(why) }) => {
            assert!(why.contains("needs 600 MiB and 500 MiB are free"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(keys(&host), ["web"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_without_overlap_and_one_that_does_not_run_are_restarted() {
    let host = FakeHost::default();
    let agent = up(&host, &spec("web")).await;
    let old = pids(&host);
    assert_eq!(roll(&agent).await, Ok(Rolled::Restarted { why: None }));
    assert_ne!(pids(&host), old);
    agent.handle.stop(vec![Target::All]).await.unwrap();
    assert_eq!(roll(&agent).await, Ok(Rolled::Restarted { why: None }));
    assert_eq!(agent.states(), [ProcessState::Running]);
    assert!(agent.handle.roll(name("nobody")).await.is_err());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn new_settings_replace_with_overlap_and_bad_ones_leave_the_old_one() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    let old = pids(&host);
    host.behave(&name("web~2"), Behaviour::Missing);
    agent.update(&[changed()]).await;
    pass(30).await;
    assert_eq!(pids(&host), old);
    let row = agent.handle.status().borrow()[0].clone();
    assert!(row.error.unwrap().contains("can't find command"));
    // The next agent tries once more, and leaves it at that too.
    agent.crash().await;
    let agent = up(&host, &changed()).await;
    pass(30).await;
    assert_eq!(pids(&host), old);
    host.behave(&name("web~2"), Behaviour::Obeys);
    agent.update(&[web()]).await;
    agent.update(&[changed()]).await;
    pass(3).await;
    assert_eq!(keys(&host), ["web~2"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_killed_in_the_middle_is_followed_by_one_that_goes_on() {
    let host = FakeHost::default();
    let agent = up(&host, &ProcessSpec { startsecs: Duration::from_secs(5), ..web() }).await;
    pass(5).await;
    begin(&agent).await;
    assert_eq!(keys(&host), ["web", "web~2"]);
    agent.crash().await;
    let agent = Agent::on(&host, &[ProcessSpec { startsecs: Duration::from_secs(5), ..web() }]);
    pass(1).await;
    assert_eq!(keys(&host), ["web", "web~2"]);
    assert_eq!(agent.states(), [ProcessState::Running]);
    pass(6).await;
    assert_eq!(keys(&host), ["web~2"]);
    assert_eq!((agent.states(), host.starts().len()), (vec![ProcessState::Running], 2));
    agent.stop().await;
    assert!(host.living().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_one_that_still_works_goes_on_going_under_the_next_agent() {
    let host = FakeHost::default();
    host.behave(&name("web"), Behaviour::Deaf);
    let agent = up(&host, &web()).await;
    roll(&agent).await.unwrap();
    pass(2).await;
    assert_eq!(keys(&host), ["web", "web~2"]);
    agent.crash().await;
    let agent = up(&host, &web()).await;
    let new = host.living()[1].1;
    assert_eq!((keys(&host).len(), agent.handle.status().borrow()[0].pid), (2, new));
    pass(10).await;
    assert_eq!(pids(&host), [new], "its time to stop was not begun anew for ever");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_a_process_stops_what_is_to_replace_it() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    begin(&agent).await;
    assert_eq!(keys(&host).len(), 2);
    agent.handle.stop(vec![Target::Process(name("web"))]).await.unwrap();
    pass(30).await;
    assert!(host.living().is_empty());
    assert_eq!(agent.states(), [ProcessState::Stopped]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_old_one_ends_the_new_one_takes_its_place_at_once() {
    let host = FakeHost::default();
    let agent = up(&host, &web()).await;
    begin(&agent).await;
    let (old, new) = (host.living()[0].1, host.living()[1].1);
    host.end(old, Exit::Signal(9));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(pids(&host), [new]);
    let row = agent.handle.status().borrow()[0].clone();
    assert_eq!((row.pid, row.state, row.restarts), (new, ProcessState::Starting, 1));
    pass(2).await;
    assert_eq!((agent.states(), host.starts().len()), (vec![ProcessState::Running], 2));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_lost_in_the_middle_leaves_one_in_the_end() {
    let host = FakeHost::default();
    host.fill_disk(true);
    let agent = up(&host, &web()).await;
    begin(&agent).await;
    agent.crash().await;
    let agent = up(&host, &web()).await;
    pass(2).await;
    assert_eq!((keys(&host).len(), agent.states()), (1, vec![ProcessState::Running]));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_over_once_it_is_ready_again_and_the_same() {
    let host = FakeHost::default();
    host.answer_probes(true);
    let signal = nix::sys::signal::Signal::SIGHUP;
    let specs = ProcessSpec { reload: Some(Reload { signal }), ready: probed(5), ..spec("web") };
    let agent = up(&host, &specs).await;
    let pid = pids(&host)[0];
    assert_eq!(roll(&agent).await, Ok(Rolled::Reloaded));
    assert_eq!((pids(&host), host.signals(pid)), (vec![pid], vec![signal]));
    host.answer_probes(false);
    let failed = roll(&agent).await.unwrap_err().to_string();
    assert!(failed.contains("not ready again"), "{failed}");
    let end = async {
        pass(2).await;
        host.end(pid, Exit::Code(3));
    };
    let (ended, ()) = tokio::join!(roll(&agent), end);
    assert_eq!(ended, Err(RollError::Ended));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_one_waits_for_the_one_before_and_not_for_ever() {
    let host = FakeHost::default();
    host.behave(&name("web"), Behaviour::Untouchable);
    host.behave(&name("web~2"), Behaviour::Obeys);
    let agent = up(&host, &web()).await;
    let old = pids(&host)[0];
    roll(&agent).await.unwrap();
    let look = async {
        pass(5).await;
        let row = agent.handle.status().borrow()[0].clone();
        assert_eq!(row.error, Some(format!("to be replaced once pid {old} is gone")));
    };
    match tokio::join!(roll(&agent), look).0 {
        Ok(Rolled::Restarted { why: Some(why) }) => assert!(why.contains("is not gone"), "{why}"),
        other => panic!("{other:?}"),
    }
    let row = agent.handle.status().borrow()[0].clone();
    assert_eq!((row.state, row.error, host.starts().len()), (ProcessState::Running, None, 3));
    agent.crash().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_excludes_the_one_before_is_taken_without_overlap() {
    let host = FakeHost::default();
    let at = |listen: &str| {
        let listen = ListenAddr::Tcp(listen.parse().unwrap());
        let socket = ListenSocket { name: "http".to_owned(), listen: listen.clone() };
        (ProcessSpec { sockets: vec![socket], ..web() }, listen)
    };
    let (old, old_at) = at("127.0.0.1:8000");
    let (new, new_at) = at("0.0.0.0:8000");
    let agent = up(&host, &old).await;
    agent.update(&[new]).await;
    pass(3).await;
    assert_eq!((keys(&host), host.starts().len()), (vec!["web".to_owned()], 2));
    assert!(host.listens(&new_at) && !host.listens(&old_at));
    // Another port is no matter.
    agent.update(&[at("127.0.0.1:8001").0]).await;
    pass(3).await;
    assert_eq!(keys(&host), ["web~2"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_held_socket_is_closed_once_nobody_serves_it_and_is_there_for_the_next_start() {
    let host = FakeHost::default();
    let listen = ListenAddr::Unix("/run/web.sock".into());
    let socket = ListenSocket { name: "http".to_owned(), listen: listen.clone() };
    let agent = up(&host, &ProcessSpec { sockets: vec![socket], ..web() }).await;
    assert!(host.listens(&listen));
    let all = || vec![Target::All];
    agent.handle.restart(all()).await.unwrap();
    pass(10).await;
    assert!(host.listens(&listen), "a restart loses nobody");
    agent.handle.stop(all()).await.unwrap();
    pass(2).await;
    assert!(host.listens(&listen));
    pass(2).await;
    assert!(!host.listens(&listen), "visitors would wait for nobody");
    agent.handle.start(all()).await.unwrap();
    assert!(host.listens(&listen));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn visitors_of_a_program_that_takes_long_to_stop_are_soon_refused() {
    let host = FakeHost::default();
    host.behave(&name("web"), Behaviour::Deaf);
    let listen = ListenAddr::Unix("/run/web.sock".into());
    let socket = ListenSocket { name: "http".to_owned(), listen: listen.clone() };
    let stopwaitsecs = Duration::from_secs(60);
    let agent =
        up(&host, &ProcessSpec { sockets: vec![socket], stopwaitsecs, ..spec("web") }).await;
    let restart = agent.handle.restart(vec![Target::All]);
    assert!(tokio::time::timeout(Duration::from_secs(30), restart).await.is_err());
    assert!(host.listens(&listen), "a restart loses nobody, however long it takes");
    let stop = agent.handle.stop(vec![Target::All]);
    assert!(tokio::time::timeout(Duration::from_secs(4), stop).await.is_err());
    assert_eq!((agent.states(), host.listens(&listen)), (vec![ProcessState::Stopping], false));
    agent.handle.start(vec![Target::All]).await.unwrap();
    assert_eq!((agent.states(), host.listens(&listen)), (vec![ProcessState::Running], true));
    agent.crash().await;
}
