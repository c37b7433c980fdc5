//! The systemd journal, from real journal files, to the service in memory.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use palisade_agent::{
    clock::{SystemClock, WallClock as _},
    logs::{Failure, Journald, Journals, Outcome, Settings},
    sys::{children::Children, journal::SystemJournal},
};

use crate::common::*;

/// A journal file in the making.
struct Writer {
    dir: PathBuf,
    /// Microseconds of the next entry.
    us: u64,
}

impl Writer {
    fn new(place: &Place) -> Self {
        let dir = journal_dir(place);
        fs::create_dir(&dir).unwrap();
        let now = u64::try_from(SystemClock.now().as_millis()).unwrap();
        Self { dir, us: now * 1000 - 60_000_000 }
    }

    /// Numbered lines of one unit after the other, in turns.
    fn lines(&mut self, units: &[&str], range: std::ops::Range<usize>) {
        let text = numbered(range);
        let entries: Vec<(&str, &str)> =
            text.lines().enumerate().map(|(i, l)| (units[i % units.len()], l)).collect();
        self.add(&entries);
    }

    #[expect(clippy::disallowed_methods, reason = "a test makes a journal with systemd's importer")]
    fn add(&mut self, entries: &[(&str, &str)]) {
        let mut text = String::new();
        for (unit, message) in entries {
            self.us += 1;
            text += &format!(
                "__REALTIME_TIMESTAMP={us}\n__MONOTONIC_TIMESTAMP={us}\n_BOOT_ID={:032x}\n_SYSTEMD_UNIT={unit}\nMESSAGE={message}\n\n",
                7,
                us = self.us
            );
        }
        let mut child = Command::new("/lib/systemd/systemd-journal-remote")
            .args(["-o", self.file().to_str().unwrap(), "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("systemd-journal-remote (cargo xtask setup): {e}"));
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn file(&self) -> PathBuf {
        self.dir.join("system.journal")
    }
}

fn journal_dir(place: &Place) -> PathBuf {
    place.dir.path().join("journal")
}

fn journals(dir: &Path, library: bool) -> Arc<dyn Journals> {
    let journal = SystemJournal::of_directory(dir, Children::default());
    Arc::new(if library { journal } else { journal.without_library() })
}

fn settings(place: &Place, units: &[&str]) -> Settings {
    let units = units.iter().map(|u| (*u).to_owned()).collect();
    Settings { journald: Some(Journald { units }), files: Vec::new(), ..place.settings("*") }
}

#[tokio::test]
async fn each_unit_is_a_stream_and_a_restart_goes_on_at_the_cursor() {
    for library in [true, false] {
        let (place, cloud) = (Place::new(), Cloud::default());
        let mut journal = Writer::new(&place);
        let units = ["ssh.service", "nginx.service", "a.timer"];
        let wanted = ["ssh.service", "nginx.service", "a.timer"];
        for round in 0..3 {
            let settings = settings(&place, if round == 2 { &[] } else { &wanted });
            let agent =
                Agent::start_with_journal(settings, &cloud, journals(&journal.dir, library)).await;
            journal.lines(&units, round * 300..round * 300 + 150);
            wait_until("what is written live", || cloud.lines().len() >= round * 300 + 150).await;
            agent.stop().await;
            journal.lines(&units, round * 300 + 150..round * 300 + 300);
        }
        journal.add(&[("palisade.service", "the agent's own line")]);
        let agent = Agent::start_with_journal(
            settings(&place, &[]),
            &cloud,
            journals(&journal.dir, library),
        )
        .await;
        wait_until("the rest", || cloud.lines().len() >= 900).await;
        journal.add(&[("z.service", "last")]);
        wait_until("the last line", || cloud.lines().len() >= 901).await;
        agent.stop().await;
        let streams =
            ["/t/journal h/a.timer", "/t/journal h/nginx", "/t/journal h/ssh", "/t/journal h/z"];
        assert_eq!(cloud.streams(), streams);
        let mut lines = cloud.lines();
        assert_eq!(lines.pop().unwrap(), "last");
        assert_eq!(lost_and_doubled(&lines, 900), (0, 0), "library: {library}");
        assert!(lines.chunks(300).all(<[String]>::is_sorted), "in the journal's order");
    }
}

#[tokio::test]
async fn a_unit_that_cannot_be_delivered_holds_back_only_its_own_and_nothing_comes_twice_after_a_kill()
 {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut journal = Writer::new(&place);
    let units = ["ssh.service", "nginx.service"];
    // Even numbers are of the one unit, odd ones of the other, which is refused.
    cloud.answer(|lines| {
        let odd = lines[0].get(6..7).is_some_and(|d| "13579".contains(d));
        odd.then(|| Outcome::Failed(Failure::Unavailable("away".to_owned())))
    });
    journal.lines(&units, 0..1000);
    for delivered in [500, 0] {
        let agent =
            Agent::start_with_journal(settings(&place, &[]), &cloud, journals(&journal.dir, true))
                .await;
        wait_until("the half that can be", || cloud.lines().len() >= 500).await;
        wait_until("the other to be tried", || {
            let status = agent.handle.status();
            status.delivered_events >= delivered
                && status.sources.iter().any(|s| s.last_error.is_some())
        })
        .await;
        agent.kill().await;
    }
    cloud.heal();
    let agent =
        Agent::start_with_journal(settings(&place, &[]), &cloud, journals(&journal.dir, true))
            .await;
    wait_until("all", || cloud.lines().len() >= 1000).await;
    journal.lines(&units, 1000..1002);
    wait_until("what came later", || cloud.lines().len() >= 1002).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), 1002), (0, 0));
}

