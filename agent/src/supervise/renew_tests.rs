//! New settings of programs that are replaced with overlap, against a host in memory.

use std::time::Duration;

use palisade_types::ProcessStatus;

use crate::supervise::{
    ProcessSpec,
    task::tests::{Agent, pass, pids},
    testutil::{Behaviour, FakeHost, spec},
};

/// Five processes of one program.
fn five(release: &str) -> Vec<ProcessSpec> {
    let one = |n: usize| {
        let mut one = ProcessSpec { program: "web".parse().unwrap(), ..spec(&format!("web{n}")) };
        one.rolling.overlap = true;
        one.argv.push(release.to_owned());
        one
    };
    (0..5).map(one).collect()
}

fn rows(agent: &Agent) -> Vec<ProcessStatus> {
    agent.handle.status().borrow().clone()
}

#[tokio::test(start_paused = true)]
async fn of_one_program_one_process_is_replaced_after_the_other() {
    let host = FakeHost::default();
    let agent = Agent::on(&host, &five("a"));
    pass(2).await;
    let old = pids(&host);
    agent.update(&five("b")).await;
    let names = rows(&agent).into_iter().map(|r| r.name).collect();
    let handle = agent.handle.clone();
    let replaced = handle.replaced(names);
    tokio::pin!(replaced);
    let (mut most, mut said) = (0, None);
    for _ in 0..100 {
        let short = Duration::from_millis(100);
        match said {
            None => said = tokio::time::timeout(short, &mut replaced).await.ok(),
            Some(_) => tokio::time::sleep(short).await,
        }
        most = most.max(host.living().len());
    }
    assert!(said.unwrap().unwrap().iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!((most, host.living().len(), host.starts().len()), (6, 5, 10));
    assert!(pids(&host).iter().all(|pid| !old.contains(pid)));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_one_process_does_not_take_is_not_tried_on_its_siblings() {
    let host = FakeHost::default();
    let agent = Agent::on(&host, &five("a"));
    pass(2).await;
    let old = pids(&host);
    for n in 0..5 {
        let key = format!("web{n}~2").parse().unwrap();
        host.behave(&key, Behaviour::Ends(Duration::from_millis(300), 3));
    }
    agent.update(&five("b")).await;
    pass(30).await;
    assert_eq!((pids(&host), host.starts().len()), (old, 6));
    let errors: Vec<_> = rows(&agent).into_iter().map(|r| r.error.unwrap()).collect();
    assert!(errors.iter().all(|e| e.contains("the old one stays") && e.contains("exit 3")));
    let names = rows(&agent).into_iter().map(|r| r.name).collect();
    let said = agent.handle.replaced(names).await.unwrap();
    assert!(said.len() == 5 && said.iter().all(|(_, outcome)| outcome.is_err()), "{said:?}");
    assert!(errors[4].contains("not tried, as web0 could not"), "{errors:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn taking_a_bad_release_back_leaves_the_good_process_alone() {
    for wait in [Duration::from_millis(200), Duration::from_secs(5)] {
        let host = FakeHost::default();
        let agent = Agent::on(&host, &five("a"));
        pass(2).await;
        let good = pids(&host);
        let bad = Behaviour::Ends(Duration::from_millis(600), 3);
        host.behave(&"web0~2".parse().unwrap(), bad);
        agent.update(&five("b")).await;
        // In the middle of the try, and after it.
        tokio::time::sleep(wait).await;
        agent.update(&five("a")).await;
        pass(30).await;
        assert_eq!((pids(&host), host.starts().len()), (good, 6));
        assert!(rows(&agent).iter().all(|r| r.error.is_none()), "{:?}", rows(&agent));
        agent.stop().await;
    }
}
