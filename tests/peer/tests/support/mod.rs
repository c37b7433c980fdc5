//! A minimal client for tests of the peer: signs, upgrades, frames. It keeps no window and resends
//! nothing unless a test says so.
#![expect(clippy::disallowed_methods, reason = "tests against a real endpoint in real time")]
#![expect(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use palisade_peer::{
    Peer,
    channel::frame::{Frame, kind, payload},
    config::Config,
    sigv4,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, tungstenite::Message};
use uuid::Uuid;

pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const INSTANCE: &str = "i-0123456789abcdef0";
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("no {what} within {PATIENCE:?}"),
    }
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A peer whose instance leads `localhost:22` and `localhost:80` to `destination`.
pub fn peer(destination: &str, change: impl FnOnce(&mut Config)) -> Peer {
    let mut config = Config::default();
    let to = |port: &str| (format!("localhost:{port}"), destination.to_owned());
    config.instances[0].dialer.ports = BTreeMap::from([to("22"), to("80")]);
    change(&mut config);
    Peer::start(config).unwrap()
}

/// Sends back what comes, until the other side is done.
pub async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.into_split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap_or_default();
            });
        }
    });
    addr
}

/// A date as signatures have it.
pub fn amz_date(offset_s: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = now.checked_add_signed(offset_s).unwrap();
    let at = i64::try_from(at).unwrap();
    let (days, rest) = (at / 86_400, at % 86_400);
    let mut year = 1970;
    let mut left = days;
    let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{:02}T{h:02}{m:02}{s:02}Z", left + 1)
}

/// The `Authorization` of a request, computed apart from the code under test where it matters: the
/// canonical request is written out here.
pub struct Sign<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub service: &'a str,
    pub headers: Vec<(&'a str, String)>,
    pub body: &'a [u8],
    pub access_key: &'a str,
    pub secret: &'a str,
}

impl Sign<'_> {
    pub fn authorization(&self) -> String {
        let mut headers = self.headers.clone();
        headers.sort();
        let date = &headers.iter().find(|(n, _)| *n == "x-amz-date").unwrap().1;
        let names: Vec<_> = headers.iter().map(|(n, _)| *n).collect();
        let names = names.join(";");
        let lines: String = headers.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
        let hash = sigv4::hex(&Sha256::digest(self.body));
        let canonical =
            format!("{}\n{}\n{}\n{lines}\n{names}\n{hash}", self.method, self.path, self.query);
        let day = &date[..8];
        let scope = format!("{day}/us-east-1/{}/aws4_request", self.service);
        let hash = sigv4::hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let mut key = sigv4::hmac(format!("AWS4{}", self.secret).as_bytes(), day.as_bytes());
        for part in ["us-east-1", self.service, "aws4_request"] {
            key = sigv4::hmac(&key, part.as_bytes());
        }
        let signature = sigv4::hex(&sigv4::hmac(&key, to_sign.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key
        )
    }
}

