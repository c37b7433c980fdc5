//! Answers sshd's helper: may this key log in as this user, and with which line?
//!
//! Protocol: one JSON object on a line, one answer on a line, end. A key that no grant has is answered
//! from memory. Only for one that a grant has does it look where the connection comes from. The helper
//! is asked twice for each login, so asking changes nothing but the list of who may be logged in.

use std::{collections::BTreeSet, fmt, io, sync::Arc, time::Duration};

use palisade_types::{
    ED25519, Ed25519Key,
    grant::{Binding, Source},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    binding::{Judged, Traced, Unknown, judge},
    handle::Command,
    keys::authorized_line,
    model::{Grant, Moment, Process, Session},
    ports::{Clocks, Tracer},
};
use crate::task::Scope;

/// Longest question and answer in bytes.
pub const MAX_LINE: usize = 4096;
/// Questions at a time; a further one waits in the kernel's queue, for as long as its helper does.
const AT_ONCE: usize = 128;
/// A question that is not asked and answered by then is dropped: the helper is gone soon after.
const WITHIN: Duration = Duration::from_millis(1200);
/// How long open questions may go on once the server is told to stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// The rest after a refused accept, usually for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What the helper asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Version.
    pub v: u32,
    /// sshd's `%u`.
    pub user: String,
    /// sshd's `%t`.
    pub kind: String,
    /// sshd's `%k`.
    pub key: String,
}

/// What it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Version.
    pub v: u32,
    /// Lines of `authorized_keys`; none if no grant has the key.
    pub lines: Vec<String>,
}

const VERSION: u32 = 1;

/// A question as it travels.
///
/// # Errors
/// Never in practice: it is plain data.
pub fn encode_question(user: &str, kind: &str, key: &str) -> serde_json::Result<Vec<u8>> {
    let (user, kind, key) = (user.to_owned(), kind.to_owned(), key.to_owned());
    let mut line = serde_json::to_vec(&Question { v: VERSION, user, kind, key })?;
    line.push(b'\n');
    Ok(line)
}

/// The lines of an answer; none if anything about it is odd, as it goes to sshd.
#[must_use]
pub fn decode_answer(bytes: &[u8]) -> Option<Vec<String>> {
    let answer: Answer = serde_json::from_slice(bytes.strip_suffix(b"\n")?).ok()?;
    let plain = |l: &String| {
        l.starts_with("restrict,") && l.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    };
    (answer.v == VERSION && answer.lines.len() <= 1 && answer.lines.iter().all(plain))
        .then_some(answer.lines)
}

/// The keys that may log in, as the task publishes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) grants: Vec<Grant>,
    /// Connections that were told a key and are not logged in yet.
    pub(super) waiting: BTreeSet<Process>,
    pub(super) binding: Binding,
    pub(super) slack: Duration,
}

/// The server, to be run.
pub struct Server {
    pub(super) keys: watch::Receiver<Arc<Keys>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) clocks: Arc<dyn Clocks>,
    pub(super) tracer: Arc<dyn Tracer>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access::Server")
    }
}

