use std::sync::Mutex;

use palisade_types::{ProcessName, control::Outcome};
use ratatui::backend::TestBackend;

use super::*;
use crate::{
    Act, Output, Snapshot,
    input::Key,
    testing::{NOW, snapshot},
};

/// An agent that answers, or does not, and does what it is asked after a second.
#[derive(Clone, Debug, Default)]
struct FakeAgent {
    is_away: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(Act, ProcessName)>>>,
    looks: Arc<Mutex<u32>>,
}

impl Agent for FakeAgent {
    async fn snapshot(&self) -> Result<Snapshot, String> {
        *self.looks.lock().unwrap() += 1;
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_away.load(Ordering::Relaxed) {
            return Err("connection refused".to_owned());
        }
        Ok(snapshot())
    }

    async fn act(&self, act: Act, on: ProcessName) -> Result<Vec<Outcome>, String> {
        time::sleep(Duration::from_secs(1)).await;
        self.asked.lock().unwrap().push((act, on.clone()));
        Ok(vec![Outcome { name: on.to_string(), ok: true, what: "restarted".to_owned() }])
    }

    async fn follow(
        &self,
        process: ProcessName,
        output: Output,
        into: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), String> {
        let line = format!("{process} says on {}\n", output.as_str());
        into.send(line.into_bytes()).await.unwrap();
        match output {
            Output::Stdout => std::future::pending().await,
            Output::Stderr => Err("no log file".to_owned()),
        }
    }

    fn now(&self) -> i64 {
        NOW
    }
}

/// Runs a session in which somebody presses keys, one list after each second, and returns the screen
/// as it was at the end, with what ended it.
async fn screen_after(agent: &FakeAgent, keys: &[&[Key]]) -> (String, Option<i32>) {
    let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
    let (tx, rx) = mpsc::channel(KEYS);
    let typing = async move {
        for group in keys {
            time::sleep(Duration::from_secs(1)).await;
            for key in *group {
                tx.send(Touch::Key(*key)).await.unwrap();
            }
        }
        time::sleep(Duration::from_millis(1500)).await;
        // The terminal is gone.
        drop(tx);
    };
    let paint = Paint { colour: false };
    let session = session(agent, &mut terminal, paint, rx, std::future::pending());
    let (ended, ()) = tokio::join!(session, typing);
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(80).map(|l| l.iter().map(|c| c.symbol()).collect::<String>());
    (lines.collect::<Vec<_>>().join("\n"), ended.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_agent_is_asked_once_a_second_and_what_it_says_is_shown() {
    let agent = FakeAgent::default();
    let (screen, ended) = screen_after(&agent, &[&[], &[], &[], &[]]).await;
    assert!(screen.contains("app:worker") && screen.contains("45 ranges"), "{screen}");
    assert_eq!(ended, None);
    let looks = *agent.looks.lock().unwrap();
    assert!((5..=7).contains(&looks), "{looks} looks in 5.5 seconds");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_away_is_shown_again_when_it_is_back() {
    let agent = FakeAgent::default();
    agent.is_away.store(true, Ordering::Relaxed);
    let (screen, _) = screen_after(&agent, &[&[]]).await;
    assert!(screen.contains("trying again: connection refused"), "{screen}");
    let back = {
        let is_away = Arc::clone(&agent.is_away);
        async move {
            time::sleep(Duration::from_millis(1200)).await;
            is_away.store(false, Ordering::Relaxed);
        }
    };
    let ((screen, _), ()) = tokio::join!(screen_after(&agent, &[&[], &[]]), back);
    assert!(screen.contains("app:worker") && !screen.contains("trying"), "{screen}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_is_away_and_keys_go_on() {
    let agent = FakeAgent::default();
    agent.hangs.store(true, Ordering::Relaxed);
    let (screen, _) = screen_after(&agent, &[&[], &[], &[], &[], &[], &[Key::Char('?')]]).await;
    assert!(screen.contains(" keys "), "{screen}");
    let (screen, _) = screen_after(&agent, &[&[], &[], &[], &[], &[]]).await;
    assert!(screen.contains("no answer within 5 s"), "{screen}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_asked_of_the_agent_and_its_outcome_is_shown() {
    let agent = FakeAgent::default();
    let keys: &[&[Key]] = &[&[Key::End, Key::Char('r'), Key::Char('y')]];
    let (screen, _) = screen_after(&agent, keys).await;
    assert!(screen.contains("worker: restarted"), "{screen}");
    let asked = agent.asked.lock().unwrap().clone();
    assert_eq!(asked, [(Act::Restart, "worker".parse().unwrap())]);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_followed_and_left() {
    let agent = FakeAgent::default();
    let (screen, _) = screen_after(&agent, &[&[Key::Char('t')]]).await;
    assert!(screen.contains("beat says on stdout") && screen.contains("following"), "{screen}");
    let (screen, _) = screen_after(&agent, &[&[Key::Char('t')], &[Key::Tab]]).await;
    assert!(screen.contains("beat says on stderr"), "{screen}");
    assert!(screen.contains("ended: no log file"), "{screen}");
    let (screen, _) = screen_after(&agent, &[&[Key::Char('t')], &[Key::Escape]]).await;
    assert!(screen.contains("app:beat"), "{screen}");
}

#[tokio::test(start_paused = true)]
async fn a_key_or_a_signal_ends_it() {
    let agent = FakeAgent::default();
    let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
    let paint = Paint { colour: false };
    let (_tx, rx) = mpsc::channel(KEYS);
    let ended = session(&agent, &mut terminal, paint, rx, async { 15 }).await;
    assert_eq!(ended.unwrap(), Some(15));
    let (tx, rx) = mpsc::channel(KEYS);
    tx.send(Touch::Key(Key::Char('q'))).await.unwrap();
    let ended = session(&agent, &mut terminal, paint, rx, std::future::pending()).await;
    assert_eq!(ended.unwrap(), None);
}
