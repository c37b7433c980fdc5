//! How others talk to the access task.

use std::{collections::BTreeMap, fmt, io, net::IpAddr, sync::Arc, time::Duration};

use palisade_types::grant::{GrantId, GrantReply, GrantRequest, Revoked, VERSION};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::spawn_blocking,
    time,
};

use super::{
    audit::Entry,
    model::{Account, Grant, Process, Session},
    policy::Refusal,
    ports::Facts,
    settings::Settings,
    status::Status,
};

/// Questions that wait at once; whoever asks one more waits for room, except sshd's helper, which is
/// refused.
pub(super) const QUEUE: usize = 64;
/// How long the user database may take.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Policy says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user database does not answer.
    #[error("look up the user")]
    LookUp(#[source] io::Error),
    /// It could not be written down, so it could neither be ended nor refused a second time.
    #[error("write the grant down")]
    Journal(#[source] io::Error),
    /// The task has ended.
    #[error("the access task has ended")]
    Gone,
}

/// Why nothing was revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// There is none.
    #[error("there is no live grant {0}")]
    Unknown(GrantId),
    /// The task has ended.
    #[error("the access task has ended")]
    Gone,
}

#[derive(Debug)]
pub(super) enum Command {
    Grant {
        request: Box<GrantRequest>,
        account: Option<Account>,
        by: String,
        reply: oneshot::Sender<Result<Box<Grant>, GrantError>>,
    },
    Revoke {
        id: GrantId,
        by: String,
        reply: oneshot::Sender<Result<Revoked, RevokeError>>,
    },
    /// A request that could not even be read.
    Unreadable {
        why: String,
        by: String,
    },
    /// An sshd is about to be told a grant's key: it is told if the answer is true.
    Attempt {
        grant: GrantId,
        session: Session,
        reply: oneshot::Sender<bool>,
    },
    /// An sshd asked for another key.
    OtherKey(Process),
    /// A granted key was used where it must not be.
    LoginRefused {
        grant: GrantId,
        session_owner: Option<String>,
        session_id: Option<String>,
        sshd: Option<Process>,
        why: String,
    },
}

/// Talks to the access task. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) direct: watch::Receiver<BTreeMap<IpAddr, u64>>,
    pub(super) entries: broadcast::Sender<Entry>,
    pub(super) facts: Arc<dyn Facts>,
    pub(super) settings: Arc<Settings>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access::Handle")
    }
}

impl Handle {
    /// The state as last published.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The state, to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Addresses that live grants may be used from straight.
    #[must_use]
    pub fn direct(&self) -> watch::Receiver<BTreeMap<IpAddr, u64>> {
        self.direct.clone()
    }

    /// Every line of the audit log from now on.
    #[must_use]
    pub fn entries(&self) -> broadcast::Receiver<Entry> {
        self.entries.subscribe()
    }

    /// Grants, if policy allows.
    ///
    /// # Errors
    /// Why not.
    pub async fn grant(&self, request: GrantRequest, by: String) -> Result<GrantReply, GrantError> {
        let (facts, user) = (Arc::clone(&self.facts), request.user.clone());
        let look_up = spawn_blocking(move || facts.account(&user));
        let account = match time::timeout(LOOK_UP_WITHIN, look_up).await {
            Ok(Ok(found)) => found.map_err(GrantError::LookUp)?,
            Ok(Err(e)) => return Err(GrantError::LookUp(io::Error::other(e))),
            Err(_) => return Err(GrantError::LookUp(io::ErrorKind::TimedOut.into())),
        };
        let (reply, answer) = oneshot::channel();
        let (ttl, request) = (request.ttl, Box::new(request));
        let command = Command::Grant { request, account, by, reply };
        self.commands.send(command).await.map_err(|_| GrantError::Gone)?;
        let grant = answer.await.map_err(|_| GrantError::Gone)??;
        let facts = Arc::clone(&self.facts);
        let host_keys = spawn_blocking(move || facts.host_keys()).await.unwrap_or_default();
        Ok(GrantReply {
            v: VERSION,
            fingerprint: grant.key.fingerprint(),
            id: grant.id,
            user: grant.user,
            expires_at: grant.expires_at.as_secs(),
            ttl_s: ttl,
            only: grant.only,
            ssh_port: self.settings.ssh_port,
            host_keys,
            binding: self.settings.binding,
        })
    }

    /// Notes a request that could not even be read.
    pub async fn unreadable(&self, why: String, by: String) {
        // A task that ended notes nothing.
        drop(self.commands.send(Command::Unreadable { why, by }).await);
    }

    /// Ends a grant and its logins.
    ///
    /// # Errors
    /// When there is no such live grant.
    pub async fn revoke(&self, id: GrantId, by: String) -> Result<Revoked, RevokeError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Revoke { id, by, reply };
        self.commands.send(command).await.map_err(|_| RevokeError::Gone)?;
        answer.await.map_err(|_| RevokeError::Gone)?
    }
}
