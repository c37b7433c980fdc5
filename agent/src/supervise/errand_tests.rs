//! Hooks and one-shots with the supervisor over a host in memory.

use std::time::Duration;

use palisade_types::{ProcessState, ProcessStatus};
use tokio::time;

use crate::supervise::{
    AutoRestart, Hook, Hooks, ProcessSpec, StartError, Target,
    task::tests::{Agent, pass},
    testutil::{Behaviour, FakeHost, spec},
};

impl Agent {
    fn row(&self, name: &str) -> ProcessStatus {
        let rows = self.handle.status().borrow().clone();
        rows.into_iter().find(|r| r.name.as_str() == name).unwrap()
    }

    fn state(&self, name: &str) -> ProcessState {
        self.row(name).state
    }

    async fn start(&self, name: &str) -> Result<(), StartError> {
        let target = Target::Process(name.parse().unwrap());
        self.handle.start(vec![target]).await.unwrap().remove(0).1
    }
}

fn hook(command: &str) -> Hook {
    let argv = command.split(' ').map(str::to_owned).collect();
    Hook { argv, timeout: Duration::from_secs(60) }
}

fn with_hooks(name: &str, pre: &[&str], post: &[&str]) -> ProcessSpec {
    let all = |commands: &[&str]| commands.iter().map(|c| hook(c)).collect();
    ProcessSpec { hooks: Hooks { pre_start: all(pre), post_start: all(post) }, ..spec(name) }
}

fn ends(seconds: u64, code: i32) -> Behaviour {
    Behaviour::Ends(Duration::from_secs(seconds), code)
}

fn after(name: &str, on: &str) -> ProcessSpec {
    ProcessSpec { after: [on.parse().unwrap()].into(), ..spec(name) }
}

