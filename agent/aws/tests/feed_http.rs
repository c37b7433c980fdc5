//! Reading lists from a server on loopback that does all that servers do wrong.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures are printed; the \
              measured process is this test again"
)]

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use palisade_agent::{
    errors::Chain,
    firewall::{BadFeed, Feed as _, FeedLocation, Fetched, ORIGIN_FACING, parse_feed},
};
use palisade_agent_aws::feed_http::{HttpFeed, Limits};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(2), total: Duration::from_secs(3), max_bytes: 1 << 20 };

/// What the server sends after the request, and how.
#[derive(Clone)]
enum Answer {
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
    /// A beginning, and then the same again and again for ever.
    Endless(&'static [u8], Vec<u8>),
    /// One byte a second.
    Drip(Vec<u8>),
    /// Nothing, and the connection stays open.
    Silence,
}

struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    async fn start_with(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &answer, &seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &answer, &seen).await;
                        }
                    }
                }
            }
        });
        Self { at, asked, task }
    }

    fn url(&self) -> FeedLocation {
        FeedLocation::Url(format!("http://{}/ip-ranges.json", self.at))
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &Answer,
    seen: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(b) => request.push(b),
            Err(_) => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    // The reader may hang up at any time; that is its right.
    match answer {
        Answer::Bytes(bytes) => stream.write_all(bytes).await.unwrap_or_default(),
        Answer::Endless(head, more) => {
            let mut taken = stream.write_all(head).await;
            while taken.is_ok() {
                taken = stream.write_all(more).await;
            }
        }
        Answer::Drip(bytes) => {
            for b in bytes {
                if stream.write_u8(*b).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
        Answer::Silence => sleep(Duration::from_secs(60)).await,
    }
    stream.shutdown().await.unwrap_or_default();
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn client() -> HttpFeed {
    HttpFeed::with([], LIMITS).unwrap()
}

/// The error of a read, all on one line, and that it came in bounded time.
async fn failure(feed: &HttpFeed, at: &FeedLocation) -> String {
    let started = Instant::now();
    let got = timeout(Duration::from_secs(10), feed.fetch(at, Some("\"old\""))).await.unwrap();
    assert!(started.elapsed() < LIMITS.total + Duration::from_secs(2));
    Chain(&got.unwrap_err()).to_string()
}

const LIST: &str = r#"{"syncToken":"1790000000","prefixes":[{"ip_prefix":"13.124.199.0/24","service":"CLOUDFRONT_ORIGIN_FACING"}],"ipv6_prefixes":[]}"#;

#[tokio::test]
async fn a_list_is_read_plain_or_packed_with_its_tag() {
    for (headers, body) in [
        ("etag: \"v1\"\r\n", LIST.as_bytes().to_vec()),
        ("etag: \"v1\"\r\ncontent-encoding: gzip\r\n", gzip(LIST.as_bytes())),
    ] {
        let server = Server::start(Answer::Bytes(http("200 OK", headers, &body))).await;
        let got = client().fetch(&server.url(), None).await.unwrap();
        let tag = Some("\"v1\"".to_owned());
        assert_eq!(got, Fetched::Body { bytes: LIST.as_bytes().to_vec(), tag });
        let asked = server.asked.lock().unwrap().remove(0).to_ascii_lowercase();
        assert!(asked.contains("accept-encoding: gzip") && !asked.contains("if-none-match"));
    }
}

#[tokio::test]
async fn an_unchanged_list_is_not_sent_again() {
    let server = Server::start(Answer::Bytes(http("304 Not Modified", "", b""))).await;
    let got = client().fetch(&server.url(), Some("\"v1\"")).await.unwrap();
    assert_eq!(got, Fetched::NotModified);
    assert!(server.asked.lock().unwrap()[0].to_ascii_lowercase().contains("if-none-match: \"v1\""));
    assert!(client().fetch(&server.url(), None).await.is_err(), "not asked, so not an answer");
}

#[tokio::test]
async fn bad_answers_are_clear_errors() {
    let gzip_cut = gzip(LIST.as_bytes())[..20].to_vec();
    for (answer, says) in [
        (http("503 Service Unavailable", "", b"x"), "answered 503"),
        (http("404 Not Found", "", b""), "answered 404"),
        (http("206 Partial Content", "", LIST.as_bytes()), "answered 206"),
        (http("200 OK", "content-encoding: br\r\n", b"x"), "packed as \"br\""),
        (http("200 OK", "content-encoding: gzip\r\n", LIST.as_bytes()), "unpack the list"),
        (http("200 OK", "content-encoding: gzip\r\n", &gzip_cut), "unpack the list"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nshort".to_vec(), "read the list"),
        (b"not http at all\r\n\r\n".to_vec(), "read the list"),
        (Vec::new(), "read the list"),
    ] {
        let server = Server::start(Answer::Bytes(answer)).await;
        let why = failure(&client(), &server.url()).await;
        assert!(why.contains(says), "{says}: {why}");
    }
    let nobody = FeedLocation::Url("http://127.0.0.1:1/".to_owned());
    assert!(failure(&client(), &nobody).await.contains("refused"));
    let no_url = FeedLocation::Url("ftp:::".to_owned());
    assert!(failure(&client(), &no_url).await.contains("read the list"));
}

#[tokio::test]
async fn huge_endless_and_slow_answers_are_cut_off() {
    let big = vec![b' '; 50 << 20];
    // 16 times the limit; more would only make an unoptimised packer take its time.
    let bomb = gzip(&big[..16 << 20]);
    let chunk = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let ok = b"HTTP/1.1 200 OK\r\n";
    for (answer, says) in [
        (Answer::Bytes(http("200 OK", "", &big)), "more than 1048576 bytes"),
        (
            Answer::Bytes(http("200 OK", "content-encoding: gzip\r\n", &bomb)),
            "more than 1048576 bytes",
        ),
        (Answer::Endless(chunked, chunk), "more than 1048576 bytes"),
        (Answer::Drip(http("200 OK", "", LIST.as_bytes())), "no list within 3s"),
        (Answer::Silence, "no list within 3s"),
        (Answer::Endless(ok, b"x: y\r\n".to_vec()), "read the list"),
    ] {
        let server = Server::start(answer).await;
        let why = failure(&client(), &server.url()).await;
        assert!(why.contains(says), "{says}: {why}");
    }
    println!("a bomb of {} bytes was not unpacked", bomb.len());
}

#[tokio::test]
async fn redirects_stay_on_the_host() {
    let target = Server::start(Answer::Bytes(http("200 OK", "", LIST.as_bytes()))).await;
    let same = format!("location: http://127.0.0.1:{}/x\r\n", target.at.port());
    let server = Server::start(Answer::Bytes(http("302 Found", &same, b""))).await;
    assert!(client().fetch(&server.url(), None).await.is_ok());

    let other = format!("location: http://localhost:{}/x\r\n", target.at.port());
    let server = Server::start(Answer::Bytes(http("302 Found", &other, b""))).await;
    let why = failure(&client(), &server.url()).await;
    assert!(why.contains("sends us to http://localhost"), "{why}");

    let around = Server::start(Answer::Bytes(http("302 Found", "location: /again\r\n", b""))).await;
    let why = failure(&client(), &around.url()).await;
    assert!(why.contains("from place to place"), "{why}");
    assert_eq!(target.asked.lock().unwrap().len(), 1);
}

/// A server's TLS with a certificate for a name, and the certificate.
fn tls(name: &str) -> (TlsAcceptor, CertificateDer<'static>) {
    tls_until(name, 4000)
}

/// The same, with a certificate that is good until a year.
fn tls_until(name: &str, year: i32) -> (TlsAcceptor, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wanted = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    wanted.not_before = rcgen::date_time_ymd(2019, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
    let cert = wanted.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert)
}

#[tokio::test]
async fn https_is_believed_only_with_a_trusted_certificate_for_the_host() {
    let body = http("200 OK", "", LIST.as_bytes());
    let (acceptor, cert) = tls("localhost");
    let server = Server::start_with(Answer::Bytes(body.clone()), Some(acceptor)).await;
    let by_name = FeedLocation::Url(format!("https://localhost:{}/", server.at.port()));
    let by_number = FeedLocation::Url(format!("https://{}/", server.at));
    let trusting = HttpFeed::with([cert], LIMITS).unwrap();

    assert!(matches!(trusting.fetch(&by_name, None).await.unwrap(), Fetched::Body { .. }));
    let why = failure(&trusting, &by_number).await;
    assert!(why.contains("certificate"), "wrong host: {why}");
    for stranger in [client(), HttpFeed::new().unwrap()] {
        let why = failure(&stranger, &by_name).await;
        assert!(why.contains("certificate"), "self-signed: {why}");
    }
    let plain = FeedLocation::Url(format!("http://localhost:{}/", server.at.port()));
    assert!(failure(&trusting, &plain).await.contains("read the list"));
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_believed() {
    let (acceptor, cert) = tls_until("localhost", 2020);
    let body = http("200 OK", "", LIST.as_bytes());
    let server = Server::start_with(Answer::Bytes(body), Some(acceptor)).await;
    let trusting = HttpFeed::with([cert], LIMITS).unwrap();
    let url = FeedLocation::Url(format!("https://localhost:{}/", server.at.port()));
    let why = failure(&trusting, &url).await;
    assert!(why.to_lowercase().contains("expired"), "{why}");
    assert!(server.asked.lock().unwrap().is_empty(), "it was asked all the same");
}

/// A figure of this process in KiB: `VmHWM` or `VmRSS`.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const HOSTILE: &str = "PALISADE_HOSTILE_URL";

#[tokio::test]
async fn hostile_servers_cost_bounded_memory() {
    // In a process of its own, since the server of a large body has it in memory.
    if let Ok(url) = std::env::var(HOSTILE) {
        let reader = HttpFeed::with([], Limits::default()).unwrap();
        let before = memory("VmRSS:");
        let refused = reader.fetch(&FeedLocation::Url(url), None).await.is_err();
        println!("measured {} {refused}", memory("VmHWM:").saturating_sub(before));
        return;
    }
    let big = vec![b' '; 50 << 20];
    let chunk = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    // Some more than is read; a larger one would only make an unoptimised packer take its time.
    let bomb = http("200 OK", "content-encoding: gzip\r\n", &gzip(&big[..10 << 20]));
    for (what, answer) in [
        ("50 MB", Answer::Bytes(http("200 OK", "", &big))),
        ("a bomb", Answer::Bytes(bomb)),
        ("endless chunks", Answer::Endless(chunked, chunk)),
    ] {
        let server = Server::start(answer).await;
        let FeedLocation::Url(url) = server.url() else { panic!("no URL") };
        let out = tokio::task::spawn_blocking(move || {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "hostile_servers_cost_bounded_memory", "--nocapture"])
                .env(HOSTILE, url)
                .output()
                .unwrap()
        });
        let out = timeout(Duration::from_secs(60), out).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let figures = said.split("measured ").nth(1).unwrap_or_else(|| panic!("{what}: {said}"));
        let figures: Vec<&str> = figures.split_whitespace().take(2).collect();
        println!("{what}: {} KiB", figures[0]);
        assert_eq!(figures[1], "true", "{what} is taken");
        assert!(figures[0].parse::<u64>().unwrap() < 48 << 10, "{what}: {} KiB", figures[0]);
    }
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let target = Server::start(Answer::Bytes(http("200 OK", "", LIST.as_bytes()))).await;
    let down = format!("location: http://localhost:{}/x\r\n", target.at.port());
    let (acceptor, cert) = tls("localhost");
    let answer = Answer::Bytes(http("302 Found", &down, b""));
    let server = Server::start_with(answer, Some(acceptor)).await;
    let trusting = HttpFeed::with([cert], LIMITS).unwrap();
    let url = FeedLocation::Url(format!("https://localhost:{}/", server.at.port()));
    let why = failure(&trusting, &url).await;
    assert!(why.contains("sends us to http://localhost"), "{why}");
    assert!(target.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_cut_short_on_the_way_never_reads_as_a_list() {
    for at in 0..LIST.len() {
        let answer = http("200 OK", "", &LIST.as_bytes()[..at]);
        let server = Server::start(Answer::Bytes(answer)).await;
        let Fetched::Body { bytes, .. } = client().fetch(&server.url(), None).await.unwrap() else {
            panic!("no body");
        };
        let read = parse_feed(&bytes, ORIGIN_FACING, 4096);
        assert!(matches!(read, Err(BadFeed::Json(_))), "cut at {at}");
    }
}
