//! Visitors that come through an edge which keeps its connections open, and repeats a request once if the
//! origin closed an idle one just then, as every HTTP client does.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// What the visitors of one edge met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    pub(crate) well: usize,
    pub(crate) repeated: usize,
    pub(crate) bad: Vec<String>,
}

pub(crate) struct Edge {
    sends: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Met>,
}

impl Edge {
    /// Sends requests with this secret, one after the other.
    pub(crate) fn start(origin: SocketAddr, secret: &str) -> Self {
        let sends = Arc::new(Mutex::new(secret.to_owned()));
        let stop = Arc::new(AtomicBool::new(false));
        let (secret, ends) = (Arc::clone(&sends), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut met = Met::default();
            let mut kept = None;
            while !ends.load(Ordering::Relaxed) {
                let secret = secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let was_kept = kept.is_some();
                let mut answer = ask(origin, &mut kept, &secret);
                if was_kept && answer.as_ref().is_err_and(is_closed) {
                    met.repeated += 1;
                    answer = ask(origin, &mut kept, &secret);
                }
                match answer {
                    Ok(200) => met.well += 1,
                    Ok(status) => met.bad.push(status.to_string()),
                    Err(e) => met.bad.push(e.to_string()),
                }
                // Some rest, so that the other side is not starved.
                thread::sleep(Duration::from_millis(1));
            }
            met
        });
        Self { sends, stop, thread }
    }

    /// Sends another secret from now on.
    pub(crate) fn sends(&self, secret: &str) {
        secret.clone_into(&mut self.sends.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn end(self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Closed before a single byte of an answer: it was not asked yet.
fn is_closed(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn ask(origin: SocketAddr, kept: &mut Option<TcpStream>, secret: &str) -> io::Result<u16> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(origin)?,
    };
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!("GET / HTTP/1.1\r\nHost: site\r\nX-Origin-Verify: {secret}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let (status, length, start) = loop {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            let kind =
                if answer.is_empty() { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, "closed"));
        }
        answer.extend_from_slice(&piece[..n]);
        if let Some(at) = answer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
            let of = |name: &str| head.lines().find_map(|l| l.strip_prefix(name));
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            let length = of("content-length: ").and_then(|l| l.parse().ok()).unwrap_or(0_usize);
            if of("connection: close").is_none() {
                *kept = Some(stream.try_clone()?);
            }
            break (status, length, at + 4);
        }
    };
    while answer.len() < start + length {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Err(io::Error::other("cut"));
        }
        answer.extend_from_slice(&piece[..n]);
    }
    Ok(status)
}
