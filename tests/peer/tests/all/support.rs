//! Signing, calling and dialling, written out for the tests of the peer.

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use palisade_peer::{Peer, config::Config, sigv4};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("no {what} within {PATIENCE:?}"),
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A peer whose instance leads `localhost:22` and `localhost:80` to `destination`.
pub(crate) fn peer(destination: &str, change: impl FnOnce(&mut Config)) -> Peer {
    let mut config = Config::default();
    let to = |port: &str| (format!("localhost:{port}"), destination.to_owned());
    config.instances[0].dialer.ports = BTreeMap::from([to("22"), to("80")]);
    change(&mut config);
    Peer::start(config).unwrap()
}

/// Sends back what comes, until the other side is done.
pub(crate) async fn echo() -> String {
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
pub(crate) fn amz_date(offset_s: i64) -> String {
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
pub(crate) struct Sign<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) service: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: &'a [u8],
    pub(crate) access_key: &'a str,
    pub(crate) secret: &'a str,
}

impl Sign<'_> {
    pub(crate) fn authorization(&self) -> String {
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
pub(crate) async fn http(peer: &Peer, head: &str, body: &[u8]) -> (u16, String) {
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
pub(crate) async fn post(
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
pub(crate) async fn ssm(peer: &Peer, op: &str, body: Value) -> (u16, Value) {
    let target = format!("AmazonSSM.{op}");
    let extra = [("x-amz-target", target.as_str())];
    let json = "application/x-amz-json-1.1";
    let (status, text) =
        post(peer, "ssm", json, &extra, &body.to_string(), (ACCESS_KEY, SECRET)).await;
    (status, serde_json::from_str(&text).unwrap())
}

/// A call that must succeed.
pub(crate) async fn good(peer: &Peer, op: &str, body: Value) -> Value {
    let (status, answer) = ssm(peer, op, body).await;
    assert_eq!(status, 200, "{op}: {answer}");
    answer
}

/// A call that must fail: type and message.
pub(crate) async fn bad(peer: &Peer, op: &str, body: Value) -> (String, String) {
    let (status, answer) = ssm(peer, op, body).await;
    assert_ne!(status, 200, "{op}: {answer}");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("__type"), text("message"))
}

pub(crate) async fn start(peer: &Peer, document: &str) -> Value {
    good(peer, "StartSession", json!({ "Target": INSTANCE, "DocumentName": document })).await
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Dials the data channel of a session; the status if it is refused.
pub(crate) async fn dial(peer: &Peer, session: &str, signed: bool) -> Result<Socket, u16> {
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
    let stream = TcpStream::connect(&host).await.unwrap();
    match client_async(request.body(()).unwrap(), stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(e) => panic!("{e}"),
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Bytes that show every loss and repetition.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}
