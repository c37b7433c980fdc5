//! What the tests of the channel share: destinations, the peer's API as the session's service, waiting
//! with a bound.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use palisade_channel::{
    Dialer, Endpoint, Options, Resumed, Service, ServiceError, Session, Signed, Started, Token,
};
use palisade_peer::{Peer, SessionView, Signer, State, config::Config, sigv4};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};

pub(crate) const SSH: &str = "AWS-StartSSHSession";
pub(crate) const FORWARD: &str = "AWS-StartPortForwardingSession";
/// Only a bound: a machine with other work takes ten times as long as one without.
const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(what, PATIENCE, future).await
}

pub(crate) async fn within<T>(what: &str, bound: Duration, future: impl Future<Output = T>) -> T {
    match time::timeout(bound, future).await {
        Ok(value) => value,
        Err(_) => panic!("no {what} within {bound:?}"),
    }
}

/// Tries at most five times to stay below `bound`: other work on the machine makes a thing slower and never
/// quicker, so that one try is enough to show that it can be done.
pub(crate) async fn quickest(what: &str, bound: Duration, mut act: impl AsyncFnMut() -> Duration) {
    let mut all = Vec::new();
    while all.len() < 5 {
        let took = act().await;
        if took < bound {
            return;
        }
        all.push(took);
    }
    panic!("{what} is to take less than {bound:?} and took {all:?}");
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Bytes that show every loss and repetition, newlines and all other values among them.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
}

/// A peer whose instance leads ports 22 and 80 to `destination`.
pub(crate) fn peer(destination: &str, change: impl FnOnce(&mut Config)) -> Arc<Peer> {
    let mut config = Config::default();
    let to = |port: &str| (format!("localhost:{port}"), destination.to_owned());
    config.instances[0].dialer.ports = BTreeMap::from([to("22"), to("80")]);
    change(&mut config);
    Arc::new(Peer::start(config).unwrap())
}

/// A server that gives each connection to `serve`.
pub(crate) async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            tokio::spawn(serve(socket));
        }
    });
    addr
}

/// Sends back what comes, until the other side is done.
pub(crate) async fn echo() -> String {
    server(|socket| async {
        let (mut reader, mut writer) = socket.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap_or_default();
    })
    .await
}

/// Sends `size` bytes of the pattern, then waits for the other side's end.
pub(crate) async fn source(size: usize) -> String {
    let data = Arc::new(pattern(size));
    server(move |mut socket| {
        let data = data.clone();
        async move {
            socket.write_all(&data).await.unwrap_or_default();
            let mut rest = [0; 1024];
            while socket.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        }
    })
    .await
}

/// Counts what it is sent, and says `done` after `size` bytes.
pub(crate) async fn sink(size: usize) -> String {
    server(move |mut socket| async move {
        let mut buffer = vec![0; 256 << 10];
        let mut got = 0;
        while got < size {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => got += count,
            }
        }
        socket.write_all(b"done").await.unwrap_or_default();
        socket.read(&mut buffer).await.unwrap_or_default();
    })
    .await
}

pub(crate) fn signer() -> Signer {
    let key = &Config::default().keys[0];
    Signer { access_key: key.access_key.clone(), arn: key.arn.clone() }
}

/// The peer's API as a session's service.
#[derive(Clone)]
pub(crate) struct Aws {
    pub(crate) peer: Arc<Peer>,
    pub(crate) session: String,
    pub(crate) terminated: Arc<AtomicUsize>,
}

impl Aws {
    async fn call(&self, op: &str) -> Result<Value, ServiceError> {
        let body = json!({ "SessionId": self.session });
        self.peer.call(op, &body, &signer()).await.map_err(|error| {
            let text = format!("{op}: {error}");
            if error.status >= 500 || error.kind == "ThrottlingException" {
                ServiceError::Later(text)
            } else {
                ServiceError::Never(text)
            }
        })
    }
}

