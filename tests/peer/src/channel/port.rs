//! The destination of a session: one connection (basic), or many by smux.
//!
//! Runs as its own task, so that a slow destination holds up neither acknowledgements nor resends.
//! A message counts as done, and is acknowledged, only once its bytes have been written.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use uuid::Uuid;

use super::{session::Session, smux};
use crate::{dialer, peer::Shared};

/// Messages that wait for the destination; more stay with the session.
const INPUTS: usize = 1024;
/// Pieces of output that wait for the session. The destination is not read meanwhile.
const OUTPUTS: usize = 16;
/// Events that wait for the session.
const EVENTS: usize = 1024;
/// Bytes of one piece.
pub(super) const PIECE: usize = 32 << 10;
/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// A message for the destination.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) seq: i64,
    pub(super) id: Uuid,
    /// Acknowledged before its turn.
    pub(super) acked: bool,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Data(Bytes),
    /// The client's connection is gone, its session is not.
    Disconnect,
    Terminate,
}

impl What {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Disconnect | Self::Terminate => 0,
        }
    }
}

/// What the session is told.
#[derive(Debug)]
pub(super) enum Done {
    /// This message is with the destination.
    Written { seq: i64, id: Uuid, acked: bool, size: usize },
    /// Send this flag.
    Flag(u32),
    /// The client broke a rule.
    Wrong(String),
    /// The destination is done; the text is for the client.
    End(String),
    /// The client has ended the session.
    Terminate,
}

impl Done {
    pub(super) fn written(input: &Input) -> Self {
        let size = input.what.len();
        Self::Written { seq: input.seq, id: input.id, acked: input.acked, size }
    }
}

/// The session's ends of the queues.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) input: mpsc::Sender<Input>,
    pub(super) output: mpsc::Receiver<Bytes>,
    pub(super) done: mpsc::Receiver<Done>,
}

/// The task's ends.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) input: mpsc::Receiver<Input>,
    pub(super) output: mpsc::Sender<Bytes>,
    pub(super) done: mpsc::Sender<Done>,
}

impl Port {
    pub(super) fn start(shared: &Arc<Shared>, me: &Arc<Session>, mux: bool) -> Self {
        let (input, inputs) = mpsc::channel(INPUTS);
        let (outputs, output) = mpsc::channel(OUTPUTS);
        let (events, done) = mpsc::channel(EVENTS);
        let ends = Ends { input: inputs, output: outputs, done: events };
        let (shared_, me) = (shared.clone(), me.clone());
        shared.spawn(async move {
            if mux {
                smux::serve(&shared_, &me, ends).await;
            } else {
                basic(&shared_, &me, ends).await;
            }
        });
        Self { input, output, done }
    }
}

/// Why a connection of a basic session ended.
enum Over {
    Destination,
    Disconnect,
    Terminate,
    /// The session is gone.
    Session,
}

async fn basic(shared: &Arc<Shared>, me: &Session, mut ends: Ends) {
    let target = &me.target;
    let mut first = None;
    loop {
        let dialed = dialer::dial(shared, me, &target.host, target.port).await;
        let pipe = match dialed {
            Ok(pipe) => pipe,
            Err(e) => {
                if target.forwards {
                    ends.done.send(Done::Flag(3)).await.unwrap_or_default();
                }
                let text = format!("Unable to connect to specified port: {e}");
                return ends.done.send(Done::End(text)).await.unwrap_or_default();
            }
        };
        match connection(pipe, &mut ends, first.take()).await {
            Over::Session => return,
            Over::Terminate => return ends.done.send(Done::Terminate).await.unwrap_or_default(),
            Over::Destination if !target.forwards => {
                return ends.done.send(Done::End(String::new())).await.unwrap_or_default();
            }
            Over::Destination | Over::Disconnect => {}
        }
        // The next data connects anew.
        first = loop {
            let Some(input) = ends.input.recv().await else { return };
            match input.what {
                What::Data(_) => break Some(input),
                What::Disconnect | What::Terminate => {
                    let over = matches!(input.what, What::Terminate);
                    ends.done.send(Done::written(&input)).await.unwrap_or_default();
                    if over {
                        return ends.done.send(Done::Terminate).await.unwrap_or_default();
                    }
                }
            }
        };
    }
}

/// One connection, until one side ends it. Dropping both halves closes it for good.
async fn connection(pipe: dialer::Pipe, ends: &mut Ends, first: Option<Input>) -> Over {
    let dialer::Pipe { mut reader, mut writer, keep } = pipe;
    let (output, done, input) = (&ends.output, &ends.done, &mut ends.input);
    let read = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return Over::Destination,
                Ok(_) => {
                    if output.send(buffer.split().freeze()).await.is_err() {
                        return Over::Session;
                    }
                }
            }
        }
    };
    let write = async {
        let mut next = first;
        let mut batch = BytesMut::new();
        loop {
            let got = match next.take() {
                Some(input) => input,
                None => match input.recv().await {
                    Some(input) => input,
                    None => return Over::Session,
                },
            };
            let mut inputs = vec![got];
            // What follows a flag is for the next connection.
            let full = |all: &[Input]| {
                all.len() >= 64
                    || all.iter().map(|i| i.what.len()).sum::<usize>() >= BATCH
                    || all.last().is_some_and(|i| !matches!(i.what, What::Data(_)))
            };
            while !full(&inputs) {
                match input.try_recv() {
                    Ok(more) => inputs.push(more),
                    Err(_) => break,
                }
            }
            let mut over = None;
            for one in &inputs {
                match &one.what {
                    What::Data(data) => batch.extend_from_slice(data),
                    What::Disconnect => over = Some(Over::Disconnect),
                    What::Terminate => over = Some(Over::Terminate),
                }
            }
            if writer.write_all(&batch).await.is_err() || writer.flush().await.is_err() {
                // The reader sees the end too, after what is still to be read.
                return std::future::pending().await;
            }
            batch.clear();
            for one in &inputs {
                if done.send(Done::written(one)).await.is_err() {
                    return Over::Session;
                }
            }
            if let Some(over) = over {
                return over;
            }
        }
    };
    // Either end ends both: what the other had in hand is lost, as with the real agent.
    let over = tokio::select! {
        over = read => over,
        over = write => over,
    };
    drop(keep);
    over
}
