//! What becomes of a process whose word that it is ready may have been lost with an agent.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_types::ProcessState;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{SetClock, Timestamp},
    supervise::{
        Cgroup, FdStore, Inherited, NotifyFrom, ProcessSpec, Ready, Settings, Wiring, start,
        task::tests::{Agent, pass, pids},
        testutil::{FakeHost, NoSink, spec},
    },
    task::Scope,
};

/// `web`, which never says anything here.
fn web() -> ProcessSpec {
    let timeout = Duration::from_secs(8);
    ProcessSpec { ready: Ready::Notify { from: NotifyFrom::Any, timeout }, ..spec("web") }
}

async fn starting_and_adopted(host: &FakeHost, spec: &ProcessSpec) -> Agent {
    let agent = Agent::on(host, std::slice::from_ref(spec));
    pass(1).await;
    agent.crash().await;
    Agent::on(host, std::slice::from_ref(spec))
}

#[tokio::test(start_paused = true)]
async fn one_whose_word_may_be_lost_is_not_stopped_for_want_of_it() {
    let host = FakeHost::default();
    let agent = starting_and_adopted(&host, &web()).await;
    pass(6).await;
    assert_eq!(agent.states(), [ProcessState::Starting]);
    pass(4).await;
    assert_eq!((agent.states(), host.starts().len()), (vec![ProcessState::Running], 1));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_would_have_been_heard_is_stopped_if_it_said_nothing_in_time() {
    let host = FakeHost::default();
    host.keep_notices(true);
    let agent = starting_and_adopted(&host, &web()).await;
    pass(10).await;
    assert_eq!(host.starts().len(), 2);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_whose_word_may_be_lost_is_tried_once_more() {
    let host = FakeHost::default();
    let mut old = spec("web");
    old.rolling.overlap = true;
    let agent = Agent::on(&host, std::slice::from_ref(&old));
    pass(2).await;
    let first = pids(&host);
    let new = ProcessSpec { argv: vec!["/bin/new".to_owned()], ..web() };
    let new = ProcessSpec { rolling: old.rolling, ..new };
    agent.update(std::slice::from_ref(&new)).await;
    pass(1).await;
    agent.crash().await;
    let agent = Agent::on(&host, std::slice::from_ref(&new));
    pass(60).await;
    assert_eq!((pids(&host), host.starts().len()), (first, 3));
    let error = agent.handle.status().borrow()[0].error.clone().unwrap();
    assert!(error.contains("not ready in time"), "{error}");
    agent.stop().await;
}

/// Notes what it is asked to keep, and forgets what it is asked to forget.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl FdStore for Kept {
    fn store(&self, name: &str, _: BorrowedFd<'_>) -> io::Result<()> {
        self.0.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().retain(|n| n != name);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_socket_of_notices_is_kept_by_the_service_manager_until_all_is_stopped() {
    let (host, store) = (FakeHost::default(), Kept::default());
    let mut scope = Scope::new(&CancellationToken::new());
    let settings = Settings {
        run_dir: "/run/x".into(),
        log_dir: "/log".into(),
        cgroup: Cgroup::Off,
        processes: vec![web()],
    };
    let wiring = Wiring {
        host,
        sink: NoSink,
        store: store.clone(),
        clock: SetClock::at(Timestamp::from_secs(1_000_000)),
        inherited: Inherited::new(),
    };
    let handle = start(&mut scope, settings, wiring).unwrap();
    assert_eq!(*store.0.lock().unwrap(), ["notify"]);
    handle.shut_down(Duration::from_secs(60)).await.unwrap();
    assert!(store.0.lock().unwrap().is_empty());
}
