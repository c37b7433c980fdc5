//! One socket of a client: the open message, keep-alive, and the faults between the two ends.
//!
//! Reading and writing are apart, so a client that does not read can still send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    lane::Lane,
    opening,
    session::{Cut, Event, Out, Session, State},
};
use crate::{clock, lock, peer::Shared};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Frames that wait for the socket; the session drops what does not fit, and resends.
const QUEUE: usize = 2048;
/// How long a client may take to send its open message.
const OPENING: Duration = Duration::from_secs(10);
/// How long a close frame may take to go out, and its answer to come in.
const CLOSING: Duration = Duration::from_secs(2);

/// What both halves of a socket see.
#[derive(Debug)]
struct Both {
    shared: Arc<Shared>,
    me: Arc<Session>,
    frames: AtomicU64,
    /// Milliseconds since the epoch of the last pong.
    pong: AtomicU64,
    cut: watch::Sender<Option<Cut>>,
}

impl Both {
    /// Counts a frame, and cuts the socket when its number is up.
    fn count(&self) {
        let after = self.shared.faults().cut_after;
        if self.frames.fetch_add(1, Ordering::Relaxed) + 1 == after {
            self.cut.send_replace(Some(Cut::Abrupt));
        }
    }

    async fn while_hanging(&self) {
        let mut faults = self.shared.watch_faults();
        while faults.borrow_and_update().hang {
            if faults.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Serves a client from its upgrade on.
pub(crate) async fn serve(shared: Arc<Shared>, me: Arc<Session>, mut socket: Socket) {
    let first = time::timeout(OPENING, socket.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        shared.violation(&me.id, "the first message is not the open message".to_owned());
        return refuse(&mut socket, "no open message").await;
    };
    let opening = opening::read(&text, &shared.config.min_client_version);
    for wrong in opening.wrong {
        shared.violation(&me.id, wrong);
    }
    let cut = watch::Sender::new(None);
    let Some(number) = take_over(&me, &opening.token, &cut) else {
        return refuse(&mut socket, "invalid token").await;
    };
    let pong = AtomicU64::new(clock::now_ms());
    let both = Both { shared, me: me.clone(), frames: AtomicU64::new(0), pong, cut };
    let (sink, stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    if me.events.send(Event::Attach(out)).await.is_err() {
        return;
    }
    let mut cuts = both.cut.subscribe();
    // Whichever ends first, the socket is gone; the session resends what was under way.
    tokio::select! {
        () = read(&both, stream) => {}
        () = write(&both, sink, queue) => {}
        () = abrupt(&mut cuts) => {}
    }
    me.events.send(Event::Detach(number)).await.unwrap_or_default();
}

/// Uses the token up; the number of the socket if it was good.
fn take_over(me: &Session, token: &str, cut: &watch::Sender<Option<Cut>>) -> Option<u64> {
    let mut inner = lock(&me.inner);
    if inner.token.as_deref() != Some(token) || matches!(inner.state, State::Ended(_)) {
        return None;
    }
    inner.token = None;
    inner.state = State::Live;
    inner.stats.sockets += 1;
    // A second socket ends the first.
    if let Some(old) = inner.cut.replace(cut.clone()) {
        old.send_replace(Some(Cut::Abrupt));
    }
    Some(inner.stats.sockets)
}

async fn abrupt(cuts: &mut watch::Receiver<Option<Cut>>) {
    if cuts.wait_for(|c| *c == Some(Cut::Abrupt)).await.is_err() {
        std::future::pending().await
    }
}

async fn refuse(socket: &mut Socket, reason: &'static str) {
    let close = CloseFrame { code: CloseCode::Policy, reason: reason.into() };
    // A client that is gone needs no close.
    time::timeout(CLOSING, socket.close(Some(close))).await.unwrap_or(Ok(())).unwrap_or_default();
}

fn half_rtt(ms: u64) -> Duration {
    Duration::from_micros(ms.saturating_mul(500))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn read(both: &Both, mut stream: SplitStream<Socket>) {
    let mut lane = Lane::new(both.shared.config.seed ^ 0xA5A5_5A5A);
    loop {
        both.while_hanging().await;
        let faults = both.shared.faults();
        // Losing an arm loses nothing: the stream keeps a part of a frame, the lane its frames.
        tokio::select! {
            message = stream.next(), if !lane.is_full() => match message {
                // What comes after the cut is read, for the sake of the close, and lost.
                Some(Ok(Message::Binary(_))) if both.cut.borrow().is_some() => {}
                Some(Ok(Message::Binary(bytes))) => {
                    both.count();
                    if faults.max_frame > 0 && bytes.len() > faults.max_frame {
                        both.cut.send_replace(Some(Cut::TooBig));
                        continue;
                    }
                    lane.push(Instant::now(), bytes, &faults.to_agent, half_rtt(faults.rtt_ms));
                }
                Some(Ok(Message::Text(_))) => {
                    both.shared.violation(&both.me.id, "text after the open message".to_owned());
                }
                Some(Ok(Message::Ping(_))) => both.me.stats(|s| s.pings += 1),
                Some(Ok(Message::Pong(_))) => both.pong.store(clock::now_ms(), Ordering::Relaxed),
                Some(Ok(Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            () = until(lane.next_due()) => {}
        }
        while let Some(bytes) = lane.pop(Instant::now()) {
            // A session that is over takes none.
            both.me.events.send(Event::Frame(bytes)).await.unwrap_or_default();
        }
    }
}

async fn write(both: &Both, mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Out>) {
    let mut lane = Lane::new(both.shared.config.seed);
    let timing = both.shared.config.timing.clone();
    let mut ping = time::interval_at(Instant::now() + timing.ping(), timing.ping());
    let mut cuts = both.cut.subscribe();
    let mut closing = false;
    loop {
        both.while_hanging().await;
        // Losing an arm loses nothing: queue, lane, interval and watch keep what they have.
        tokio::select! {
            out = queue.recv(), if !closing && !lane.is_full() => {
                take(both, &mut lane, &mut sink, out, &mut closing).await;
                while let Ok(out) = queue.try_recv() {
                    take(both, &mut lane, &mut sink, Some(out), &mut closing).await;
                    if lane.is_full() { break; }
                }
            }
            () = until(lane.next_due()) => {}
            _ = ping.tick() => {
                let quiet = clock::now_ms().saturating_sub(both.pong.load(Ordering::Relaxed));
                if quiet > timing.pong_ms {
                    return;
                }
                if sink.send(Message::Ping(Bytes::from_static(b"agent"))).await.is_err() {
                    return;
                }
            }
            _ = cuts.changed() => {
                let how = *cuts.borrow_and_update();
                return match how {
                    Some(Cut::Bye) => close(&mut sink, CloseCode::Normal, "Bye").await,
                    Some(Cut::TooBig) => close(&mut sink, CloseCode::Size, "frame too large").await,
                    Some(Cut::Abrupt) | None => {}
                };
            }
        }
        let mut fed = false;
        while let Some(bytes) = lane.pop(Instant::now()) {
            if sink.feed(Message::Binary(bytes)).await.is_err() {
                return;
            }
            both.count();
            fed = true;
        }
        if fed && sink.flush().await.is_err() {
            return;
        }
        if closing && lane.is_empty() {
            return close(&mut sink, CloseCode::Normal, "").await;
        }
    }
}

async fn take(
    both: &Both,
    lane: &mut Lane,
    sink: &mut SplitSink<Socket, Message>,
    out: Option<Out>,
    closing: &mut bool,
) {
    match out {
        Some(Out::Frame(bytes)) => {
            let faults = both.shared.faults();
            lane.push(Instant::now(), bytes, &faults.to_client, half_rtt(faults.rtt_ms));
        }
        Some(Out::Text(text)) => sink.send(Message::Text(text.into())).await.unwrap_or_default(),
        Some(Out::Close) | None => *closing = true,
    }
}

async fn close(sink: &mut SplitSink<Socket, Message>, code: CloseCode, reason: &'static str) {
    let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // A client that is gone needs no close.
    time::timeout(CLOSING, sink.send(frame)).await.unwrap_or(Ok(())).unwrap_or_default();
    // The client closes too, which ends the other half and so both. Dropped before that, with something
    // unread in it, the socket would be reset, and the client might lose what was said last.
    time::sleep(CLOSING).await;
}
