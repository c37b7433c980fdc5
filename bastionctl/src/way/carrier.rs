//! Carries ssh's connections: each one that comes in on a private socket gets a session of its own,
//! the first one the session that was already started.

use std::{
    io,
    path::{Path, PathBuf},
};

use palisade_channel::listener;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::dial::{Dial, Line, bad_end};
use crate::{agent, failed::Failed};

/// Sessions at a time; a connection beyond them waits in the kernel's queue.
const MAX_SESSIONS: usize = 32;

/// A socket and the task that serves it.
#[derive(Debug)]
pub(crate) struct Carrier {
    path: PathBuf,
    stop: CancellationToken,
    /// What went wrong, first things first. A full queue drops the later ones.
    failures: mpsc::Receiver<Failed>,
    task: JoinSet<()>,
}

impl Carrier {
    /// Serves `path`, with `first` as the first connection's session.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn start(path: PathBuf, dial: Dial, first: Line) -> io::Result<Self> {
        let listener = agent::bind(&path)?;
        let stop = CancellationToken::new();
        let (tell, failures) = mpsc::channel(16);
        let mut task = JoinSet::new();
        let served = Served { dial, stop: stop.clone(), tell };
        task.spawn(served.serve(listener, first));
        Ok(Self { path, stop, failures, task })
    }

    /// Where ssh is to connect.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all sessions, and returns the first thing that went wrong with any.
    pub(crate) async fn close(mut self) -> Option<Failed> {
        self.stop.cancel();
        // Each session's end is bounded, so this is.
        while self.task.join_next().await.is_some() {}
        self.failures.try_recv().ok()
    }
}

#[derive(Clone)]
struct Served {
    dial: Dial,
    stop: CancellationToken,
    tell: mpsc::Sender<Failed>,
}

impl Served {
    async fn serve(self, listener: UnixListener, first: Line) {
        let mut first = Some(first);
        let mut sessions = JoinSet::new();
        loop {
            while sessions.try_join_next().is_some() {}
            // Losing an arm loses nothing: a connection that was not accepted stays in the queue.
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(_) = sessions.join_next(), if sessions.len() >= MAX_SESSIONS => {}
                accepted = listener.accept(), if sessions.len() < MAX_SESSIONS => {
                    let Ok((stream, _)) = accepted else { break };
                    if agent::is_ours(&stream) {
                        sessions.spawn(self.clone().carry(stream, first.take()));
                    }
                }
            }
        }
        if let Some(line) = first {
            line.close().await;
        }
        while sessions.join_next().await.is_some() {}
    }

    async fn carry(self, local: UnixStream, line: Option<Line>) {
        let line = match line {
            Some(line) => Ok(line),
            None => self.dial.start().await.and_then(|started| self.dial.open(started)),
        };
        let line = match line {
            Ok(line) => line,
            Err(failed) => return drop(self.tell.try_send(failed)),
        };
        let copied = async {
            // A stream that cannot be had is the session's end, which is told below.
            if let Ok(far) = line.session().stream().await {
                listener::join(local, far).await;
            }
        };
        // Losing the copy's arm loses only what nobody waits for any more.
        tokio::select! {
            () = copied => {}
            () = self.stop.cancelled() => {}
        }
        let end = line.close().await;
        if let Some(failed) = bad_end(self.dial.instance(), &end) {
            // The first ones matter; with sixteen told, nobody misses the next.
            drop(self.tell.try_send(failed));
        }
    }
}
