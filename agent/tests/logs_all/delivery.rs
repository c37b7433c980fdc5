//! What arrives when the service or the agent fails.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::*;
use palisade_agent::logs::{Failure, HandleError, Outcome, Refused};

fn fail_each(nth: usize, why: Failure) -> impl FnMut(&[String]) -> Option<Outcome> + Send {
    let mut n = 0;
    move |_| {
        n += 1;
        (n % nth == 0).then(|| Outcome::Failed(why.clone()))
    }
}

#[tokio::test]
async fn files_and_programs_arrive_once_also_over_a_planned_restart() {
    let (place, cloud) = (Place::new(), Cloud::default());
    for round in 0..3 {
        let agent = Agent::start(place.settings("*.log"), &cloud).await;
        let base = round * 400;
        write(&place.log("a.log"), &numbered(base..base + 200));
        let chunk = numbered(base + 200..base + 400);
        agent.handle.append(&source("web_1"), chunk.as_bytes()).await.unwrap();
        if round == 1 {
            agent.flush().await;
        }
        agent.stop().await;
    }
    assert_eq!(lost_and_doubled(&cloud.lines(), 1200), (0, 0));
    assert_eq!(
        cloud.streams(),
        [format!("/t/files h/{}", place.log("a.log").display()), "/t/web h/web_1".to_owned()]
    );
    assert_eq!(cloud.retention(), [Some(30), Some(30)]);
}

/// The figures are published once a second, but nobody is told of a backlog that is gone.
#[tokio::test]
async fn after_a_flush_the_status_says_what_it_did() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    for round in 1..=3_u64 {
        let lines = numbered(0..100);
        agent.handle.append(&source("web_1"), lines.as_bytes()).await.unwrap();
        agent.flush().await;
        let status = agent.handle.status();
        assert_eq!((status.delivered_events, status.backlog_bytes()), (round * 100, 0));
    }
    agent.stop().await;
}

#[tokio::test]
async fn throttling_and_refusals_lose_and_double_nothing() {
    for why in [Failure::Throttled, Failure::Unavailable("500".to_owned())] {
        let (place, cloud) = (Place::new(), Cloud::default());
        cloud.answer(fail_each(2, why));
        write(&place.log("a.log"), &numbered(0..60_000));
        let agent = Agent::start(place.settings("*.log"), &cloud).await;
        agent.handle.append(&source("w"), numbered(60_000..60_100).as_bytes()).await.unwrap();
        agent.flush().await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 60_100), (0, 0));
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_stream_is_made_again() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("a.log"), &numbered(0..100));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    let mut lines = cloud.forget_streams();
    write(&place.log("a.log"), &numbered(100..200));
    agent.flush().await;
    agent.stop().await;
    lines.extend(cloud.lines());
    assert_eq!(lost_and_doubled(&lines, 200), (0, 0));
}

#[tokio::test]
async fn only_the_poisonous_event_is_put_aside() {
    let (place, cloud) = (Place::new(), Cloud::default());
    cloud.answer(|lines| {
        let bad = lines.iter().any(|l| l.contains("0000137") || l.contains("0000900"));
        bad.then(|| Outcome::Failed(Failure::Invalid("poison".to_owned())))
    });
    write(&place.log("a.log"), &numbered(0..1000));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    let status = agent.handle.status();
    assert_eq!(lost_and_doubled(&cloud.lines(), 1000), (2, 0));
    wait_until("the count", || agent.handle.status().dead_lettered_events == 2).await;
    assert_eq!(status.dropped_lines, 0);
    let dead = fs::read_to_string(place.state().join("dead-letter.ndjson")).unwrap();
    assert_eq!(dead.lines().count(), 2);
    assert!(dead.contains("0000137") && dead.contains("poison"), "{dead}");
    agent.stop().await;
}

#[tokio::test]
async fn a_service_that_takes_nothing_at_all_does_not_empty_the_lane_into_dead_letters() {
    let (place, cloud) = (Place::new(), Cloud::default());
    cloud.answer(|_| Some(Outcome::Failed(Failure::Invalid("bad group name".to_owned()))));
    write(&place.log("a.log"), &numbered(0..1000));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("the trouble to be told, and as many as it takes to be put aside", || {
        let status = agent.handle.status();
        status.degraded.is_some() && status.dead_lettered_events >= 16
    })
    .await;
    assert_eq!(agent.handle.status().dead_lettered_events, 16);
    agent.kill().await;
    cloud.heal();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 1000), (16, 0));
}

#[tokio::test]
async fn events_left_out_for_their_time_are_put_aside_and_not_sent_again() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut first = true;
    cloud.answer(move |_| {
        let refused = Refused { too_old_end: Some(3), expired_end: None, too_new_start: Some(98) };
        std::mem::take(&mut first).then_some(Outcome::AcceptedBut(refused))
    });
    write(&place.log("a.log"), &numbered(0..100));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    let dead = fs::read_to_string(place.state().join("dead-letter.ndjson")).unwrap();
    assert_eq!(dead.lines().count(), 5);
    // The twin took nothing of it; what matters is that nothing was sent again.
    assert!(cloud.lines().is_empty());
}

#[tokio::test]
async fn while_dead_letters_cannot_be_written_only_they_are_sent_again() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    cloud.answer(move |lines| {
        seen.lock().unwrap().push(lines.len());
        let refused = |too_old_end, too_new_start| {
            Some(Outcome::AcceptedBut(Refused { too_old_end, expired_end: None, too_new_start }))
        };
        match lines.len() {
            100 => refused(Some(3), Some(98)),
            3 => refused(Some(3), None),
            _ => refused(None, Some(0)),
        }
    });
    let dead = place.state().join("dead-letter.ndjson");
    fs::create_dir_all(&dead).unwrap();
    write(&place.log("a.log"), &numbered(0..100));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("a second try", || sizes.lock().unwrap().len() >= 2).await;
    fs::remove_dir(&dead).unwrap();
    agent.flush().await;
    agent.stop().await;
    assert_eq!(fs::read_to_string(&dead).unwrap().lines().count(), 5);
    let sizes = sizes.lock().unwrap();
    assert!(sizes[0] == 100 && sizes[1..].iter().all(|n| *n <= 3), "{sizes:?}");
}

