//! The loop: waits for keys, answers and time, steps the model, does what it says, draws.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ratatui::{Terminal, backend::Backend};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    input::{Effect, Input},
    model::Model,
    ports::Agent,
    terminal::{Screen, Touch, is_there, read},
    view::{Paint, draw},
};

/// How often the agent is asked.
const EVERY: Duration = Duration::from_secs(1);

/// The same while something that was asked for is being done.
const OFTEN: Duration = Duration::from_millis(250);

/// An agent that has not answered by then is away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How long the reader of keys may take to notice that it is to end.
const READER_WITHIN: Duration = Duration::from_millis(500);

/// Keys that may wait; the terminal keeps further ones.
const KEYS: usize = 64;

/// Pieces of a log that may wait; the agent keeps the rest.
const PIECES: usize = 16;

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// Standard input or output is none.
    #[error("top needs a terminal")]
    NoTerminal,
    /// It was one, and could not be used.
    #[error("use the terminal")]
    Terminal(#[source] io::Error),
}

/// Shows the agent on the terminal until somebody quits. Returns the number of the signal that ended
/// it, if one did; `gone` ends when the terminal is gone, and counts as its signal.
///
/// # Errors
/// When there is no terminal.
pub async fn run(
    agent: impl Agent,
    colour: bool,
    gone: impl Future<Output = ()>,
) -> Result<Option<i32>, TopError> {
    if !is_there() {
        return Err(TopError::NoTerminal);
    }
    let end = end_from_outside(gone).map_err(TopError::Terminal)?;
    let mut screen = Screen::enter().map_err(TopError::Terminal)?;
    let (tx, touches) = mpsc::channel(KEYS);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let (reads, has_read) = oneshot::channel::<()>();
    // A thread of its own, which may outlive us: reading from a terminal that was taken away can take
    // for ever, and the program is to end then.
    thread::spawn(move || {
        read(&told, &tx);
        drop(reads);
    });
    let paint = Paint { colour };
    let ended = session(&agent, &mut screen.terminal, paint, touches, end).await;
    stop.store(true, Ordering::Relaxed);
    drop(screen);
    // It reads no key any more when the next program does.
    drop(time::timeout(READER_WITHIN, has_read).await);
    ended.map_err(TopError::Terminal)
}

/// The signals that ask a program to end. A terminal that goes away sends one too, and counts as having
/// sent it where it did not.
fn end_from_outside(gone: impl Future<Output = ()>) -> io::Result<impl Future<Output = i32>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        // Each only waits, and one is enough.
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = hangup.recv() => SignalKind::hangup(),
            () = gone => SignalKind::hangup(),
            _ = quit.recv() => SignalKind::quit(),
        };
        kind.as_raw_value()
    })
}

async fn session<A: Agent, B: Backend>(
    agent: &A,
    terminal: &mut Terminal<B>,
    paint: Paint,
    mut touches: mpsc::Receiver<Touch>,
    end: impl Future<Output = i32>,
) -> io::Result<Option<i32>>
where
    B::Error: Send + Sync + 'static,
{
    let mut end = std::pin::pin!(end);
    let mut model = Model::new();
    // One look at the agent at a time, and what was asked of it: the model bounds that.
    let mut looks: JoinSet<Input> = JoinSet::new();
    let mut requests: JoinSet<Input> = JoinSet::new();
    let mut log: JoinSet<Input> = JoinSet::new();
    let (pieces_tx, mut pieces) = mpsc::channel::<Input>(PIECES);
    let mut next_look = Instant::now();
    loop {
        terminal
            .draw(|frame| model.seen = draw(frame, &model, agent.now(), paint))
            .map_err(io::Error::other)?;
        // Every arm only waits: a key or a piece that is not taken stays in its queue, and a set
        // keeps what is done until it is asked again.
        let input = tokio::select! {
            biased;
            signal = &mut end => return Ok(Some(signal)),
            touch = touches.recv() => match touch {
                Some(Touch::Key(key)) => Input::Key(key),
                Some(Touch::Resized) => continue,
                None => return Ok(None),
            },
            Some(done) = requests.join_next() => {
                next_look = Instant::now();
                match done {
                    Ok(input) => input,
                    Err(e) => return Err(io::Error::other(e)),
                }
            }
            Some(seen) = looks.join_next() => {
                next_look = Instant::now() + if model.pending > 0 { OFTEN } else { EVERY };
                match seen {
                    Ok(input) => input,
                    Err(e) => return Err(io::Error::other(e)),
                }
            }
            Some(piece) = pieces.recv() => piece,
            Some(ended) = log.join_next() => match ended {
                Ok(input) => input,
                // Aborted, as another one is followed.
                Err(_) => continue,
            },
            () = time::sleep_until(next_look), if looks.is_empty() => {
                let agent = agent.clone();
                looks.spawn(async move {
                    let answer = time::timeout(ANSWERS_WITHIN, agent.snapshot()).await;
                    let late = || Err(format!("no answer within {} s", ANSWERS_WITHIN.as_secs()));
                    Input::Snapshot(answer.unwrap_or_else(|_| late()))
                });
                continue;
            }
        };
        match model.step(input, agent.now()) {
            None => {}
            Some(Effect::Quit) => return Ok(None),
            Some(Effect::Do(act, on)) => {
                let agent = agent.clone();
                requests.spawn(async move {
                    let result = agent.act(act, on.clone()).await;
                    Input::Done { act, on, result }
                });
                next_look = next_look.min(Instant::now() + OFTEN);
            }
            Some(Effect::Unfollow) => log.abort_all(),
            Some(Effect::Follow { id, process, output }) => {
                log.abort_all();
                let (agent, into) = (agent.clone(), pieces_tx.clone());
                log.spawn(async move {
                    let (tx, mut rx) = mpsc::channel(1);
                    let following = agent.follow(process, output, tx);
                    let passing_on = async {
                        while let Some(bytes) = rx.recv().await {
                            // The view ended; so does this.
                            if into.send(Input::Log(id, bytes)).await.is_err() {
                                break;
                            }
                        }
                    };
                    let (ended, ()) = tokio::join!(following, passing_on);
                    Input::LogEnded(id, ended)
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