impl Service for Aws {
    async fn sign(&self, url: &str) -> Result<Signed, ServiceError> {
        let (host, rest) = url.split_once("://").unwrap().1.split_once('/').unwrap();
        let (path, query) = rest.split_once('?').unwrap();
        let date = amz_date();
        let day = &date[..8];
        let key = &Config::default().keys[0];
        let canonical = format!(
            "GET\n/{path}\n{query}\nhost:{host}\nx-amz-date:{date}\n\nhost;x-amz-date\n{}",
            sigv4::hex(&Sha256::digest(b""))
        );
        let scope = format!("{day}/us-east-1/ssmmessages/aws4_request");
        let hash = sigv4::hex(&Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let first = sigv4::hmac(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
        let secret = ["us-east-1", "ssmmessages", "aws4_request"]
            .iter()
            .fold(first, |key, part| sigv4::hmac(&key, part.as_bytes()));
        let signature = sigv4::hex(&sigv4::hmac(&secret, text.as_bytes()));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-date, \
             Signature={signature}",
            key.access_key
        );
        let mut signed = Signed::default();
        signed.headers.insert("authorization", value.parse().unwrap());
        signed.headers.insert("x-amz-date", date.parse().unwrap());
        Ok(signed)
    }

    async fn resume(&self) -> Result<Resumed, ServiceError> {
        let answer = match self.call("ResumeSession").await {
            Err(ServiceError::Never(why)) if why.contains("DoesNotExist") => {
                return Ok(Resumed::Gone);
            }
            answer => answer?,
        };
        Ok(match answer["TokenValue"].as_str() {
            Some(token) => Resumed::With {
                token: Token::new(token),
                stream_url: answer["StreamUrl"].as_str().unwrap().to_owned(),
            },
            None => Resumed::Gone,
        })
    }

    async fn terminate(&self) -> Result<(), ServiceError> {
        self.terminated.fetch_add(1, Ordering::SeqCst);
        self.call("TerminateSession").await.map(|_| ())
    }
}

/// A started session, its service and options that lead to the peer.
pub(crate) async fn started(peer: &Arc<Peer>, document: &str) -> (Started, Aws, Options) {
    let target = Config::default().instances[0].id.clone();
    let body = json!({ "Target": target, "DocumentName": document });
    let answer = peer.call("StartSession", &body, &signer()).await.unwrap();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    let started = Started {
        session_id: text("SessionId"),
        token: Token::new(text("TokenValue")),
        stream_url: text("StreamUrl"),
    };
    let aws = Aws {
        peer: peer.clone(),
        session: started.session_id.clone(),
        terminated: Arc::new(AtomicUsize::new(0)),
    };
    let dialer = Dialer::new(Some(Endpoint::read(&peer.ws_url()).unwrap()), None);
    (started, aws, Options { dialer, ..Options::default() })
}

/// A session with changed options.
pub(crate) async fn open_with(
    peer: &Arc<Peer>,
    document: &str,
    change: impl FnOnce(&mut Options),
) -> (Session, Aws) {
    let (started, aws, mut options) = started(peer, document).await;
    change(&mut options);
    (Session::open(started, aws.clone(), options), aws)
}

pub(crate) async fn open(peer: &Arc<Peer>, document: &str) -> (Session, Aws) {
    open_with(peer, document, |_| {}).await
}

/// The peer's view of a session.
pub(crate) fn view(peer: &Peer, aws: &Aws) -> SessionView {
    peer.sessions().into_iter().find(|v| v.id == aws.session).unwrap()
}

/// Waits until the session has ended on the host.
pub(crate) async fn ended(peer: &Peer, aws: &Aws) {
    until("end on the host", || matches!(view(peer, aws).state, State::Ended(_))).await;
}

/// The present time as signatures have it.
fn amz_date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (mut days, rest) = (now / 86_400, now % 86_400);
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{:02}T{h:02}{m:02}{s:02}Z", days + 1)
}

/// Sends `data` through a stream of its own and reads as much back.
pub(crate) async fn round_trip(session: &Session, data: &[u8]) -> Vec<u8> {
    let stream = session.stream().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut got = vec![0; data.len()];
    let (sent, read) =
        soon("echo", async { tokio::join!(writer.write_all(data), reader.read_exact(&mut got)) })
            .await;
    sent.unwrap();
    read.unwrap();
    got
}

/// The client kept every rule of the protocol.
pub(crate) fn unbroken(peer: &Peer) {
    assert_eq!(peer.violations(), []);
}
