//! A running peer: its thread, what its parts share, and what tests ask of it.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, request};
use http_body_util::Full;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use crate::{
    ApiError, Cut, State, Stats, api,
    channel::{
        faults::{Faults, Hostile},
        session::{Event, Session},
    },
    clock,
    config::{Config, Instance, Key},
    documents::Documents,
    journal::Journal,
    keys::{Keys, Signer},
    lock, server,
};

/// Most violations that are kept; the first ones say the most.
const MOST_VIOLATIONS: usize = 1000;

/// A rule that a client broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// In which session; empty outside.
    pub session: String,
    /// Which rule.
    pub what: String,
}

/// A session as tests see it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Who started it.
    pub owner: String,
    /// The instance.
    pub target: String,
    /// The document.
    pub document: String,
    /// The reason that was given.
    pub reason: String,
    /// Where the agent connects.
    pub destination: String,
    /// Whether it lives.
    pub state: State,
    /// What happened in it.
    pub stats: Stats,
}

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) addr: SocketAddr,
    pub(crate) keys: Keys,
    pub(crate) documents: Documents,
    pub(crate) journal: Journal,
    pub(crate) instances: Mutex<Vec<Instance>>,
    pub(crate) sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    pub(crate) commands: Mutex<VecDeque<Arc<api::Command>>>,
    violations: Mutex<Vec<Violation>>,
    faults: watch::Sender<Arc<Faults>>,
    /// Calls that were throttled and broken since the faults were set.
    spent: [AtomicU64; 2],
    handle: Handle,
}

impl Shared {
    pub(crate) fn faults(&self) -> Arc<Faults> {
        self.faults.borrow().clone()
    }

    pub(crate) fn watch_faults(&self) -> watch::Receiver<Arc<Faults>> {
        self.faults.subscribe()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.spent.iter().for_each(|s| s.store(0, Ordering::Relaxed));
        self.faults.send_replace(Arc::new(faults));
    }

    /// Whether a call falls to the fault that refuses the first `most`.
    pub(crate) fn spend(&self, which: usize, most: u64) -> bool {
        let spend = |n: u64| (n < most).then_some(n + 1);
        self.spent[which].fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    pub(crate) fn violation(&self, session: &str, what: String) {
        let mut list = lock(&self.violations);
        if list.len() < MOST_VIOLATIONS {
            list.push(Violation { session: session.to_owned(), what });
        }
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    pub(crate) fn forgive(&self) {
        lock(&self.violations).clear();
    }

    /// Runs beside the caller until it ends or the peer does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        lock(&self.sessions).get(id).cloned()
    }

    pub(crate) fn instance(&self, id: &str) -> Option<Instance> {
        lock(&self.instances).iter().find(|i| i.id == id).cloned()
    }

    pub(crate) fn now_s(&self) -> i64 {
        clock::now_s() + self.faults().clock_ahead_s
    }

    pub(crate) fn views(&self) -> Vec<SessionView> {
        let view = |s: &Arc<Session>| {
            let inner = lock(&s.inner);
            SessionView {
                id: s.id.clone(),
                owner: s.owner.clone(),
                target: s.instance.id.clone(),
                document: s.document.clone(),
                reason: s.reason.clone(),
                destination: format!("{}:{}", s.target.host, s.target.port),
                state: inner.state.clone(),
                stats: inner.stats.clone(),
            }
        };
        lock(&self.sessions).values().map(view).collect()
    }

    pub(crate) fn tell(&self, session: &str, event: Event) -> bool {
        self.session(session).is_some_and(|s| s.events.try_send(event).is_ok())
    }

    pub(crate) fn cut(&self, session: &str, how: Cut) -> bool {
        let Some(session) = self.session(session) else { return false };
        let inner = lock(&session.inner);
        let Some(cut) = &inner.cut else { return false };
        cut.receiver_count() > 0 && cut.send_replace(Some(how)).is_none()
    }
}

/// A running peer on its own thread. It ends when dropped, with its sessions and commands.
#[derive(Debug)]
pub struct Peer {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Answers requests that another server received.
#[derive(Clone, Debug)]
pub struct Handler(Arc<Shared>);

impl Peer {
    /// Starts one.
    ///
    /// # Errors
    /// When the address cannot be had or a document is bad.
    pub fn start(config: Config) -> io::Result<Self> {
        let documents = Documents::load(config.documents.as_deref())?;
        let listener = std::net::TcpListener::bind(&config.listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            addr,
            keys: Keys::new(config.keys.clone(), &config.region),
            documents,
            journal: Journal::default(),
            instances: Mutex::new(config.instances.clone()),
            sessions: Mutex::default(),
            commands: Mutex::default(),
            violations: Mutex::default(),
            faults: watch::Sender::new(Arc::new(config.faults.clone())),
            spent: Default::default(),
            handle: runtime.handle().clone(),
            config,
        });
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = server::serve(listener, served) => {}
                    // Sent, or the sender is gone: an end either way.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(2));
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`: the endpoint of all services.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.addr)
    }

    /// `ws://127.0.0.1:PORT`: the endpoint of data channels.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.shared.addr)
    }