#[tokio::test]
async fn what_may_not_be_sent_is_kept_and_told_and_holds_up_nobody_else() {
    let (place, cloud) = (Place::new(), Cloud::default());
    cloud.answer(|lines| {
        let denied = lines.iter().any(|l| l.starts_with("secret"));
        denied.then(|| Outcome::Failed(Failure::Denied("no logs:PutLogEvents".to_owned())))
    });
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    for i in 0..20 {
        agent.handle.append(&source(&format!("bad_{i}")), b"secret\n").await.unwrap();
    }
    wait_until("the trouble to be told", || agent.handle.status().degraded.is_some()).await;
    for i in 0..5 {
        let lines = numbered(i * 10..i * 10 + 10);
        agent.handle.append(&source(&format!("good_{i}")), lines.as_bytes()).await.unwrap();
    }
    wait_until("the good lines", || cloud.lines().len() >= 50).await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 50), (0, 0));
    assert!(cloud.most_on_their_way() <= 4);
    let late = agent.handle.flush(Duration::from_millis(50)).await;
    assert!(matches!(late, Err(HandleError::Late { .. })));
    cloud.heal();
    agent.kill().await;
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("the rest", || cloud.lines().len() >= 70).await;
    agent.stop().await;
    assert_eq!(cloud.lines().len(), 70);
}

#[tokio::test]
async fn sudden_deaths_lose_nothing_and_double_little() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("a.log"), &numbered(0..100_000));
    for round in 0..5 {
        let agent = Agent::start(place.settings("*.log"), &cloud).await;
        let base = 100_000 + round * 1000;
        let chunk = numbered(base..base + 1000);
        agent.handle.append(&source("w"), chunk.as_bytes()).await.unwrap();
        let before = cloud.puts();
        wait_until("some puts", || cloud.puts() > before + round % 3).await;
        agent.kill().await;
    }
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    let (lost, doubled) = lost_and_doubled(&cloud.lines(), 105_000);
    assert_eq!(lost, 0);
    // At most what was on its way: a request of each of the two lanes per death.
    assert!(doubled <= 5 * 2 * 20_000, "{doubled}");
}

#[tokio::test]
async fn a_stop_during_an_outage_keeps_everything_for_the_next_agent() {
    let (place, cloud) = (Place::new(), Cloud::default());
    cloud.answer(|_| Some(Outcome::Failed(Failure::Unavailable("down".to_owned()))));
    write(&place.log("a.log"), &numbered(0..1000));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.handle.append(&source("w"), numbered(1000..1100).as_bytes()).await.unwrap();
    wait_until("a first try", || cloud.puts() > 0).await;
    agent.handle.stop(Duration::from_millis(300)).await;
    // Safe also after the end.
    agent.handle.append(&source("w"), numbered(1100..1200).as_bytes()).await.unwrap();
    agent.kill().await;
    cloud.heal();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 1200), (0, 0));
}

#[tokio::test]
async fn a_full_spool_waits_until_the_service_takes_lines_again() {
    let (place, cloud) = (Place::new(), Cloud::default());
    cloud.answer(|_| Some(Outcome::Failed(Failure::Throttled)));
    let mut settings = place.settings("*.log");
    settings.spool.max = palisade_types::ByteSize::mib(2);
    let agent = Agent::start(settings, &cloud).await;
    let chunk = |i: usize| numbered(i * 1000..i * 1000 + 1000);
    let mut sent = 0;
    while agent.handle.try_append(&source("w"), chunk(sent).as_bytes()).unwrap() {
        sent += 1;
    }
    assert!(agent.handle.status().spool_bytes <= 2 << 20);
    let waiting = {
        let handle = agent.handle.clone();
        let text = chunk(sent);
        async move { handle.append(&source("w"), text.as_bytes()).await }
    };
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "there was no room");
    let told = agent.handle.status().degraded.unwrap_or_default();
    assert!(told.starts_with("programs wait when they print: the spool holds the 2MiB"), "{told}");
    cloud.heal();
    waiting.await.unwrap();
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), (sent + 1) * 1000), (0, 0));
}

#[tokio::test]
async fn the_local_sink_has_each_line_once_whenever_the_agent_dies() {
    let place = Place::new();
    let total = 40_000;
    write(&place.log("a.log"), &numbered(0..total - 5000));
    let output = |name: &str| {
        let text = fs::read_to_string(place.state().join("local").join(name)).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        lines.map(|v: serde_json::Value| v["message"].as_str().unwrap().to_owned()).collect()
    };
    let all = || -> Vec<String> {
        let (mut a, b): (Vec<String>, Vec<String>) =
            (output("_t_files.ndjson"), output("_t_web.ndjson"));
        a.extend(b);
        a
    };
    for round in 0..5 {
        let agent = Agent::start_local(place.settings("*.log")).await;
        let base = total - 5000 + round * 1000;
        let chunk = numbered(base..base + 1000);
        agent.handle.append(&source("w"), chunk.as_bytes()).await.unwrap();
        let before = all().len();
        wait_until("some output", || all().len() > before).await;
        agent.kill().await;
    }
    let agent = Agent::start_local(place.settings("*.log")).await;
    agent.flush().await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&all(), total), (0, 0));
}
