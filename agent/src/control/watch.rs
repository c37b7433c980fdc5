//! The body of `GET /v1/programs/watch`: every process, and then what changes, one JSON document a
//! line. Changes that come close together are one line, so a program that restarts all the time costs
//! little; nothing is sent while nothing changes.

use std::{io, time::Duration};

use bytes::Bytes;
use palisade_types::{ProcessStatus, change::Change};
use tokio::{sync::watch, time};

use super::endless::{Endless, Step};

/// The least time between two lines.
const REST: Duration = Duration::from_millis(100);

/// A body that tells of the processes until the supervisor ends.
pub(super) fn body(status: watch::Receiver<Vec<ProcessStatus>>) -> Endless<Teller> {
    let teller = Teller { status, told: Vec::new() };
    Endless::new(first(teller), more)
}

#[derive(Debug)]
pub(super) struct Teller {
    status: watch::Receiver<Vec<ProcessStatus>>,
    /// What the client knows.
    told: Vec<ProcessStatus>,
}

impl Teller {
    /// What the client does not know yet. It knows afterwards.
    fn tell(&mut self) -> Change {
        let now = self.status.borrow_and_update().clone();
        let change = Change::between(&self.told, &now);
        self.told = now;
        change
    }
}

fn line(change: &Change) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(change)?;
    line.push(b'\n');
    Ok(line.into())
}

/// Told at once, also where there is nothing: the client knows then that it listens.
async fn first(mut teller: Teller) -> io::Result<(Bytes, Teller)> {
    Ok((line(&teller.tell())?, teller))
}

fn more(mut teller: Teller) -> Step<Teller> {
    Box::pin(async move {
        loop {
            time::sleep(REST).await;
            teller.status.changed().await.map_err(io::Error::other)?;
            let change = teller.tell();
            if !change.is_empty() {
                return Ok((line(&change)?, teller));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use palisade_types::ProcessState;

    use super::*;

    fn process(name: &str, pid: i32) -> ProcessStatus {
        ProcessStatus {
            name: name.parse().unwrap(),
            program: "web".parse().unwrap(),
            group: "web".parse().unwrap(),
            state: ProcessState::Running,
            pid,
            ready: true,
            restarts: 0,
            since: 0,
            exit: None,
            error: None,
            schedule: None,
        }
    }

    async fn next(body: &mut Endless<Teller>) -> Option<Change> {
        let frame = body.frame().await?.ok()?;
        let bytes = frame.into_data().unwrap();
        assert!(bytes.ends_with(b"\n"));
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_told_first_and_then_what_changes_and_no_more() {
        let (tx, rx) = watch::channel(vec![process("a", 1), process("b", 2)]);
        let mut body = body(rx);
        assert_eq!(next(&mut body).await.unwrap().changed.len(), 2);
        // A list sent anew without a change is no news; changes close together are one.
        tx.send_replace(vec![process("a", 1), process("b", 2)]);
        tx.send_replace(vec![process("a", 1), process("b", 3)]);
        tx.send_replace(vec![process("b", 4)]);
        let change = next(&mut body).await.unwrap();
        assert_eq!(change.changed, [process("b", 4)]);
        assert_eq!(change.gone, ["a".parse().unwrap()]);
        tx.send_replace(vec![process("b", 4)]);
        let quiet = time::timeout(Duration::from_secs(3_600), next(&mut body)).await;
        assert!(quiet.is_err(), "{quiet:?}");
        drop(tx);
        assert_eq!(next(&mut body).await, None, "the supervisor ended");
    }
}