/// Status and body of a raw HTTP request.
pub async fn http(peer: &Peer, head: &str, body: &[u8]) -> (u16, String) {
    let host = peer.url().trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&host).await.unwrap();
    let request = format!(
        "{head}host: {host}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = String::new();
    soon("answer", socket.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

/// A signed call of `service` with a body of `kind`.
pub async fn post(
    peer: &Peer,
    service: &str,
    kind: &str,
    extra: &[(&str, &str)],
    body: &str,
    key: (&str, &str),
) -> (u16, String) {
    let host = peer.url().trim_start_matches("http://").to_owned();
    let mut headers =
        vec![("content-type", kind.to_owned()), ("host", host), ("x-amz-date", amz_date(0))];
    headers.extend(extra.iter().map(|(n, v)| (*n, (*v).to_owned())));
    let sign = Sign {
        method: "POST",
        path: "/",
        query: "",
        service,
        headers: headers.clone(),
        body: body.as_bytes(),
        access_key: key.0,
        secret: key.1,
    };
    let mut head = format!("POST / HTTP/1.1\r\nauthorization: {}\r\n", sign.authorization());
    for (name, value) in headers.iter().filter(|(n, _)| *n != "host") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    http(peer, &head, body.as_bytes()).await
}

/// A signed call of Systems Manager.
pub async fn ssm(peer: &Peer, op: &str, body: Value) -> (u16, Value) {
    let target = format!("AmazonSSM.{op}");
    let extra = [("x-amz-target", target.as_str())];
    let json = "application/x-amz-json-1.1";
    let (status, text) =
        post(peer, "ssm", json, &extra, &body.to_string(), (ACCESS_KEY, SECRET)).await;
    (status, serde_json::from_str(&text).unwrap())
}

/// A call that must succeed.
pub async fn good(peer: &Peer, op: &str, body: Value) -> Value {
    let (status, answer) = ssm(peer, op, body).await;
    assert_eq!(status, 200, "{op}: {answer}");
    answer
}

/// A call that must fail: type and message.
pub async fn bad(peer: &Peer, op: &str, body: Value) -> (String, String) {
    let (status, answer) = ssm(peer, op, body).await;
    assert_ne!(status, 200, "{op}: {answer}");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

pub async fn start(peer: &Peer, document: &str) -> Value {
    good(peer, "StartSession", json!({ "Target": INSTANCE, "DocumentName": document })).await
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Dials the data channel of a session; the status if it is refused.
pub async fn dial(peer: &Peer, session: &str, signed: bool) -> Result<Socket, u16> {
    let host = peer.url().trim_start_matches("http://").to_owned();
    let path = format!("/v1/data-channel/{session}");
    let date = amz_date(0);
    let sign = Sign {
        method: "GET",
        path: &path,
        query: "role=publish_subscribe",
        service: "ssmmessages",
        headers: vec![("host", host.clone()), ("x-amz-date", date.clone())],
        body: b"",
        access_key: ACCESS_KEY,
        secret: SECRET,
    };
    let mut request = http::Request::get(format!("ws://{host}{path}?role=publish_subscribe"))
        .header("host", &host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if signed {
        request = request.header("x-amz-date", &date).header("authorization", sign.authorization());
    }
    let stream = MaybeTlsStream::Plain(TcpStream::connect(&host).await.unwrap());
    match client_async(request.body(()).unwrap(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

/// A client of one session.
pub struct Client {
    pub socket: Socket,
    pub next: i64,
    pub expected: i64,
    pub ahead: BTreeMap<i64, Frame>,
    /// Bytes of data in order.
    pub data: Vec<u8>,
    pub flags: Vec<u32>,
    pub closed: Option<String>,
    pub acked: Vec<i64>,
    pub sent: BTreeMap<i64, Bytes>,
    pub complete: bool,
    pub pauses: Vec<bool>,
    /// Does not acknowledge the first so many.
    pub silent: usize,
}

pub fn open_message(token: &str) -> String {
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
    pub async fn open(peer: &Peer, started: &Value) -> Self {
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
    pub async fn live(peer: &Peer, document: &str) -> (Self, String) {
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
    pub async fn resume(&mut self, peer: &Peer, session: &str) {
        let resumed = good(peer, "ResumeSession", json!({ "SessionId": session })).await;
        self.socket = Self::open(peer, &resumed).await.socket;
        for bytes in self.sent.clone().into_values() {
            self.raw(bytes).await;
        }
    }

    pub async fn raw(&mut self, bytes: Bytes) {
        self.socket.send(Message::Binary(bytes)).await.unwrap_or_default();
    }

    pub fn frame(&mut self, payload_type: u32, payload: &[u8]) -> Frame {
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

    pub async fn send(&mut self, payload_type: u32, payload: &[u8]) {
        let frame = self.frame(payload_type, payload);
        self.sent.insert(frame.seq, frame.encode());
        self.raw(frame.encode()).await;
    }

    /// Sends again all that is not acknowledged.
    pub async fn resend(&mut self) {
        for bytes in self.sent.clone().into_values() {
            self.raw(bytes).await;
        }
    }

    /// Takes one message; false when the socket is gone.
    pub async fn step(&mut self) -> bool {
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

    pub async fn ack(&mut self, frame: &Frame) {
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
    pub async fn run(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
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

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Bytes that show every loss and repetition.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}