    /// Changes how it behaves, for sessions that run too.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = (*self.shared.faults()).clone();
        change(&mut faults);
        self.shared.set_faults(faults);
    }

    /// All sessions that were ever started.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        self.shared.views()
    }

    /// Rules that clients broke.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.violations()
    }

    /// Forgets them.
    pub fn forgive(&self) {
        self.shared.forgive();
    }

    /// Every call, as CloudTrail would have it.
    #[must_use]
    pub fn journal(&self) -> Vec<Value> {
        self.shared.journal.all()
    }

    /// Cuts the socket of a session; false if it has none.
    #[must_use]
    pub fn cut(&self, session: &str, how: Cut) -> bool {
        self.shared.cut(session, how)
    }

    /// Ends a session as the service does; false if it is over.
    #[must_use]
    pub fn end(&self, session: &str, output: &str) -> bool {
        let how = "ended by the service".to_owned();
        self.shared.tell(session, Event::End { how, output: output.to_owned() })
    }

    /// Sends what no agent would; false if the session is over.
    #[must_use]
    pub fn hostile(&self, session: &str, what: Hostile) -> bool {
        self.shared.tell(session, Event::Hostile(what))
    }

    /// Sends `pause_publication` (true) or `start_publication`; false if the session is over.
    #[must_use]
    pub fn pause(&self, session: &str, on: bool) -> bool {
        self.shared.tell(session, Event::Pause(on))
    }

    /// Adds an instance, or replaces the one of the same id.
    pub fn put_instance(&self, instance: Instance) {
        let mut list = lock(&self.shared.instances);
        list.retain(|i| i.id != instance.id);
        list.push(instance);
    }

    /// Adds a key, or replaces the one of the same name.
    pub fn put_key(&self, key: Key) {
        self.shared.keys.put(key);
    }

    /// For a server in front of this one.
    #[must_use]
    pub fn handler(&self) -> Handler {
        Handler(self.shared.clone())
    }

    /// Whether [`Peer::call`] knows this operation, with or without `AmazonSSM.` before it.
    #[must_use]
    pub fn owns(&self, target: &str) -> bool {
        api::owns(target)
    }

    /// One call of Systems Manager by somebody who is known already.
    ///
    /// # Errors
    /// As the service has them.
    pub async fn call(&self, op: &str, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
        api::call(&self.shared, op, body, signer).await
    }

    /// Waits for its end, which comes only by a signal to the process.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by then.
            thread.join().unwrap_or_default();
        }
    }
}

impl Handler {
    /// Whether [`Handler::answer`] knows this operation.
    #[must_use]
    pub fn owns(&self, target: &str) -> bool {
        api::owns(target)
    }

    /// Checks the signature of a request and answers it.
    pub async fn answer(&self, head: &request::Parts, body: &Bytes) -> Response<Full<Bytes>> {
        server::answer(&self.0, head, body).await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // It may have ended by itself.
            stop.send(()).unwrap_or_default();
            thread.join().unwrap_or_default();
        }
    }
}
