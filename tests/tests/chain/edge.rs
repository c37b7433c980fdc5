//! CloudFront's edge as the origin sees it: requests from an address of its ranges, one after another
//! on several connections, each with a number of its own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use palisade_hosts::lab::Lab;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

/// Viewers at once.
const VIEWERS: usize = 3;
/// Rest of a viewer between two pages.
const REST: Duration = Duration::from_millis(40);
/// How long a page may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest page that is read.
const MAX_PAGE: u64 = 1 << 20;
/// Failures that are kept in words.
const MAX_TOLD: usize = 10;

/// What came of requests.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Numbers of the requests that were answered with the page.
    pub(crate) answered: Vec<u64>,
    /// What went wrong with others, in words, of the first few.
    pub(crate) failures: Vec<String>,
    /// How many went wrong.
    pub(crate) failed: usize,
    /// The longest time for an answer.
    pub(crate) slowest: Duration,
}

/// Requests that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Traffic>>>,
}

impl Load {
    /// Begins to ask `origin` from `edge`.
    pub(crate) fn start(lab: &Lab, edge: IpAddr, origin: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (lab, stopped, count) = (lab.clone(), stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            lab.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async move {
                let mut viewers = tokio::task::JoinSet::new();
                for _ in 0..VIEWERS {
                    viewers.spawn(view(edge, origin, stopped.clone(), count.clone()));
                }
                let mut all = Traffic::default();
                while let Some(one) = viewers.join_next().await {
                    all.add(one.unwrap_or_default());
                }
                all
            }))
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// How many requests were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Lets each viewer end its page, and says what came of all.
    pub(crate) fn finish(mut self) -> Result<Traffic> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("it was finished before")?;
        thread.join().unwrap_or_else(|_| bail!("the load panicked"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // The test failed for another reason by now.
            thread.join().map(drop).unwrap_or_default();
        }
    }
}

impl Traffic {
    fn add(&mut self, other: Self) {
        self.answered.extend(other.answered);
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(MAX_TOLD);
        self.slowest = self.slowest.max(other.slowest);
    }
}

async fn view(
    edge: IpAddr,
    origin: SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Traffic {
    let mut traffic = Traffic::default();
    while !stop.load(Ordering::SeqCst) {
        let n = sent.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        match page(edge, origin, &format!("/?n={n}")).await {
            Ok(_) => traffic.answered.push(n),
            Err(e) => {
                traffic.failed += 1;
                if traffic.failures.len() < MAX_TOLD {
                    traffic.failures.push(format!("request {n}: {e:#}"));
                }
            }
        }
        traffic.slowest = traffic.slowest.max(begun.elapsed());
        sleep(REST).await;
    }
    traffic
}

/// One page on a connection of its own, from an address of ours.
async fn page(from: IpAddr, origin: SocketAddr, path: &str) -> Result<String> {
    let answer = timeout(PATIENCE, async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0)).context("take the edge's address")?;
        let mut stream = socket.connect(origin).await.context("connect")?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut answer = Vec::new();
        stream.take(MAX_PAGE).read_to_end(&mut answer).await.context("receive")?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer.await.context("no answer in time")??;
    let head = answer.lines().next().unwrap_or("no answer at all");
    if !head.contains(" 200 ") || !answer.contains("</html>") {
        bail!("{head}");
    }
    Ok(answer)
}

/// Whether a page comes to somebody at `from`; the error says why not.
pub(crate) fn visit(lab: &Lab, from: IpAddr, origin: SocketAddr, cap: Duration) -> Result<String> {
    lab.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime
            .block_on(async { timeout(cap, page(from, origin, "/")).await.context("no answer")? })
    })
}
