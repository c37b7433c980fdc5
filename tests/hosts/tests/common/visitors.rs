//! Visitors of a site: one request after another from the lab's network, each on a connection of its
//! own, and every one that does not answer 200 is kept.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use palisade_hosts::lab::Lab;

/// Longer than NGINX waits for Gunicorn: then it is NGINX that says what is wrong.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many come at the same time.
const VISITORS: usize = 3;
/// Time between two visits of one visitor: the deployment needs the machine as well.
const PAUSE: Duration = Duration::from_millis(30);

/// Visitors that come until told to stop.
#[derive(Debug)]
pub(crate) struct Visitors {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

/// What they saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Requests that were answered by 200.
    pub(crate) good: u64,
    /// The others, in words.
    pub(crate) bad: Vec<String>,
    /// The longest that one waited.
    pub(crate) longest: Duration,
}

impl Visitors {
    /// Lets them come to one page of a site.
    pub(crate) fn come(lab: &Lab, to: SocketAddr, site: &'static str, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let threads = (0..VISITORS)
            .map(|_| {
                let (lab, stop, seen) = (lab.clone(), Arc::clone(&stop), Arc::clone(&seen));
                thread::spawn(move || {
                    lab.enter().unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        visit(to, site, path, &seen);
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        Self { stop, seen, threads }
    }

    /// Ends the visits and tells what they saw.
    pub(crate) fn go(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.threads {
            visitor.join().unwrap();
        }
        self.seen.lock().unwrap().clone()
    }
}

fn visit(to: SocketAddr, site: &str, path: &str, seen: &Mutex<Seen>) {
    let start = Instant::now();
    let said = get(to, site, path);
    let took = start.elapsed();
    let mut seen = seen.lock().unwrap();
    seen.longest = seen.longest.max(took);
    match said {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => seen.good += 1,
        Ok(answer) => seen.bad.push(answer.lines().next().unwrap_or("no answer").to_owned()),
        Err(e) => seen.bad.push(format!("after {took:?}: {e}")),
    }
}

/// One request: the whole answer, with its headers.
pub(crate) fn get(to: SocketAddr, site: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