#[tokio::test]
async fn a_vacuumed_journal_is_told_in_the_streams() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut journal = Writer::new(&place);
    journal.lines(&["ssh.service"], 0..10);
    let agent =
        Agent::start_with_journal(settings(&place, &[]), &cloud, journals(&journal.dir, true))
            .await;
    wait_until("the first lines", || cloud.lines().len() >= 10).await;
    agent.stop().await;
    journal.lines(&["ssh.service"], 10..20);
    fs::remove_file(journal.file()).unwrap();
    journal.lines(&["ssh.service"], 20..30);
    let agent =
        Agent::start_with_journal(settings(&place, &[]), &cloud, journals(&journal.dir, true))
            .await;
    wait_until("the later lines", || cloud.lines().len() >= 21).await;
    wait_until("the status to say so", || {
        let incidents = agent.handle.status().incidents;
        incidents.iter().any(|i| i.contains("the journal does not have"))
    })
    .await;
    agent.stop().await;
    let lines = cloud.lines();
    assert!(lines[10].starts_with("[palisade] the journal does not have"), "{lines:?}");
    assert!(lines[11].starts_with("0000020"), "{lines:?}");
}

#[tokio::test]
async fn while_nothing_is_delivered_reading_stops_and_the_journal_keeps_the_rest() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut journal = Writer::new(&place);
    down(&cloud);
    // About 12 MB: more than may wait in memory.
    let long = "x".repeat(60_000);
    let entries: Vec<(&str, &str)> = vec![("a.service", &long); 200];
    journal.add(&entries);
    let agent =
        Agent::start_with_journal(settings(&place, &[]), &cloud, journals(&journal.dir, true))
            .await;
    let backlog = || agent.handle.status().backlog_bytes();
    wait_until("the window to fill", || backlog() >= 4 << 20).await;
    // What was taken at once with the last one may come on top.
    let most = backlog();
    assert!(most < (4 << 20) + 33 * 60_000, "{most}");
    cloud.heal();
    wait_until("all", || cloud.lines().len() >= 200).await;
    agent.stop().await;
}

/// A line of its own for each of some units that come once.
fn once(range: std::ops::Range<usize>) -> Vec<(String, String)> {
    let lines: Vec<String> = numbered(range.clone()).lines().map(str::to_owned).collect();
    range.zip(lines).map(|(i, line)| (format!("run-r{i}.service"), line)).collect()
}