#[tokio::test(start_paused = true)]
async fn hooks_run_in_order_around_each_start() {
    let host = FakeHost::default();
    host.behave_hook("a", ends(5, 0));
    let agent = Agent::on(&host, &[with_hooks("web", &["a", "b"], &["c"])]);
    pass(1).await;
    assert_eq!(agent.state("web"), ProcessState::Starting);
    assert_eq!(agent.row("web").error.as_deref(), Some("runs its pre_start hooks"));
    assert_eq!((host.hooks_run(), host.starts().len()), (vec!["a".to_owned()], 0));
    pass(6).await;
    assert_eq!(agent.state("web"), ProcessState::Running);
    assert_eq!(host.hooks_run(), ["a", "b", "c"]);
    let pid = agent.row("web").pid;
    host.end(pid, crate::supervise::Exit::Signal(9));
    pass(10).await;
    assert_eq!(host.hooks_run(), ["a", "b", "c", "a", "b", "c"]);
    assert_eq!((host.living().len(), agent.row("web").error), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_is_a_start_that_failed_and_is_tried_again_and_given_up() {
    let host = FakeHost::default();
    host.behave_hook("bad x", ends(0, 3));
    let agent = Agent::on(&host, &[with_hooks("web", &["bad x", "never"], &[])]);
    pass(2).await;
    assert_eq!(agent.state("web"), ProcessState::Backoff);
    pass(30).await;
    assert_eq!(agent.state("web"), ProcessState::Fatal);
    assert_eq!(agent.row("web").error.as_deref(), Some("pre_start hook 1 (bad): exit 3"));
    assert_eq!(host.hooks_run(), ["bad x"; 4]);
    assert_eq!(host.starts().len(), 0);
    let why = agent.start("web").await.unwrap_err().to_string();
    assert_eq!(why, "pre_start hook 1 (bad): exit 3");
    host.behave_hook("bad x", Behaviour::Missing);
    pass(30).await;
    let why = agent.start("web").await.unwrap_err().to_string();
    assert_eq!(why, "pre_start hook 1 (bad): can't find command 'bad'");
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_told_by_its_number_and_command_on_one_line_and_its_arguments_are_kept_back() {
    let host = FakeHost::default();
    host.behave_hook("b\nx secret\nmore", ends(0, 3));
    let mut spec = with_hooks("web", &["good", "b\nx secret\nmore"], &[]);
    spec.startretries = 0;
    let agent = Agent::on(&host, &[spec]);
    pass(2).await;
    assert_eq!(agent.row("web").error.as_deref(), Some("pre_start hook 2 (b x): exit 3"));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_is_killed_after_its_time() {
    let host = FakeHost::default();
    host.behave_hook("hang", Behaviour::Obeys);
    let mut spec = with_hooks("web", &["hang"], &[]);
    spec.startretries = 0;
    let agent = Agent::on(&host, &[spec]);
    pass(59).await;
    assert_eq!((agent.state("web"), host.hooks_living()), (ProcessState::Starting, 1));
    pass(2).await;
    assert_eq!((agent.state("web"), host.hooks_living()), (ProcessState::Fatal, 0));
    let why = "pre_start hook 1 (hang): took longer than 1m and was killed";
    assert_eq!(agent.row("web").error.as_deref(), Some(why));
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_hook_kills_it_and_a_start_begins_anew() {
    let host = FakeHost::default();
    host.behave_hook("slow", ends(10, 0));
    let agent = Agent::on(&host, &[with_hooks("web", &["slow"], &[])]);
    pass(2).await;
    let target = vec![Target::Process("web".parse().unwrap())];
    let stopped = agent.handle.stop(target).await.unwrap();
    assert_eq!(stopped[0].1, Ok(()));
    assert_eq!((agent.state("web"), host.hooks_living()), (ProcessState::Stopped, 0));
    pass(20).await;
    assert_eq!((host.starts().len(), host.hooks_run().len()), (0, 1));
    assert_eq!(agent.start("web").await, Ok(()));
    assert_eq!((host.starts().len(), host.hooks_run().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_agent_in_a_hook_waits_for_nothing() {
    let host = FakeHost::default();
    host.behave_hook("slow", ends(1000, 0));
    let agent = Agent::on(&host, &[with_hooks("web", &["slow"], &[])]);
    pass(2).await;
    let before = time::Instant::now();
    agent.handle.shut_down(Duration::from_secs(60)).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!((host.hooks_living(), host.starts().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_in_a_hook_takes_it_along_and_the_next_one_begins_anew() {
    let host = FakeHost::default();
    host.behave_hook("slow", ends(10, 0));
    let specs = [with_hooks("web", &["slow"], &[])];
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    drop(agent);
    pass(1).await;
    assert_eq!(host.hooks_living(), 0);
    let agent = Agent::on(&host, &specs);
    pass(1).await;
    assert_eq!((host.hooks_living(), host.starts().len()), (1, 0));
    pass(12).await;
    assert_eq!((agent.state("web"), host.starts().len()), (ProcessState::Running, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_ends_hooks_and_whoever_goes_on_begins_them_anew() {
    let host = FakeHost::default();
    host.behave_hook("slow", ends(10, 0));
    host.behave_hook("warm", ends(10, 0));
    let specs = [with_hooks("web", &["slow"], &[]), with_hooks("api", &[], &["warm"])];
    let agent = Agent::on(&host, &specs);
    pass(2).await;
    assert_eq!(host.hooks_living(), 2);
    agent.handle.prepare_handover(Duration::from_secs(5)).await.unwrap();
    assert_eq!(host.hooks_living(), 0);
    agent.handle.resume().await.unwrap();
    pass(1).await;
    assert_eq!(host.hooks_living(), 2);
    agent.handle.prepare_handover(Duration::from_secs(5)).await.unwrap();
    drop(agent);
    let agent = Agent::on(&host, &specs);
    pass(15).await;
    assert_eq!(
        (agent.state("web"), agent.state("api")),
        (ProcessState::Running, ProcessState::Running)
    );
    assert_eq!((host.starts().len(), host.hooks_living()), (2, 0));
    // Those after a start are not run again once they are through.
    let count = host.hooks_run().len();
    drop(agent);
    pass(1).await;
    let _agent = Agent::on(&host, &specs);
    pass(15).await;
    assert_eq!(host.hooks_run().len(), count);
}

#[tokio::test(start_paused = true)]
async fn a_hook_after_the_start_that_fails_is_told_and_changes_nothing() {
    let host = FakeHost::default();
    host.behave_hook("bad", ends(0, 1));
    let agent = Agent::on(&host, &[with_hooks("web", &[], &["bad", "more"])]);
    pass(5).await;
    assert_eq!(agent.state("web"), ProcessState::Running);
    assert_eq!(agent.row("web").error.as_deref(), Some("post_start hook 1 (bad): exit 1"));
    assert_eq!(host.hooks_run(), ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn dependents_start_when_a_one_shot_has_ended_well() {
    let host = FakeHost::default();
    host.behave(&"migrate".parse().unwrap(), ends(20, 0));
    let migrate = ProcessSpec { oneshot: true, ..spec("migrate") };
    let agent = Agent::on(&host, &[migrate, after("web", "migrate")]);
    pass(19).await;
    assert_eq!(agent.state("migrate"), ProcessState::Starting);
    assert_eq!(host.starts().len(), 1);
    pass(3).await;
    assert_eq!(agent.state("migrate"), ProcessState::Exited);
    assert_eq!(agent.state("web"), ProcessState::Running);
    assert!(agent.row("migrate").ready && agent.row("migrate").is_well());
    // By hand again, and whoever asks hears how it ended.
    let before = time::Instant::now();
    assert_eq!(agent.start("migrate").await, Ok(()));
    assert!(before.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn dependents_of_a_one_shot_that_failed_are_held_and_say_why_until_it_succeeds() {
    let host = FakeHost::default();
    host.behave(&"migrate".parse().unwrap(), ends(2, 4));
    let migrate = ProcessSpec { oneshot: true, ..spec("migrate") };
    let specs = [migrate, after("api", "migrate"), after("web", "api"), spec("other")];
    let agent = Agent::on(&host, &specs);
    pass(60).await;
    assert_eq!(agent.state("migrate"), ProcessState::Fatal);
    assert!(!agent.row("migrate").is_well());
    // Four tries, as of any program that does not come up.
    assert_eq!(host.starts().len(), 5);
    let why = |name: &str| agent.row(name).error.unwrap_or_default();
    assert_eq!(why("api"), "waits for migrate, which failed: exit 4");
    assert_eq!(why("web"), "waits for api, which waits for migrate, which failed: exit 4");
    let target = vec![Target::Process("web".parse().unwrap())];
    agent.handle.stop(target).await.unwrap();
    let refused = agent.start("web").await.unwrap_err().to_string();
    assert_eq!(refused, "waits for api, which waits for migrate, which failed: exit 4");
    host.behave(&"migrate".parse().unwrap(), ends(2, 0));
    assert_eq!(agent.start("migrate").await, Ok(()));
    pass(5).await;
    assert_eq!(agent.state("web"), ProcessState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_that_must_not_be_tried_again_is_given_up_at_once() {
    let host = FakeHost::default();
    host.behave(&"once".parse().unwrap(), ends(2, 4));
    let once = ProcessSpec { oneshot: true, autorestart: AutoRestart::Never, ..spec("once") };
    let agent = Agent::on(&host, &[once]);
    pass(60).await;
    assert_eq!((agent.state("once"), host.starts().len()), (ProcessState::Fatal, 1));
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_that_is_done_is_not_run_again_by_the_next_agent() {
    let host = FakeHost::default();
    host.behave(&"migrate".parse().unwrap(), ends(2, 0));
    let specs = [ProcessSpec { oneshot: true, ..spec("migrate") }, after("web", "migrate")];
    let agent = Agent::on(&host, &specs);
    pass(10).await;
    drop(agent);
    pass(1).await;
    let agent = Agent::on(&host, &specs);
    pass(10).await;
    assert_eq!(host.starts().len(), 2);
    assert_eq!(agent.state("migrate"), ProcessState::Exited);
}
