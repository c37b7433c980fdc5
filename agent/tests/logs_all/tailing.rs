//! Followed files through everything that rotation does to them, live and while no agent runs.

use std::{fs, io::Write as _, time::Duration};

use crate::common::*;

/// Renames `app.log.N` to `app.log.N+1` and `app.log` to `app.log.1`.
fn shift(place: &Place) {
    for n in (1..20).rev() {
        let from = place.log(&format!("app.log.{n}"));
        if from.exists() {
            fs::rename(from, place.log(&format!("app.log.{}", n + 1))).unwrap();
        }
    }
}

fn rotate_by_rename(place: &Place) {
    shift(place);
    fs::rename(place.log("app.log"), place.log("app.log.1")).unwrap();
    fs::File::create(place.log("app.log")).unwrap();
}

fn rotate_by_copy(place: &Place) {
    shift(place);
    fs::copy(place.log("app.log"), place.log("app.log.1")).unwrap();
    fs::OpenOptions::new().write(true).open(place.log("app.log")).unwrap().set_len(0).unwrap();
}

#[tokio::test]
async fn eight_renames_under_a_live_agent() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        for round in 0..8 {
            write(&place.log("app.log"), &numbered(round * 500..round * 500 + 400));
            rotate_by_rename(&place);
            // A writer that has not reopened yet.
            write(&place.log("app.log.1"), &numbered(round * 500 + 400..round * 500 + 500));
            wait_until("most of the round", || cloud.lines().len() >= round * 500).await;
        }
        wait_until("all lines", || cloud.lines().len() >= 4000).await;
        agent.stop().await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 4000), (0, 0), "{pattern}");
        assert_eq!(cloud.streams().len(), 1, "{:?}", cloud.streams());
    }
}

#[tokio::test]
async fn eight_renames_while_no_agent_runs() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        write(&place.log("app.log"), &numbered(0..300));
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        agent.flush().await;
        agent.stop().await;
        assert_eq!(cloud.lines().len(), 300);
        for round in 1..9 {
            write(&place.log("app.log"), &numbered(round * 300..round * 300 + 300));
            rotate_by_rename(&place);
        }
        write(&place.log("app.log"), &numbered(2700..3000));
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        wait_until("all lines", || cloud.lines().len() >= 3000).await;
        agent.stop().await;
        let lines = cloud.lines();
        assert_eq!(lost_and_doubled(&lines, 3000), (0, 0), "{pattern}");
        assert!(lines.is_sorted(), "the oldest file comes first");
        // And once more: what is finished stays finished.
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        agent.flush().await;
        agent.stop().await;
        assert_eq!(cloud.lines().len(), 3000, "{pattern}");
    }
}

#[tokio::test]
async fn copies_that_are_emptied_under_a_live_agent() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        for round in 0..4 {
            write(&place.log("app.log"), &numbered(round * 500..round * 500 + 250));
            // Sometimes the agent has read it by then and sometimes not.
            if round % 2 == 0 {
                agent.flush().await;
            }
            write(&place.log("app.log"), &numbered(round * 500 + 250..round * 500 + 500));
            rotate_by_copy(&place);
            agent.flush().await;
        }
        wait_until("all lines", || cloud.lines().len() >= 2000).await;
        agent.stop().await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 2000), (0, 0), "{pattern}");
    }
}

#[tokio::test]
async fn copies_that_are_emptied_while_no_agent_runs() {
    for pattern in ["app.log", "app.log*"] {
        let (place, cloud) = (Place::new(), Cloud::default());
        write(&place.log("app.log"), &numbered(0..300));
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        agent.flush().await;
        agent.stop().await;
        for round in 1..4 {
            write(&place.log("app.log"), &numbered(round * 300..round * 300 + 300));
            rotate_by_copy(&place);
        }
        // Longer than before: by size alone nobody would notice.
        write(&place.log("app.log"), &numbered(1200..2000));
        let agent = Agent::start(place.settings(pattern), &cloud).await;
        wait_until("all lines", || cloud.lines().len() >= 2000).await;
        agent.stop().await;
        assert_eq!(lost_and_doubled(&cloud.lines(), 2000), (0, 0), "{pattern}");
    }
}

