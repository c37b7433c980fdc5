//! Looking at the network from inside a namespace: one request, a steady load, a patient knocker.
//! These run as helper processes (`xtask __http`, `__load`, `__knock`) that `nsenter` puts there, and
//! answer in one line of JSON.

mod load;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{self, Instant},
};

pub(crate) use self::load::{LoadArgs, LoadResult, load};
use crate::{host, say};

/// Largest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;
/// Connections that may be tried at once.
const MAX_OPEN: usize = 1_000;

/// One request.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HttpArgs {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    #[arg(long)]
    pub(crate) path: String,
    #[arg(long)]
    pub(crate) header: Vec<String>,
    #[arg(long, default_value = "")]
    pub(crate) body: String,
    #[arg(long, default_value_t = 3_000)]
    pub(crate) timeout_ms: u64,
}

/// How a request went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The HTTP status, 0 without an answer.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) ms: f64,
    /// Why there was no answer: `timed out`, `connection refused`, ...
    pub(crate) error: Option<String>,
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// Connections tried over and over.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KnockArgs {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// A new connection is tried this often.
    #[arg(long)]
    pub(crate) every_ms: u64,
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Comes from this address instead of the host's first one.
    #[arg(long)]
    pub(crate) from: Option<IpAddr>,
}

/// What came of the knocking.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct KnockResult {
    pub(crate) tried: u32,
    /// Let in.
    pub(crate) connected: u32,
    /// When, in milliseconds since 1970: so that another process can say what was going on.
    pub(crate) connected_at: Vec<u64>,
    /// Answered by a reset: not let in, but the host showed that it is there.
    pub(crate) refused: u32,
    /// Could not even be tried: no route, no free port.
    pub(crate) unsent: u32,
}

/// Runs one helper and prints its answer.
pub(crate) fn helper<T: Serialize>(work: impl Future<Output = Result<T>>) -> Result<()> {
    say::line(&serde_json::to_string(&block_on(work)?)?);
    Ok(())
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Sends one request. Never fails: the failure is the answer.
pub(crate) async fn http(args: HttpArgs) -> Result<Answer> {
    let start = Instant::now();
    let exchanged =
        time::timeout(Duration::from_millis(args.timeout_ms), exchange(args.to, &args)).await;
    let mut answer = match exchanged {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => Answer { error: Some(format!("{e:#}")), ..Answer::default() },
        Err(_) => Answer { error: Some("timed out".to_owned()), ..Answer::default() },
    };
    answer.ms = ms(start.elapsed());
    Ok(answer)
}

async fn exchange(to: SocketAddr, args: &HttpArgs) -> Result<Answer> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", args.method, args.path, to.ip());
    for header in &args.header {
        head += &format!("{header}\r\n");
    }
    head +=
        &format!("Content-Length: {}\r\nConnection: close\r\n\r\n{}", args.body.len(), args.body);
    stream.write_all(head.as_bytes()).await.context("send")?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).await.context("receive")?;
    parse(&bytes)
}

/// Reads a whole answer; one that is shorter than it says is an error.
fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the answer broke off after {} bytes", bytes.len());
    };
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .context("the answer is no HTTP")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let answer = Answer { status, headers, body: body.to_owned(), ..Answer::default() };
    if let Some(length) = answer.header("content-length").and_then(|l| l.parse::<usize>().ok())
        && body.len() < length
    {
        bail!("the answer broke off: {} of {length} bytes", body.len());
    }
    Ok(answer)
}

/// Nearest-rank percentile of sorted values; 0 of none.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// Tries to connect, again and again, and counts who let it in.
pub(crate) async fn knock(args: KnockArgs) -> Result<KnockResult> {
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut ticks = time::interval(Duration::from_millis(args.every_ms.max(1)));
    let mut open: JoinSet<Knock> = JoinSet::new();
    let mut result = KnockResult::default();
    while Instant::now() < end {
        ticks.tick().await;
        if open.len() < MAX_OPEN {
            let (to, from) = (args.to, args.from);
            result.tried += 1;
            open.spawn(async move {
                // Bounded by the whole: a knock that is still open at the end was not let in.
                knock_once(to, from).await
            });
        }
    }
    // Unanswered connections send their first packet again after 1 s: they count until then.
    let grace = time::sleep(Duration::from_millis(1_200));
    tokio::pin!(grace);
    loop {
        // Losing the timer arm only ends the wait; losing the other leaves the set as it is.
        tokio::select! {
            () = &mut grace => break,
            ended = open.join_next() => match ended {
                Some(Ok(Knock::In(at))) => {
                    result.connected += 1;
                    result.connected_at.push(at);
                }
                Some(Ok(Knock::Refused)) => result.refused += 1,
                Some(Ok(Knock::Unsent)) => result.unsent += 1,
                Some(Ok(Knock::Silence)) => {}
                Some(Err(e)) => return Err(e.into()),
                None => break,
            },
        }
    }
    Ok(result)
}

#[derive(Clone, Copy, Debug)]
enum Knock {
    In(u64),
    Refused,
    Silence,
    Unsent,
}

async fn knock_once(to: SocketAddr, from: Option<IpAddr>) -> Knock {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let Ok(socket) = socket else { return Knock::Unsent };
    if let Some(from) = from
        && socket.bind(SocketAddr::new(from, 0)).is_err()
    {
        return Knock::Unsent;
    }
    match socket.connect(to).await {
        Ok(_) => Knock::In(host::unix_millis()),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Knock::Refused,
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Knock::Silence,
        Err(_) => Knock::Unsent,
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_short_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parse(whole).unwrap().body, "hello");
        assert!(parse(&whole[..whole.len() - 1]).unwrap_err().to_string().contains("4 of 5"));
        assert!(parse(b"HTTP/1.1 200 OK\r\nCont").is_err());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let v: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(
            (percentile(&v, 50), percentile(&v, 99), percentile(&v, 100)),
            (100.0, 198.0, 200.0)
        );
        assert_eq!(percentile(&[], 99), 0.0);
    }

    #[tokio::test]
    async fn a_knock_tells_open_from_closed() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let args = KnockArgs { to, every_ms: 5, seconds: 0.05, from: None };
        let open = knock(args.clone()).await.unwrap();
        assert!(open.tried > 2 && open.connected == open.tried, "{open:?}");
        drop(server);
        let closed = knock(args).await.unwrap();
        assert!(closed.connected == 0 && closed.refused == closed.tried, "{closed:?}");
    }
}
