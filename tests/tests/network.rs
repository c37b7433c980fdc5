//! The road from the agent to AWS: through a proxy, without names, by IPv6 alone.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "a test writes files and has a runtime of its own")]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use palisade_e2e::{
    agent::{Agent, CAP},
    aws::logs::{Fake, Faults},
    wait::wait_until,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

const BINARY: &str = env!("CARGO_BIN_EXE_palisade-under-test");
/// What the SDK makes of the service and the region; nobody here knows the name.
const ENDPOINT: &str = "logs.eu-central-1.amazonaws.com";
/// What the proxy wants to see: `user:word`.
const PASS: &str = "proxy-authorization: Basic dXNlcjp3b3Jk";
const CONFIG: &str = "aws: { region: eu-central-1 }\nlogs:\n  group: /g\n  stream: s\n  agent: false\n  flush_every: \
                      100ms\n  files: [ { path: app.log } ]\n";
const LINES: u64 = 2000;

fn agent() -> Agent {
    let agent = Agent::new(BINARY, CONFIG);
    let lines: String = (1..=LINES).map(|n| format!("{n} line\n")).collect();
    let log = agent.dir().join("app.log");
    fs::write(&log, lines).unwrap();
    agent.configure(&CONFIG.replace("app.log", &log.display().to_string()));
    agent
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// That each line came once, as often as it was sent.
fn assert_whole(fake: &Fake) {
    wait_until("all lines", CAP, || fake.stats().distinct == LINES);
    let stats = fake.stats();
    assert_eq!((stats.duplicates, stats.out_of_order), (0, 0), "{stats:?}");
    assert_eq!(stats.violations.len(), 0, "{stats:?}");
}

/// A server's TLS with a certificate for [`ENDPOINT`], which is written down for who trusts it.
fn tls(certificate: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec![ENDPOINT.to_owned()]).unwrap();
    fs::write(certificate, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Accepts connections at `addr` until the test's process ends, and says where.
fn serve<F: Future<Output = ()>>(
    addr: &str,
    work: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> SocketAddr {
    let listener = std::net::TcpListener::bind(addr).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(TcpListener::from_std(listener).unwrap()).await });
    });
    at
}

/// Asks for a user, takes `CONNECT`, and is the service at the tunnel's other end as well. Each
/// request's head is in `seen`.
async fn proxy(listener: TcpListener, tls: TlsAcceptor, service: SocketAddr, seen: Seen) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let mut client = BufReader::new(client);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if client.read_line(&mut head).await.unwrap() == 0 {
                    return;
                }
            }
            let is_known = head.lines().any(|line| line.eq_ignore_ascii_case(PASS));
            seen.lock().unwrap().push(head);
            if !is_known {
                let no = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                client.write_all(no).await.unwrap();
                return;
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let Ok(mut client) = tls.accept(client).await else { return };
            let mut service = TcpStream::connect(service).await.unwrap();
            // Either end may go first; what came until then is passed on.
            drop(copy_bidirectional(&mut client, &mut service).await);
        });
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

fn address(fake: &Fake) -> SocketAddr {
    fake.url().trim_start_matches("http://").parse().unwrap()
}

#[test]
fn a_name_that_is_not_known_is_told_and_a_proxy_finds_it() {
    let fake = Fake::start(Faults::default()).unwrap();
    let mut agent = agent();
    agent.start();
    wait_until("status to say why", CAP, || {
        let status = agent.ok(&["logs", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["sources"][0]["last_error"].as_str().is_some_and(|e| e.contains("dns error"))
    });
    assert_eq!(agent.stop(), Some(0));

    let certificate = agent.dir().join("proxy.pem");
    let (tls, service, seen) = (tls(&certificate), address(&fake), Seen::default());
    let at = {
        let seen = Arc::clone(&seen);
        serve("127.0.0.1:0", move |listener| proxy(listener, tls, service, seen))
    };
    let mut agent = agent
        .env("SSL_CERT_FILE", &certificate.display().to_string())
        .env("HTTPS_PROXY", &format!("http://user:word@{at}"));
    agent.start();
    assert_whole(&fake);
    assert_eq!(agent.stop(), Some(0));
    assert!(!agent.log().contains("user:word"), "{}", agent.log());
    let seen = seen.lock().unwrap();
    let tunnel = format!("CONNECT {ENDPOINT}:443 HTTP/1.1");
    assert!(!seen.is_empty() && seen.iter().all(|head| head.starts_with(&tunnel)), "{seen:?}");
}

#[test]
fn a_proxy_that_is_none_is_told_without_its_password() {
    let mut agent = agent().env("HTTPS_PROXY", "socks5://user:word@127.0.0.1:1");
    agent.start();
    wait_until("status to say why", CAP, || {
        agent.ok(&["status"]).contains("HTTPS_PROXY is not the URL of a proxy; make it")
    });
    assert_eq!(agent.stop(), Some(0));
    assert!(!agent.log().contains("word@"), "{}", agent.log());
}

#[test]
fn an_endpoint_that_has_ipv6_alone_is_reached_and_plain_http_by_no_proxy() {
    let fake = Fake::start(Faults::default()).unwrap();
    let service = address(&fake);
    let at = serve("[::1]:0", move |listener| async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut service = TcpStream::connect(service).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut service).await);
            });
        }
    });
    // Nobody listens there.
    let mut agent = agent()
        .env("AWS_ENDPOINT_URL", &format!("http://{at}"))
        .env("HTTPS_PROXY", "http://127.0.0.1:1");
    agent.start();
    assert_whole(&fake);
    assert_eq!(agent.stop(), Some(0));
}
