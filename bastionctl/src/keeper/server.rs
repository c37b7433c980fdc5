//! The keeper itself.

use std::{
    collections::HashMap,
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use palisade_types::grant::{GrantId, GrantReply};
use tokio::{net::UnixStream, sync::Mutex, task::JoinSet, time::timeout};

use super::{
    Places,
    wire::{First, Forget, Forgotten, Lines, Reply, Want},
};
use crate::{
    agent::{self, KeyAgent},
    clock, dirs,
    keys::EphemeralKey,
};

/// Users and hosts at a time; for one more, those whose grants have ended are forgotten, else it is
/// refused.
const MAX_ENTRIES: usize = 256;
/// Connections at a time.
const MAX_CLIENTS: usize = 256;
/// For a client to make a grant. Then the next one that waits gets its turn.
const TURN: Duration = Duration::from_secs(90);
/// For an answer that is being given from a slot.
const BRIEF: Duration = Duration::from_millis(100);
/// How often the keeper looks whether it is still needed.
const CHECK: Duration = Duration::from_secs(20);
/// A grant that ends this soon is not used for a new login.
const MARGIN_S: i64 = 30;

/// A key, and the grant for it if there is one.
#[derive(Debug)]
struct Entry {
    identity: String,
    key: Arc<EphemeralKey>,
    /// Goes with the entry.
    _agent: KeyAgent,
    grant: Option<Granted>,
}

#[derive(Debug)]
struct Granted {
    reply: GrantReply,
    /// By this machine's clock, counted from when it was made.
    ends_at: i64,
}

impl Entry {
    fn live(&self, now: i64) -> Option<&GrantReply> {
        let grant = self.grant.as_ref()?;
        (grant.ends_at - MARGIN_S > now).then_some(&grant.reply)
    }
}

/// One slot for each user and host. Whoever holds a slot's lock makes its grant.
type Slots = Mutex<HashMap<String, Arc<Mutex<Option<Entry>>>>>;

struct Keeper {
    places: Places,
    slots: Slots,
    clients: AtomicUsize,
}

/// Serves until nothing lives that needs it.
///
/// # Errors
/// When the directory or its socket cannot be made, or another keeper serves there.
pub(crate) async fn serve(places: Places) -> io::Result<()> {
    for dir in [
        places.directory().to_owned(),
        places.directory().join("agents"),
        places.directory().join("hosts"),
    ] {
        dirs::private(&dir)?;
    }
    if UnixStream::connect(places.socket()).await.is_ok() {
        return Ok(());
    }
    let listener = agent::bind(&places.socket())?;
    let keeper = Arc::new(Keeper { places, slots: Slots::default(), clients: AtomicUsize::new(0) });
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        // Losing an arm loses nothing: who was not accepted waits in the queue.
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => {
                let (stream, _) = accepted?;
                if agent::is_ours(&stream) {
                    keeper.clients.fetch_add(1, Ordering::Relaxed);
                    let keeper = Arc::clone(&keeper);
                    clients.spawn(async move {
                        // A client that goes away or fails only ends its own turn.
                        drop(keeper.client(stream).await);
                        keeper.clients.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
            _ = clients.join_next(), if clients.len() >= MAX_CLIENTS => {}
            () = tokio::time::sleep(CHECK) => {
                if keeper.clients.load(Ordering::Relaxed) == 0 && keeper.forget_ended().await == 0 {
                    break;
                }
            }
        }
    }
    fs::remove_file(keeper.places.socket())
}

impl Keeper {
    /// Drops what has ended, and returns how many live.
    async fn forget_ended(&self) -> usize {
        let now = clock::unix(clock::now());
        let mut slots = self.slots.lock().await;
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(entry) => entry.as_ref().is_some_and(|e| e.live(now).is_some()),
            // Somebody is at it.
            Err(_) => true,
        });
        slots.len()
    }

    /// Drops a grant that was revoked, with its key.
    async fn forget(&self, id: &GrantId) -> bool {
        let slots: Vec<_> = self.slots.lock().await.values().cloned().collect();
        for slot in slots {
            // In a slot that somebody is at for long, another grant is being made.
            let Ok(mut entry) = timeout(BRIEF, slot.lock()).await else { continue };
            if entry.as_ref().and_then(|e| e.grant.as_ref()).is_some_and(|g| g.reply.id == *id) {
                *entry = None;
                return true;
            }
        }
        false
    }

    async fn client(&self, stream: UnixStream) -> io::Result<()> {
        let mut lines = Lines::new(stream);
        let want = match timeout(TURN, lines.receive()).await?? {
            First::Want(want) => want,
            First::Forget(Forget { v: 1, forget }) => {
                let forgotten = self.forget(&forget).await;
                return lines.send(&Forgotten { forgotten }).await;
            }
            First::Forget(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if !crate::ssh_files::is_plain_name(&want.host) || want.v != 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let slot = self.slot(&want).await?;
        let mut slot = slot.lock().await;
        let now = clock::unix(clock::now());
        let usable = slot.as_ref().filter(|e| e.identity == want.identity);
        if let Some(reply) = usable.and_then(|e| e.live(now)) {
            return lines.send(&Reply::Have(Box::new(reply.clone()))).await;
        }
        // A key whose grant has ended is not used again.
        *slot = None;
        let key = Arc::new(EphemeralKey::new().map_err(io::Error::other)?);
        let path = self.places.agent(&want.user, &want.host);
        let entry = Entry {
            identity: want.identity,
            key: Arc::clone(&key),
            _agent: KeyAgent::start(path, key)?,
            grant: None,
        };
        lines.send(&Reply::Make(entry.key.public())).await?;
        let reply: GrantReply = timeout(TURN, lines.receive()).await??;
        let ends_at = clock::unix(clock::now()) + i64::from(reply.ttl_s.seconds());
        *slot = Some(Entry { grant: Some(Granted { reply, ends_at }), ..entry });
        Ok(())
    }

    async fn slot(&self, want: &Want) -> io::Result<Arc<Mutex<Option<Entry>>>> {
        let name = format!("{}@{}", want.user, want.host);
        if self.slots.lock().await.len() >= MAX_ENTRIES && self.forget_ended().await >= MAX_ENTRIES
        {
            return Err(io::Error::other("too many hosts"));
        }
        Ok(Arc::clone(self.slots.lock().await.entry(name).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use palisade_types::{Ed25519Key, grant::UserName};

    use super::*;
    use crate::keeper::Answer;

    fn reply(key: Ed25519Key, ttl_s: u32) -> GrantReply {
        serde_json::from_value(serde_json::json!({"v": 1, "id": "7d1f7c1e-2f55-4a1b-9d6c-3a1c0d9e7b10",
            "user": "deploy", "fingerprint": key.fingerprint(), "expires_at": 1, "ttl_s": ttl_s,
            "only": "shell", "ssh_port": 22, "host_keys": ["ssh-ed25519 AAAA"], "binding": "strict"}))
        .unwrap()
    }

    /// A keeper that answers, for as long as the tasks are there.
    async fn keeper() -> (tempfile::TempDir, Places, JoinSet<()>) {
        let temp = tempfile::tempdir().unwrap();
        let places = Places::new(&temp.path().join("k"));
        let mut tasks = JoinSet::new();
        let serving = places.clone();
        tasks.spawn(async move { serve(serving).await.unwrap() });
        let bound = tokio::time::Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(places.socket()).await.is_err() {
            assert!(tokio::time::Instant::now() < bound, "no keeper");
            tokio::task::yield_now().await;
        }
        (temp, places, tasks)
    }

    #[tokio::test]
    async fn one_makes_the_grant_while_the_others_wait_and_a_failed_turn_goes_to_the_next() {
        let (_temp, places, _tasks) = keeper().await;
        let user: UserName = "deploy".parse().unwrap();
        let ask = async |identity: &str| places.ask(&user, "web1", identity.to_owned()).await;

        let Answer::Make(first) = ask("a").await.unwrap() else { panic!("nothing was granted") };
        let mut second = Box::pin(ask("a"));
        assert!(timeout(Duration::from_millis(50), &mut second).await.is_err(), "it did not wait");
        // The first one fails: its turn goes on, with a key that nobody has seen.
        let seen = first.key;
        drop(first);
        let Answer::Make(second) = second.await.unwrap() else { panic!("nothing was granted") };
        assert_ne!(second.key, seen);
        let granted = reply(second.key, 600);
        second.made(&granted).await.unwrap();
        match ask("a").await.unwrap() {
            Answer::Have(have) => assert_eq!(*have, granted),
            Answer::Make(_) => panic!("it was granted"),
        }
        let agent = places.agent(&user, "web1");
        assert!(UnixStream::connect(&agent).await.is_ok(), "its key is served");
        // The same name in another account is another host.
        let Answer::Make(other) = ask("b").await.unwrap() else { panic!("another host's grant") };
        let other_key = other.key;
        other.made(&reply(other_key, 60)).await.unwrap();
        let Answer::Have(have) = ask("b").await.unwrap() else { panic!("it was granted") };
        // A revoked grant is not handed out again, and its key is served no more.
        assert!(places.forget(&have.id).await.unwrap());
        assert!(!places.forget(&have.id).await.unwrap(), "it is forgotten");
        assert!(UnixStream::connect(&agent).await.is_err(), "its key is served");
        assert!(matches!(ask("b").await.unwrap(), Answer::Make(_)));
    }

    #[tokio::test]
    async fn names_that_would_leave_the_directory_are_refused() {
        let (_temp, places, _tasks) = keeper().await;
        let user: UserName = "deploy".parse().unwrap();
        for bad in ["../x", "a/b", "", "-x", "a b"] {
            assert!(places.ask(&user, bad, String::new()).await.is_err(), "{bad:?}");
        }
    }
}
