//! The agent's own events on their way to the log module: what the record has, as lines of program
//! `palisade`, process `palisade-agent`.
//!
//! The record never waits for them. While logs are started or exchanged they wait here, [`WAITING`] at
//! most; beyond that the oldest go, and a line says how many. They are in `events.ndjson` all the same.

use std::{collections::VecDeque, io, time::Duration};

use palisade_agent::{events::EventSink, logs};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time,
};

use crate::wiring::Output;

const PROCESS: &str = "palisade-agent";
/// Lines that may wait for the log module; at about 200 bytes each.
const WAITING: usize = 1000;
/// A spool that is full or a disk that refuses is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes to the record's file, and hands a copy on.
pub(crate) struct Tee<S> {
    file: S,
    copies: mpsc::Sender<Vec<u8>>,
}

impl<S: EventSink> EventSink for Tee<S> {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        // Full only if the other end is stuck in the disk: then the file has it.
        if self.copies.try_send(line.to_vec()).is_err() {
            tracing::debug!("an event was not handed to the log module");
        }
        self.file.append(line)
    }
}

/// A record's file with a copy for the log module, and the task that hands the copies over. It ends
/// when the record does.
pub(crate) fn tee<S: EventSink>(
    file: S,
    to: watch::Receiver<Output>,
) -> (Tee<S>, impl Future<Output = ()> + Send + use<S>) {
    let (copies, lines) = mpsc::channel(WAITING);
    (Tee { file, copies }, run(lines, to))
}

async fn run(mut lines: mpsc::Receiver<Vec<u8>>, mut to: watch::Receiver<Output>) {
    let mut waiting = Waiting::default();
    let mut open = true;
    loop {
        let output = to.borrow_and_update().clone();
        let stuck = match &output {
            Output::Off => {
                waiting = Waiting::default();
                false
            }
            Output::Waits => false,
            Output::To(handle) => !waiting.hand_over(|line| append(handle, line)),
        };
        // Not held while waiting: the log module's files are locked as long as somebody has a handle.
        drop(output);
        // Every arm only waits: lines stay in the channel, and the level is looked at again.
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => waiting.push(line),
                None => {
                    // The record has ended. One last try is all that is left.
                    if let Output::To(handle) = &*to.borrow_and_update() {
                        waiting.hand_over(|line| append(handle, line));
                    }
                    return;
                }
            },
            changed = to.changed(), if open => open = changed.is_ok(),
            () = time::sleep(AGAIN), if stuck => {}
        }
    }
}

/// Whether it was taken.
fn append(handle: &logs::Handle, line: &[u8]) -> bool {
    let Some(from) = logs::LineSource::own(PROCESS) else { return true };
    matches!(handle.try_append(&from, line), Ok(true))
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    dropped: u64,
}

impl Waiting {
    fn push(&mut self, line: Vec<u8>) {
        if self.lines.len() == WAITING {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    /// Gives lines to `take` until it refuses one; false if it did.
    fn hand_over(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        if self.dropped > 0 {
            let why = format!("{} older events are in events.ndjson only", self.dropped);
            let told = json!({ "area": "agent", "what": "events not shipped", "why": why });
            if !take(format!("{told}\n").as_bytes()) {
                return false;
            }
            self.dropped = 0;
        }
        while let Some(line) = self.lines.front() {
            if !take(line) {
                return false;
            }
            self.lines.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_handed_over_waits_in_bounded_room_and_a_line_says_what_went() {
        let mut waiting = Waiting::default();
        for i in 0..WAITING + 2 {
            waiting.push(format!("{i}\n").into_bytes());
        }
        assert!(!waiting.hand_over(|_| false));
        let mut got = Vec::new();
        let mut room = 2;
        assert!(!waiting.hand_over(|line| {
            got.push(String::from_utf8(line.to_vec()).unwrap());
            room -= 1;
            room >= 0
        }));
        assert!(got[0].contains("2 older events"), "{got:?}");
        assert_eq!(got[1..], ["2\n", "3\n"]);
        assert!(waiting.hand_over(|line| {
            got.push(String::from_utf8(line.to_vec()).unwrap());
            true
        }));
        // The one that was refused came again, and nothing else did.
        assert_eq!((got.len(), got[3].as_str()), (1 + WAITING + 1, "3\n"));
        assert_eq!(got.last().unwrap(), &format!("{}\n", WAITING + 1));
    }
}