#[tokio::test]
async fn a_file_emptied_without_a_copy_is_told_and_followed_on() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..100));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&path, &numbered(100..150));
    wait_until("the new lines", || cloud.lines().iter().any(|l| l.starts_with("0000149"))).await;
    wait_until("the incident to be told", || {
        agent.handle.status().incidents.iter().any(|i| i.contains("was emptied"))
    })
    .await;
    let told = || cloud.lines().iter().filter(|l| l.starts_with("[palisade] ")).count();
    wait_until("the stream to be told", || told() == 1).await;
    agent.stop().await;
    // And what is gone with its file while no agent runs.
    fs::remove_file(&path).unwrap();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("the stream to be told again", || told() == 2).await;
    agent.stop().await;
    let mut lines = cloud.lines();
    lines.retain(|l| !l.starts_with("[palisade] "));
    assert_eq!(lost_and_doubled(&lines, 150), (0, 0));
}

/// What is in the file now is a lane's of its own, and stays it when the one before comes back too.
#[tokio::test]
async fn a_file_emptied_during_an_outage_and_a_restart_is_read_by_one_lane() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..100));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    down(&cloud);
    write(&path, &numbered(100..120));
    wait_until("the read", || agent.handle.status().backlog_bytes() > 0).await;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&path, &numbered(120..130));
    let told = || agent.handle.status().incidents.iter().any(|i| i.contains("was emptied"));
    wait_until("the incident", told).await;
    // Both lanes are in the checkpoint of a planned end.
    agent.stop().await;
    cloud.heal();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    write(&path, &numbered(130..150));
    wait_until("the last line", || cloud.lines().iter().any(|l| l.starts_with("0000149"))).await;
    agent.flush().await;
    agent.stop().await;
    let lines = cloud.lines();
    for n in (0..100).chain(120..150) {
        let line = numbered(n..n + 1);
        let times = lines.iter().filter(|l| **l == line.trim_end()).count();
        assert_eq!(times, 1, "{line}");
    }
}

/// A file that is removed under a program that goes on writing, now and then.
#[tokio::test]
async fn a_file_without_a_name_is_read_as_long_as_it_is_written_to() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..10));
    let mut writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    fs::remove_file(&path).unwrap();
    // Longer than a rotated file is waited for.
    tokio::time::sleep(Duration::from_secs(8)).await;
    writer.write_all(numbered(10..20).as_bytes()).unwrap();
    wait_until("what came late", || cloud.lines().len() >= 20).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 20), (0, 0));
}

#[tokio::test]
async fn a_file_that_is_taken_out_of_the_settings_is_followed_no_more_until_it_comes_back() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..10));
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    agent.handle.reload(place.settings("*.other")).await.unwrap();
    agent.flush().await;
    write(&path, &numbered(10..20));
    agent.flush().await;
    assert_eq!(cloud.lines().len(), 10);
    agent.stop().await;
    let agent = Agent::start(place.settings("*.other"), &cloud).await;
    agent.flush().await;
    assert_eq!(cloud.lines().len(), 10);
    agent.handle.reload(place.settings("*.log")).await.unwrap();
    wait_until("what came meanwhile", || cloud.lines().len() >= 20).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 20), (0, 0));
}

#[tokio::test]
async fn half_a_line_waits_for_the_other_half() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, "one\ntw");
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    agent.flush().await;
    assert_eq!(cloud.lines(), ["one"]);
    write(&path, "o\n");
    wait_until("the whole line", || cloud.lines().len() == 2).await;
    write(&path, "last words");
    fs::rename(&path, place.log("app.log.1")).unwrap();
    wait_until("the line that nobody will end", || cloud.lines().len() == 3).await;
    assert_eq!(cloud.lines(), ["one", "two", "last words"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_file_that_is_removed_is_read_to_its_end_first() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let path = place.log("app.log");
    write(&path, &numbered(0..10));
    let mut settings = place.settings("*.log");
    settings.flush_every = std::time::Duration::from_secs(3);
    let agent = Agent::start(settings, &cloud).await;
    wait_until("the file to be known", || !agent.handle.status().sources.is_empty()).await;
    write(&path, &numbered(10..5000));
    fs::remove_file(&path).unwrap();
    wait_until("all lines", || cloud.lines().len() >= 5000).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 5000), (0, 0));
}

#[tokio::test]
async fn files_that_begin_alike_are_two_files() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let banner = "=".repeat(2000) + "\n";
    write(&place.log("a.log"), &(banner.clone() + "a\n"));
    write(&place.log("a.log.1"), &(banner.clone() + "older\n"));
    write(&place.log("b.log"), &(banner + "b\n"));
    let agent = Agent::start(place.settings("*"), &cloud).await;
    agent.flush().await;
    agent.stop().await;
    let mut lines = cloud.lines();
    lines.retain(|l| !l.starts_with('='));
    lines.sort();
    assert_eq!(lines, ["a", "b", "older"]);
}
