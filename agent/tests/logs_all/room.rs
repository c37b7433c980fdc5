//! Who cannot be delivered takes no room from those who can.

use std::fs;

use crate::common::*;
use palisade_agent::logs::{Failure, Outcome};

/// Lines that tell of something secret may not be sent.
fn deny_secrets(cloud: &Cloud) {
    cloud.answer(|lines| {
        let denied = lines.iter().any(|l| l.contains("secret"));
        denied.then(|| Outcome::Failed(Failure::Denied("no logs:PutLogEvents".to_owned())))
    });
}

/// Files whose lines may not be sent, `lines` in each; returns once each was tried.
async fn denied_files(place: &Place, cloud: &Cloud, files: usize, lines: usize) -> Agent {
    deny_secrets(cloud);
    for i in 0..files {
        write(&place.log(&format!("secret_{i}.log")), &"a secret\n".repeat(lines));
    }
    let agent = Agent::start(place.settings("*.log"), cloud).await;
    wait_until("each to be tried", || {
        let sources = agent.handle.status().sources;
        sources.iter().filter(|s| s.last_error.is_some()).count() == files
    })
    .await;
    agent
}

async fn empty_all(place: &Place, agent: &Agent, files: usize) {
    for i in 0..files {
        fs::File::create(place.log(&format!("secret_{i}.log"))).unwrap();
    }
    wait_until("all to be told of", || {
        let incidents = agent.handle.status().incidents;
        incidents.iter().filter(|i| i.contains("was emptied")).count() == files
    })
    .await;
}

fn last_words(cloud: &Cloud) -> usize {
    cloud.lines().iter().filter(|l| l.contains("was emptied and no copy of it")).count()
}

#[tokio::test]
async fn files_that_are_emptied_before_they_could_be_delivered_hold_up_nobody_else() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let agent = denied_files(&place, &cloud, 8, 10).await;
    empty_all(&place, &agent, 8).await;
    agent.handle.append(&source("w"), numbered(0..10).as_bytes()).await.unwrap();
    wait_until("the program's lines", || cloud.lines().len() >= 10).await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 10), (0, 0));
    // What each stream is to be told last waits for the service, and is said once.
    cloud.heal();
    wait_until("the last words", || last_words(&cloud) >= 8).await;
    agent.stop().await;
    assert_eq!(last_words(&cloud), 8);
}

#[tokio::test]
async fn of_what_cannot_be_read_again_only_so_much_waits_and_the_rest_is_put_aside() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let agent = denied_files(&place, &cloud, 6, 10).await;
    empty_all(&place, &agent, 6).await;
    wait_until("two to be put aside", || agent.handle.status().dead_lettered_events >= 20).await;
    let told = agent.handle.status().incidents;
    let aside = told.iter().filter(|i| i.contains("10 events were put aside as dead letters"));
    assert_eq!(aside.count(), 2, "{told:?}");
    cloud.heal();
    wait_until("the last words", || last_words(&cloud) >= 6).await;
    agent.stop().await;
    let lines = cloud.lines();
    assert_eq!(lines.iter().filter(|l| *l == "a secret").count(), 40);
    let aside = lines.iter().filter(|l| l.contains("10 events were put aside as dead letters"));
    assert_eq!(aside.count(), 2, "{lines:?}");
    let dead = fs::read_to_string(place.state().join("dead-letter.ndjson")).unwrap();
    assert_eq!(dead.lines().count(), 20);
}

#[tokio::test]
async fn lanes_that_no_checkpoint_knows_yet_take_no_room_from_those_it_knows() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.handle.append(&source("old"), numbered(0..10).as_bytes()).await.unwrap();
    wait_until("the first lines", || cloud.lines().len() >= 10).await;
    // From now on no checkpoint can be written.
    let new = place.state().join("checkpoint.new");
    wait_until("no checkpoint to be half written", || fs::create_dir(&new).is_ok()).await;
    for i in 0..8 {
        agent.handle.append(&source(&format!("new_{i}")), b"new\n").await.unwrap();
    }
    wait_until("the trouble to be told", || {
        let status = agent.handle.status();
        status.incidents.iter().any(|i| i.contains("write the checkpoint"))
            && status.sources.len() >= 9
    })
    .await;
    agent.handle.append(&source("old"), numbered(10..20).as_bytes()).await.unwrap();
    wait_until("what came later", || cloud.lines().len() >= 20).await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 20), (0, 0));
    fs::remove_dir(&new).unwrap();
    wait_until("the others", || cloud.lines().len() >= 28).await;
    agent.stop().await;
    assert_eq!(cloud.lines().len(), 28);
}