impl Server {
    /// Answers users with one of these numbers until told to stop.
    pub async fn run(self, listener: UnixListener, askers: Vec<u32>, stop: CancellationToken) {
        let server = Arc::new(self);
        let askers: Arc<[u32]> = askers.into();
        let mut questions = Scope::new(&stop);
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // Each arm only waits: a slot not used is given back, a connection not accepted stays in
            // the kernel's queue.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = questions.next_end() => {}
                accepted = async {
                    let slot = Arc::clone(&slots).acquire_owned().await;
                    (slot, listener.accept().await)
                } => match accepted {
                    (Ok(slot), Ok((stream, _))) => {
                        let (server, askers) = (Arc::clone(&server), Arc::clone(&askers));
                        questions.spawn("authorized keys", async move {
                            match time::timeout(WITHIN, server.talk(stream, &askers)).await {
                                Ok(Ok(())) => {}
                                Ok(Err(e)) => tracing::debug!(error = %e, "a key was not asked for"),
                                Err(_) => tracing::warn!("a question for keys took too long"),
                            }
                            drop(slot);
                        });
                    }
                    (_, Err(e)) => {
                        tracing::warn!(error = %e, "sshd's helper could not be answered");
                        time::sleep(ACCEPT_REST).await;
                    }
                    (Err(_), _) => break,
                },
            }
        }
        questions.shut_down(PATIENCE).await;
    }

    async fn talk(&self, mut stream: UnixStream, askers: &[u32]) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        if !askers.contains(&peer.uid()) {
            return Err(io::Error::other(format!("uid {} may not ask", peer.uid())));
        }
        let pid = peer.pid().ok_or_else(|| io::Error::other("the asker has no pid"))?;
        let mut line = Vec::new();
        let limit = MAX_LINE as u64;
        loop {
            let more = (&mut stream).take(limit - line.len() as u64).read_buf(&mut line).await?;
            if line.ends_with(b"\n") || more == 0 || line.len() >= MAX_LINE {
                break;
            }
        }
        let question: Question = serde_json::from_slice(&line).map_err(io::Error::other)?;
        if question.v != VERSION {
            return Err(io::Error::other("a question of another version"));
        }
        let lines = self.lines(&question, pid).await.into_iter().collect();
        let mut answer = serde_json::to_vec(&Answer { v: VERSION, lines })?;
        answer.push(b'\n');
        stream.write_all(&answer).await
    }

    /// The line for this key, if there is one.
    async fn lines(&self, question: &Question, helper: i32) -> Option<String> {
        let now = self.clocks.now();
        let keys = Arc::clone(&self.keys.borrow());
        let Some(grant) = find(&keys, question, now) else {
            if !keys.waiting.is_empty() {
                self.other_key(&keys, helper).await;
            }
            return None;
        };
        let asked = self.trace(helper, grant.source).await;
        let (sshd, judged) = match asked {
            Ok((sshd, Some(traced))) => (sshd, judge(keys.binding, &grant.owner, &traced)),
            Ok((sshd, None)) => (sshd, Judged::Admit { session_id: None, unbound: None }),
            Err(unknown) => {
                self.refused(grant, None, None, None, unknown.to_string());
                return None;
            }
        };
        let (session_id, unbound) = match judged {
            Judged::Admit { session_id, unbound } => (session_id, unbound),
            Judged::Refuse { session_id, session_owner, why } => {
                self.refused(grant, session_owner, session_id, Some(sshd), why);
                return None;
            }
        };
        let now = self.clocks.now();
        let session = Session {
            sshd,
            session_id,
            since: now.wall,
            since_boot: now.boot,
            open: false,
            asked: 1,
            unbound,
        };
        let (reply, answer) = oneshot::channel();
        let attempt = Command::Attempt { grant: grant.id.clone(), session, reply };
        // Full or gone: nobody could end the login, so there is none.
        self.commands.try_send(attempt).ok()?;
        let told = answer.await.unwrap_or(false);
        told.then(|| authorized_line(grant, now)).flatten()
    }

    /// The sshd behind a helper, and for a grant that goes through a session where it comes from.
    async fn trace(
        &self,
        helper: i32,
        source: Source,
    ) -> Result<(Process, Option<Traced>), Unknown> {
        let tracer = Arc::clone(&self.tracer);
        let look = move || {
            let sshd = tracer.sshd_of(helper)?;
            let traced = match source {
                Source::Session => Some(tracer.trace(sshd)),
                // sshd itself checks the address: it is in the line.
                Source::Net(_) => None,
            };
            Ok((sshd, traced))
        };
        let failed = |e| Err(Unknown(format!("the connection could not be traced: {e}")));
        spawn_blocking(look).await.unwrap_or_else(failed)
    }

    async fn other_key(&self, keys: &Keys, helper: i32) {
        let tracer = Arc::clone(&self.tracer);
        let sshd = spawn_blocking(move || tracer.sshd_of(helper)).await;
        if let Ok(Ok(sshd)) = sshd
            && keys.waiting.contains(&sshd)
        {
            // Full: the attempt goes on being watched, which is the safe side.
            drop(self.commands.try_send(Command::OtherKey(sshd)));
        }
    }

    fn refused(
        &self,
        grant: &Grant,
        session_owner: Option<String>,
        session_id: Option<String>,
        sshd: Option<Process>,
        why: String,
    ) {
        tracing::warn!(grant = %grant.id, user = %grant.user, why, "a granted key was refused");
        let grant = grant.id.clone();
        // Full: it is in the agent's own log.
        drop(self.commands.try_send(Command::LoginRefused {
            grant,
            session_owner,
            session_id,
            sshd,
            why,
        }));
    }
}

fn find<'a>(keys: &'a Keys, question: &Question, now: Moment) -> Option<&'a Grant> {
    if question.kind != ED25519 {
        return None;
    }
    let key: Ed25519Key = question.key.parse().ok()?;
    let fits =
        |g: &&Grant| g.key == key && g.user.as_str() == question.user && g.is_live(now, keys.slack);
    keys.grants.iter().find(fits)
}
