//! Visitors who come at a steady rate, each with a connection of its own.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Threads, each with one visitor after the other.
const LANES: u32 = 4;

/// How long a visitor waits for an answer before it is one that failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where they go.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What one visitor met.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) took: Duration,
    /// The body, or what went wrong.
    pub(crate) answer: Result<String, String>,
}

pub(crate) struct Visitors {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Vec<Visit>>>,
}

impl Visitors {
    /// They come `per_second` in all, until [`Self::end`].
    pub(crate) fn start(door: &Door, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let every = Duration::from_secs(1) * LANES / per_second;
        let lane = |number: u32| {
            let (stop, door) = (Arc::clone(&stop), door.clone());
            thread::spawn(move || {
                let mut seen = Vec::new();
                let mut next = Instant::now() + every * number / LANES;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += every;
                    seen.push(visit(&door));
                }
                seen
            })
        };
        let lanes = (0..LANES).map(lane).collect();
        Self { stop, lanes }
    }

    pub(crate) fn end(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        self.lanes.into_iter().flat_map(|l| l.join().unwrap()).collect()
    }
}

pub(crate) fn visit(door: &Door) -> Visit {
    let began = Instant::now();
    let answer = match door {
        Door::Tcp(addr) => TcpStream::connect_timeout(addr, PATIENCE).and_then(|s| {
            s.set_read_timeout(Some(PATIENCE))?;
            get(s)
        }),
        Door::Unix(path) => UnixStream::connect(path).and_then(|s| {
            s.set_read_timeout(Some(PATIENCE))?;
            get(s)
        }),
    };
    Visit { took: began.elapsed(), answer: answer.map_err(|e| e.to_string()) }
}

fn get(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(body.trim().to_owned())
}

/// None of them failed; prints how long they waited.
pub(crate) fn none_failed(what: &str, visits: &[Visit]) {
    let failed: Vec<_> = visits.iter().filter_map(|v| v.answer.as_ref().err()).collect();
    let mut took: Vec<_> = visits.iter().map(|v| v.took.as_millis()).collect();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).unwrap();
    println!(
        "{what}: {} visitors, {} failed, p50 {} ms, p99 {} ms, longest {} ms",
        visits.len(),
        failed.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(failed.is_empty(), "{what}: {} of {} failed: {failed:?}", failed.len(), visits.len());
}
