//! An instance metadata service as EC2 has it, IMDSv2 only: a token bound to its caller and its time,
//! no answer to forwarded requests. Who asks is told by the address; what he is told may be changed
//! while hosts run.

mod documents;

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::lab::{Lab, METADATA};

/// A caller that is slower than this is not answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request's head is not longer.
const MAX_HEAD: u64 = 8 << 10;
/// Callers at once; more are hung up on.
const MAX_CALLERS: u32 = 64;
/// Tokens that are kept; the oldest goes first.
const MAX_TOKENS: usize = 1_000;
/// What EC2 allows.
const MAX_TTL: u64 = 21_600;

/// What one host is told about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `i-...`
    pub instance_id: String,
    /// Its instance profile's role; none has no credentials.
    pub role: Option<String>,
    /// Its region.
    pub region: String,
    /// The letter of its zone.
    pub zone: char,
    /// Seconds until its credentials expire; negative for ones that did.
    pub credentials_for: i64,
    /// `InService`, `Terminated`: what the Auto Scaling group wants of it.
    pub lifecycle: String,
    /// A spot interruption: the JSON document, if there is one.
    pub spot_action: Option<String>,
    /// Its user data.
    pub user_data: Option<String>,
    /// Its tags, if they may be read from here.
    pub tags: BTreeMap<String, String>,
    /// The key it was launched with.
    pub ssh_key: Option<String>,
    /// Whether the service answers 503.
    pub down: bool,
}

impl Identity {
    /// An origin host in Ireland.
    #[must_use]
    pub fn new(instance_id: &str) -> Self {
        Self {
            instance_id: instance_id.to_owned(),
            role: Some("palisade-origin".to_owned()),
            region: "eu-west-1".to_owned(),
            zone: 'a',
            credentials_for: 3_600,
            lifecycle: "InService".to_owned(),
            spot_action: None,
            user_data: None,
            tags: BTreeMap::from([("Name".to_owned(), instance_id.to_owned())]),
            ssh_key: None,
            down: false,
        }
    }
}

/// The running service. It ends when dropped.
#[derive(Debug)]
pub struct Imds {
    state: Arc<State>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    hosts: Mutex<HashMap<IpAddr, Identity>>,
    tokens: Mutex<Vec<Token>>,
    made: AtomicU32,
    callers: AtomicU32,
}

#[derive(Debug)]
struct Token {
    text: String,
    of: IpAddr,
    until: Instant,
}

impl Imds {
    /// Starts it at the metadata address of a network.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::serve(lab.listen(SocketAddr::new(METADATA.parse()?, 80))?)
    }

    fn serve(listener: TcpListener) -> Result<Self> {
        let state = Arc::new(State::default());
        let (accepting, shared) =
            (listener.try_clone().context("share the socket")?, state.clone());
        let thread = thread::spawn(move || accept(&accepting, &shared));
        Ok(Self { state, listener, thread: Some(thread) })
    }

    /// Gives the host at this address an identity, in place of one that it may have.
    pub fn set(&self, address: IpAddr, identity: Identity) {
        lock(&self.state.hosts).insert(address, identity);
    }

    /// Changes a host's identity.
    ///
    /// # Panics
    /// When it has none.
    pub fn change(&self, address: IpAddr, change: impl FnOnce(&mut Identity)) {
        change(lock(&self.state.hosts).get_mut(&address).unwrap());
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        // Wakes the thread that accepts: it gets an error and ends.
        shutdown(self.listener.as_raw_fd(), Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, caller)) = listener.accept() {
        if state.callers.fetch_add(1, Ordering::Relaxed) >= MAX_CALLERS {
            state.callers.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let state = state.clone();
        thread::spawn(move || {
            // A caller that hung up needs no answer.
            answer(&stream, caller.ip(), &state).ok();
            state.callers.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

type Answer = (u16, String, Option<u64>);

fn answer(stream: &TcpStream, caller: IpAddr, state: &State) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read(stream)?;
    let (status, body, ttl) = decide(&request, caller, state);
    let ttl =
        ttl.map(|t| format!("X-aws-ec2-metadata-token-ttl-seconds: {t}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{ttl}\
         Server: EC2ws\r\nConnection: close\r\n\r\n",
        reason(status),
        body.len()
    );
    (&mut &*stream).write_all(format!("{head}{body}").as_bytes()).context("answer")
}

fn read(stream: &TcpStream) -> Result<Request> {
    let mut lines = BufReader::new(stream.take(MAX_HEAD)).lines();
    let first = lines.next().context("no request")??;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, ..Request::default() };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(request)
}

fn decide(request: &Request, caller: IpAddr, state: &State) -> Answer {
    let host = lock(&state.hosts).get(&caller).cloned();
    if host.as_ref().is_some_and(|h| h.down) {
        return (503, String::new(), None);
    }
    match request.method.as_str() {
        "PUT" if request.path == "/latest/api/token" => give_token(request, caller, state),
        "GET" => {
            let token = request.headers.get("x-aws-ec2-metadata-token");
            if !token.is_some_and(|t| is_valid(t, caller, state)) {
                return (401, String::new(), None);
            }
            let found = host.and_then(|h| documents::find(&request.path, caller, &h));
            found.map_or((404, String::new(), None), |body| (200, body, None))
        }
        "PUT" => (404, String::new(), None),
        _ => (405, String::new(), None),
    }
}

fn give_token(request: &Request, caller: IpAddr, state: &State) -> Answer {
    if request.headers.contains_key("x-forwarded-for") {
        return (403, String::new(), None);
    }
    let ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds");
    let Some(ttl) = ttl.and_then(|t| t.parse().ok()).filter(|t| (1..=MAX_TTL).contains(t)) else {
        return (400, String::new(), None);
    };
    let number = state.made.fetch_add(1, Ordering::Relaxed);
    let text = format!("AQAEATest{number:08}-{caller}==");
    let until = Instant::now() + Duration::from_secs(ttl);
    let mut tokens = lock(&state.tokens);
    if tokens.len() >= MAX_TOKENS {
        tokens.remove(0);
    }
    tokens.push(Token { text: text.clone(), of: caller, until });
    (200, text, Some(ttl))
}

fn is_valid(token: &str, caller: IpAddr, state: &State) -> bool {
    let now = Instant::now();
    lock(&state.tokens).iter().any(|t| t.text == token && t.of == caller && now < t.until)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Not Found",
    }
}

#[cfg(test)]
mod tests;