fn add(journal: &mut Writer, entries: &[(String, String)]) {
    let entries: Vec<(&str, &str)> =
        entries.iter().map(|(unit, line)| (unit.as_str(), line.as_str())).collect();
    journal.add(&entries);
}

#[tokio::test]
async fn units_that_came_and_went_take_no_stream_from_those_that_come() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut journal = Writer::new(&place);
    let start = || {
        Agent::start_with_journal(
            settings(&place, &[]),
            &cloud,
            journals(&journal_dir(&place), true),
        )
    };
    let mut agent = start().await;
    for fifty in 0..5 {
        let range = fifty * 50..fifty * 50 + 50;
        add(&mut journal, &once(range.clone()));
        wait_until("what came once", || cloud.lines().len() >= range.end).await;
        agent.flush().await;
    }
    let mut next = 250;
    // The second agent goes on after a stop, the third after a kill.
    for round in 0..3 {
        // Units without a lane, the first of which had one before.
        for unit in ["nginx.service", "run-r0.service", &format!("late-{round}.service")] {
            let line = numbered(next..next + 1);
            journal.add(&[(unit, line.trim_end())]);
            next += 1;
            wait_until("the line", || cloud.lines().len() >= next).await;
            agent.flush().await;
        }
        if round == 0 {
            agent.stop().await;
        } else {
            agent.kill().await;
        }
        agent = start().await;
    }
    journal.lines(&["last.service"], next..next + 1);
    wait_until("the last line", || cloud.lines().len() > next).await;
    agent.stop().await;
    assert_eq!(lost_and_doubled(&cloud.lines(), next + 1), (0, 0));
    let streams = cloud.streams();
    assert!(streams.contains(&"/t/journal h/nginx".to_owned()), "{streams:?}");
    // One for each unit, and none for what found no room.
    assert_eq!(streams.len(), 250 + 1 + 3 + 1, "{streams:?}");
    assert!(!streams.contains(&"/t/journal h/other".to_owned()));
}

#[tokio::test]
async fn a_unit_that_is_ahead_of_the_cursor_keeps_its_place_and_nothing_comes_twice() {
    let (place, cloud) = (Place::new(), Cloud::default());
    let mut journal = Writer::new(&place);
    let deny = || {
        cloud.answer(|lines| {
            let slow = lines.iter().any(|l| l == "slow");
            slow.then(|| Outcome::Failed(Failure::Denied("not yet".to_owned())))
        });
    };
    deny();
    let start = || {
        Agent::start_with_journal(
            settings(&place, &[]),
            &cloud,
            journals(&journal_dir(&place), true),
        )
    };
    let agent = start().await;
    // The cursor stays before the first entry; the others are all delivered.
    journal.add(&[("slow.service", "slow")]);
    add(&mut journal, &once(0..199));
    let delivered = |agent: &Agent, n| agent.handle.status().delivered_events >= n;
    wait_until("all but the slow one", || delivered(&agent, 199)).await;
    add(&mut journal, &once(199..200));
    wait_until("the one that finds no room", || delivered(&agent, 200)).await;
    agent.handle.stop(std::time::Duration::from_millis(300)).await;
    agent.kill().await;
    let agent = start().await;
    wait_until("the slow one to be tried again", || {
        agent.handle.status().sources.iter().any(|s| s.last_error.is_some())
    })
    .await;
    add(&mut journal, &once(200..201));
    wait_until("what came later", || cloud.lines().len() >= 201).await;
    cloud.heal();
    wait_until("the slow one", || cloud.lines().len() >= 202).await;
    agent.stop().await;
    let mut lines = cloud.lines();
    lines.retain(|l| l != "slow");
    for line in &mut lines {
        // What is in a stream that is shared.
        if let Some((_, text)) = line.split_once(": ") {
            *line = text.to_owned();
        }
    }
    assert_eq!(lost_and_doubled(&lines, 201), (0, 0));
}
