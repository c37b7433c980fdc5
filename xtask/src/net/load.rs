//! A load of requests at a fixed rate, whatever the answers do (open loop). Each visitor makes a
//! connection of its own, asks on it one request after the other, and goes.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{self, Instant},
};

use super::{MAX_ANSWER, ms, parse, percentile};

/// Visitors that may be there at once; a load that outruns this counts what it cannot send as failed.
const MAX_OPEN: usize = 1_000;
/// Reasons of failures that are kept.
const MAX_REASONS: usize = 8;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a load takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// Requests a second.
    #[arg(long)]
    pub(crate) rate: u32,
    /// Requests of one visitor, on one connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) each: u32,
    #[arg(long)]
    pub(crate) seconds: u32,
    /// Request number n asks for `/?n=TAG-n`.
    #[arg(long)]
    pub(crate) tag: String,
}

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    pub(crate) sent: u32,
    pub(crate) failed: u32,
    /// The first few failures: which request, when, why.
    pub(crate) reasons: Vec<String>,
    /// From the moment a request could be sent (the first of a visitor: when it was due) to its last byte.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// How one request went.
struct Done {
    n: u32,
    ended: Result<Duration, String>,
}

/// Sends visitors at their due times and waits for each. SIGTERM ends it early, with a count.
pub(crate) async fn load(args: LoadArgs) -> Result<LoadResult> {
    ensure!(args.each > 0 && args.rate > 0, "a load without requests");
    let mut sent = 0;
    let total = args.rate.saturating_mul(args.seconds);
    let mut stop = signal(SignalKind::terminate()).context("listen to signals")?;
    let start = Instant::now();
    let mut open: JoinSet<Vec<Done>> = JoinSet::new();
    let mut done = Vec::new();
    while sent < total {
        let due = start + Duration::from_secs_f64(f64::from(sent) / f64::from(args.rate));
        // Losing either arm loses nothing: the signal is kept, the moment comes again.
        tokio::select! {
            biased;
            () = time::sleep_until(due) => {}
            _ = stop.recv() => break,
        }
        while let Some(ended) = open.try_join_next() {
            done.append(&mut ended?);
        }
        let numbers = sent + 1..=(sent + args.each).min(total);
        sent = *numbers.end();
        if open.len() >= MAX_OPEN {
            done.extend(numbers.map(|n| Done::failed(n, "too many visitors still wait")));
        } else {
            open.spawn(visit(args.to, args.tag.clone(), numbers, due));
        }
    }
    while let Some(ended) = open.join_next().await {
        done.append(&mut ended?);
    }
    Ok(summary(sent, args.rate, &done))
}

/// All requests of one visitor. With one that fails the connection is lost, and so are those after it.
async fn visit(
    to: SocketAddr,
    tag: String,
    numbers: std::ops::RangeInclusive<u32>,
    due: Instant,
) -> Vec<Done> {
    let last = *numbers.end();
    let mut done = Vec::new();
    let mut began = due;
    let mut stream = None;
    for n in numbers {
        let path = format!("/?n={tag}-{n}.");
        let asked = ask(&mut stream, to, &path, n == last);
        let ended = match time::timeout(PATIENCE, asked).await {
            Ok(Ok(())) => Ok(began.elapsed()),
            Ok(Err(e)) => Err(format!("{e:#}")),
            Err(_) => Err("timed out".to_owned()),
        };
        let broken = ended.as_ref().err().cloned();
        done.push(Done { n, ended });
        if let Some(why) = broken {
            done.extend((n + 1..=last).map(|n| Done::failed(n, &why)));
            break;
        }
        began = Instant::now();
    }
    done
}

/// One request, on the connection that is there.
async fn ask(stream: &mut Option<TcpStream>, to: SocketAddr, path: &str, last: bool) -> Result<()> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(TcpStream::connect(to).await.context("connect")?),
    };
    let then = if last { "close" } else { "keep-alive" };
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: {then}\r\n\r\n", to.ip());
    stream.write_all(head.as_bytes()).await.context("send")?;
    let mut bytes = Vec::with_capacity(512);
    let answer = loop {
        let got = stream.read_buf(&mut bytes).await.context("receive")?;
        match parse(&bytes) {
            // An answer without a length, as the last may be, ends with its connection.
            Ok(answer) if got == 0 || answer.header("content-length").is_some() => break answer,
            Err(e) if got == 0 => return Err(e),
            _ if bytes.len() as u64 > MAX_ANSWER => bail!("an answer without an end"),
            _ => {}
        }
    };
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

impl Done {
    fn failed(n: u32, why: &str) -> Self {
        Self { n, ended: Err(why.to_owned()) }
    }
}

fn summary(sent: u32, rate: u32, done: &[Done]) -> LoadResult {
    let mut result = LoadResult { sent, ..LoadResult::default() };
    let mut times = Vec::new();
    for Done { n, ended } in done {
        match ended {
            Ok(took) => times.push(ms(*took)),
            Err(why) => {
                result.failed += 1;
                if result.reasons.len() < MAX_REASONS {
                    let at = f64::from(n - 1) / f64::from(rate);
                    result.reasons.push(format!("request {n} (at {at:.2} s): {why}"));
                }
            }
        }
    }
    times.sort_by(f64::total_cmp);
    result.p50_ms = percentile(&times, 50);
    result.p99_ms = percentile(&times, 99);
    result.max_ms = percentile(&times, 100);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_with_their_reasons_and_not_timed() {
        let done = [
            Done { n: 1, ended: Ok(Duration::from_millis(10)) },
            Done::failed(2, "timed out"),
            Done { n: 3, ended: Ok(Duration::from_millis(30)) },
        ];
        let r = summary(3, 10, &done);
        assert_eq!((r.sent, r.failed, r.max_ms), (3, 1, 30.0));
        assert_eq!(r.reasons, ["request 2 (at 0.10 s): timed out"]);
    }

    /// Answers every request on every connection; each third with a refusal, after which it hangs up.
    async fn grumpy(server: tokio::net::TcpListener) {
        let mut number = 0;
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = [0; 1024];
            loop {
                let got = stream.read(&mut request).await.unwrap();
                if got == 0 {
                    break;
                }
                assert!(request[..got].starts_with(b"GET /?n=t-"));
                number += 1;
                let code = if number % 3 == 0 { "503 Busy" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if number % 3 == 0 {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_load_meets_a_server_that_refuses_every_third() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(grumpy(server));
        let args = LoadArgs { to, rate: 30, each: 1, seconds: 1, tag: "t".to_owned() };
        let r = load(args.clone()).await.unwrap();
        assert_eq!((r.sent, r.failed), (30, 10), "{r:?}");
        assert!(r.reasons[0].contains("status 503"));
        // Of four on one connection the third fails, and with it the fourth, which is not asked.
        let r = load(LoadArgs { rate: 40, each: 4, ..args }).await.unwrap();
        assert_eq!((r.sent, r.failed), (40, 20), "{r:?}");
    }
}
