//! The task of a session: owns the socket, makes it again when it is lost, terminates at the end.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use uuid::Uuid;

use crate::{
    dial::{DialError, Wire},
    end::End,
    frame::Flag,
    machine::{Limits, Machine},
    serve::{Goal, Link, Out},
    service::{Resumed, Service, ServiceError, Started},
    session::{Options, State},
    stream::Shared,
};

/// For ending a session, all in all.
const TERMINATE: Duration = Duration::from_secs(3);
/// Of it, for the agent to hear it through the channel.
const FLAG: Duration = Duration::from_secs(1);
/// For `ResumeSession`.
const RESUME: Duration = Duration::from_secs(15);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(15);
/// Sockets in a row that end before the agent has said anything, until a session that never was live
/// counts as hopeless.
const FRUITLESS: u32 = 4;
/// A socket that lives longer was a real one.
const SHORT: Duration = Duration::from_secs(10);

/// The task's state.
pub(crate) struct Driver<S> {
    shared: Arc<Shared>,
    started: Started,
    service: S,
    options: Options,
    report: watch::Sender<State>,
    stop: CancellationToken,
    close: CancellationToken,
    client: Uuid,
    link: Link,
    /// Sockets in a row that ended soon and without a word of the agent.
    fruitless: u32,
}

impl<S: Service> Driver<S> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        started: Started,
        service: S,
        options: Options,
        report: watch::Sender<State>,
        stop: CancellationToken,
        close: CancellationToken,
    ) -> Self {
        let limits = Limits { frame: options.frame, window: options.window };
        let machine = Machine::new(limits, Uuid::new_v4(), wall_ms());
        let link =
            Link::new(machine, shared.clone(), report.clone(), Instant::now(), options.handshake);
        Self {
            shared,
            started,
            service,
            options,
            report,
            stop,
            close,
            client: Uuid::new_v4(),
            link,
            fruitless: 0,
        }
    }

    /// Runs the session to its end.
    pub(crate) async fn run(mut self) {
        let mut wire = None;
        let end = self.drive(&mut wire).await;
        info!(session = %self.started.session_id, %end, "session ended");
        self.shared.end(end.clone());
        // The service has ended a closed session by itself.
        if !matches!(end, End::Closed { .. }) {
            self.terminate(wire).await;
        }
        self.report.send_replace(State::Ended(end));
    }

    async fn drive(&mut self, slot: &mut Option<Wire>) -> End {
        let mut lost = None;
        loop {
            let stop = self.stop.clone();
            let close = self.close.clone();
            // Losing the dial loses nothing: a half-made socket is closed by dropping it.
            let dialled = tokio::select! {
                () = stop.cancelled() => return End::Cancelled,
                () = close.cancelled() => return End::Cancelled,
                dialled = Box::pin(self.dial(lost.take())) => dialled,
            };
            let wire = match dialled {
                Ok(wire) => slot.insert(wire),
                Err(end) => return end,
            };
            let made = Instant::now();
            let why = match self.link.serve(wire, Goal::Run, &self.stop, &self.close).await {
                Out::End(end) => return end,
                Out::Lost(why) => why,
            };
            *slot = None;
            // An idle session may hear nothing for hours; a socket that ends at once is no socket.
            let fruitless = !self.link.heard_agent() && made.elapsed() < SHORT;
            self.fruitless = if fruitless { self.fruitless + 1 } else { 0 };
            if self.fruitless >= FRUITLESS && !self.link.is_live() {
                return End::Handshake { why };
            }
            debug!(session = %self.started.session_id, why, "connection lost");
            lost = Some(why);
        }
    }

    /// Makes a socket: the first with what `StartSession` gave, every other after `ResumeSession`.
    async fn dial(&mut self, mut lost: Option<String>) -> Result<Wire, End> {
        let since = Instant::now();
        let mut attempt = 0;
        loop {
            let step = match &lost {
                None => Ok(()),
                Some(why) => {
                    self.report.send_replace(State::Reconnecting { why: why.clone(), attempt });
                    if attempt > 0 || self.fruitless > 0 {
                        tokio::time::sleep(self.wait(attempt + self.fruitless)).await;
                    }
                    attempt += 1;
                    self.resume(why).await
                }
            };
            let why = match step {
                Ok(()) => match self.open().await {
                    Ok(wire) => return Ok(wire),
                    Err(DialError::Never(end)) => return Err(end),
                    Err(DialError::Later(why)) => why,
                },
                Err(error) => error.into_end()?,
            };
            debug!(session = %self.started.session_id, why, attempt, "attempt failed");
            let tried = since.elapsed();
            if self.link.is_new() && tried >= self.options.handshake {
                return Err(End::Unreachable { why });
            }
            if tried >= self.options.resume_for {
                return Err(End::Lost { why, tried });
            }
            lost = Some(why);
        }
    }

    async fn open(&mut self) -> Result<Wire, DialError> {
        let Started { token, stream_url, .. } = &self.started;
        let dialer = &self.options.dialer;
        let wire = dialer.dial(&self.service, self.client, token, stream_url).await?;
        self.link.connected();
        Ok(wire)
    }

    async fn resume(&mut self, lost: &str) -> Result<(), ResumeError> {
        let answer = timeout(RESUME, self.service.resume()).await;
        match answer.map_err(|_| ServiceError::Later("ResumeSession: no answer".into()))?? {
            Resumed::With { token, stream_url } => {
                self.started.token = token;
                self.started.stream_url = stream_url;
                Ok(())
            }
            Resumed::Gone => Err(ResumeError::Gone(lost.to_owned())),
        }
    }

    /// Doubling, up to a limit, spread over half its length.
    fn wait(&mut self, attempt: u32) -> Duration {
        let full = FIRST_WAIT.saturating_mul(1 << attempt.min(10)).min(LAST_WAIT);
        let part = u32::try_from(self.link.random() % 1024).unwrap_or(0);
        full / 2 + full / 2 * part / 1024
    }

    /// Tells the agent through the channel and the service by its API, whichever hears first.
    async fn terminate(&mut self, wire: Option<Wire>) {
        let Self { link, service, stop, close, .. } = self;
        let by_flag = async {
            let (Some(mut wire), true) = (wire, link.knows_terminate()) else { return };
            let flag = link.flag(Flag::Terminate);
            let goal = Goal::Arrive { flag, until: link.now() + FLAG };
            link.serve(&mut wire, goal, stop, close).await;
            bye(&mut wire).await;
        };
        let by_api = async {
            if let Err(error) = service.terminate().await {
                info!(%error, "session could not be terminated; it ends by its idle timeout");
            }
        };
        let both = async { tokio::join!(by_flag, by_api) };
        if timeout(TERMINATE, Box::pin(both)).await.is_err() {
            info!("terminating the session took too long; it ends by its idle timeout");
        }
    }
}

/// Closes a WebSocket as one should.
async fn bye(wire: &mut Wire) {
    let close = std::future::poll_fn(|cx| futures_util::Sink::poll_close(Pin::new(&mut *wire), cx));
    // The session is over either way.
    drop(timeout(Duration::from_millis(200), close).await);
}

enum ResumeError {
    Gone(String),
    Service(ServiceError),
}

impl From<ServiceError> for ResumeError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl ResumeError {
    fn into_end(self) -> Result<String, End> {
        match self {
            Self::Gone(why) => Err(End::Gone { why }),
            Self::Service(error) => error.into_end(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "frames carry the date; read once, at the edge")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
