//! A minimal client of a data channel. It keeps no window, and resends only while a test waits.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use palisade_peer::{
    Peer,
    channel::frame::{Frame, kind, payload},
};
use serde_json::{Value, json};
use tokio::time;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::support::{PATIENCE, Socket, dial, good, now_ms, soon, start};

/// A client of one session.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) next: i64,
    pub(crate) expected: i64,
    pub(crate) ahead: BTreeMap<i64, Frame>,
    /// Bytes of data in order.
    pub(crate) data: Vec<u8>,
    pub(crate) flags: Vec<u32>,
    pub(crate) closed: Option<String>,
    pub(crate) acked: Vec<i64>,
    pub(crate) sent: BTreeMap<i64, Bytes>,
    pub(crate) complete: bool,
    pub(crate) pauses: Vec<bool>,
    /// Does not acknowledge the first so many.
    pub(crate) silent: usize,
}

pub(crate) fn open_message(token: &str) -> String {
    json!({
        "MessageSchemaVersion": "1.0",
        "RequestId": Uuid::new_v4().to_string(),
        "TokenValue": token,
        "ClientId": Uuid::new_v4().to_string(),
        "ClientVersion": "1.2.764.0",
    })
    .to_string()
}

impl Client {
    /// Opens a started session, without waiting for the handshake.
    pub(crate) async fn open(peer: &Peer, started: &Value) -> Self {
        let session = started["SessionId"].as_str().unwrap();
        let mut socket = dial(peer, session, true).await.unwrap();
        let token = started["TokenValue"].as_str().unwrap();
        socket.send(Message::Text(open_message(token).into())).await.unwrap();
        Self {
            socket,
            next: 0,
            expected: 0,
            ahead: BTreeMap::new(),
            data: Vec::new(),
            flags: Vec::new(),
            closed: None,
            acked: Vec::new(),
            sent: BTreeMap::new(),
            complete: false,
            pauses: Vec::new(),
            silent: 0,
        }
    }

    /// Opens a session and waits until it is live.
    pub(crate) async fn live(peer: &Peer, document: &str) -> (Self, String) {
        let started = start(peer, document).await;
        let mut client = Self::open(peer, &started).await;
        soon("handshake", async {
            while !client.complete {
                assert!(client.step().await, "the socket ended in the handshake");
            }
        })
        .await;
        (client, started["SessionId"].as_str().unwrap().to_owned())
    }

    /// The same session on another socket.
    pub(crate) async fn resume(&mut self, peer: &Peer, session: &str) {
        let resumed = good(peer, "ResumeSession", json!({ "SessionId": session })).await;
        self.socket = Self::open(peer, &resumed).await.socket;
        for bytes in self.sent.clone().into_values() {
            self.raw(bytes).await;
        }
    }

    pub(crate) async fn raw(&mut self, bytes: Bytes) {
        self.socket.send(Message::Binary(bytes)).await.unwrap_or_default();
    }

    pub(crate) fn frame(&mut self, payload_type: u32, payload: &[u8]) -> Frame {
        let seq = self.next;
        self.next += 1;
        Frame {
            kind: kind::INPUT.to_owned(),
            created: now_ms(),
            seq,
            flags: 0,
            id: Uuid::new_v4(),
            payload_type,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    pub(crate) async fn send(&mut self, payload_type: u32, payload: &[u8]) {
        let frame = self.frame(payload_type, payload);
        self.sent.insert(frame.seq, frame.encode());
        self.raw(frame.encode()).await;
    }

    /// Sends again all that is not acknowledged.
    pub(crate) async fn resend(&mut self) {
        for bytes in self.sent.clone().into_values() {
            self.raw(bytes).await;
        }
    }

    /// Takes one message; false when the socket is gone.
    pub(crate) async fn step(&mut self) -> bool {
        let bytes = match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => return true,
        };
        let Ok(frame) = Frame::parse(&bytes) else { return true };
        match frame.kind.as_str() {
            kind::OUTPUT => {
                if self.silent > 0 {
                    self.silent -= 1;
                } else {
                    self.ack(&frame).await;
                }
                if frame.seq >= self.expected {
                    self.ahead.insert(frame.seq, frame);
                }
                while let Some(frame) = self.ahead.remove(&self.expected) {
                    self.expected += 1;
                    self.take(frame).await;
                }
            }
            kind::ACK => {
                let ack: Value = serde_json::from_slice(&frame.payload).unwrap();
                let seq = ack["AcknowledgedMessageSequenceNumber"].as_i64().unwrap();
                self.sent.remove(&seq);
                self.acked.push(seq);
            }
            kind::CLOSED => {
                let closed: Value = serde_json::from_slice(&frame.payload).unwrap();
                self.closed = Some(closed["Output"].as_str().unwrap().to_owned());
            }
            kind::PAUSE => self.pauses.push(true),
            kind::START => self.pauses.push(false),
            other => panic!("a message of type {other}"),
        }
        true
    }

    async fn take(&mut self, frame: Frame) {
        match frame.payload_type {
            payload::HANDSHAKE_REQUEST => {
                let request: Value = serde_json::from_slice(&frame.payload).unwrap();
                let actions = request["RequestedClientActions"].as_array().unwrap().iter();
                let processed: Vec<_> = actions
                    .map(|a| {
                        let status = if a["ActionType"] == "SessionType" { 1 } else { 3 };
                        json!({ "ActionType": a["ActionType"], "ActionStatus": status,
                                "ActionResult": null, "Error": "" })
                    })
                    .collect();
                let response = json!({ "ClientVersion": "1.2.764.0",
                    "ProcessedClientActions": processed, "Errors": [] });
                self.send(payload::HANDSHAKE_RESPONSE, response.to_string().as_bytes()).await;
            }
            payload::HANDSHAKE_COMPLETE => self.complete = true,
            payload::FLAG => {
                self.flags.push(u32::from_be_bytes(frame.payload[..].try_into().unwrap()));
            }
            _ => self.data.extend_from_slice(&frame.payload),
        }
    }

    pub(crate) async fn ack(&mut self, frame: &Frame) {
        let payload = json!({
            "AcknowledgedMessageType": frame.kind,
            "AcknowledgedMessageId": frame.id.to_string(),
            "AcknowledgedMessageSequenceNumber": frame.seq,
            "IsSequentialMessage": true,
        });
        let ack = Frame {
            kind: kind::ACK.to_owned(),
            created: now_ms(),
            seq: 0,
            flags: 3,
            id: Uuid::new_v4(),
            payload_type: 0,
            payload: payload.to_string().into(),
        };
        self.raw(ack.encode()).await;
    }

    /// Takes messages until `condition`, or the end of the socket; resends meanwhile.
    pub(crate) async fn run(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = time::Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(time::Instant::now() < end, "no {what} within {PATIENCE:?}");
            match time::timeout(Duration::from_millis(200), self.step()).await {
                Ok(true) => {}
                Ok(false) => {
                    assert!(condition(self), "the socket ended before {what}");
                    return;
                }
                Err(_) => self.resend().await,
            }
        }
    }
}
