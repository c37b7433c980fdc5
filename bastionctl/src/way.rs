//! A way for OpenSSH to a host: grant, session, key agent, and the files that tell ssh about them.
//!
//! Invariant: everything here lives in memory and in one directory of mode 0700, and goes with this
//! value. The grant and the session are asked for at the same time, and one without the other is a
//! debt that is settled at the end of the run.

mod carrier;
pub(crate) mod dial;
mod jump;

use std::{path::PathBuf, sync::Arc};

use palisade_types::grant::{GrantId, GrantReply, Only, Source, Target, UserName};

pub(crate) use carrier::Carrier;

use crate::{
    access::{self, Wish},
    agent::KeyAgent,
    cloud::Cloud,
    dirs::{self, Scratch},
    failed::{Failed, Outcome},
    keys::EphemeralKey,
    program,
    run::Run,
    settings::Place,
    ssh_files::{self, Host, Login, Route},
    targets,
};
use dial::Dial;

/// Where sshd listens when nobody says otherwise.
const SSH_PORT: u16 = 22;

/// An open way.
#[derive(Debug)]
pub(crate) struct Way {
    /// What to call the host for ssh.
    name: String,
    config: PathBuf,
    carrier: Carrier,
    /// As told by the hosts, for comparing with what ssh was offered.
    fingerprints: Vec<String>,
    // Both are kept for their end.
    _agents: Vec<KeyAgent>,
    _scratch: Scratch,
}

/// A host on which this run has a grant.
#[derive(Debug)]
struct Granted {
    instance: String,
    user: UserName,
    reply: GrantReply,
    agent: KeyAgent,
    public_key: PathBuf,
    known_hosts: PathBuf,
}

/// What to be granted where.
struct Want<'a> {
    /// Names the files of this host.
    tag: &'a str,
    instance: &'a str,
    user: UserName,
    only: Only,
    target: Option<Target>,
    source: Source,
}

impl Way {
    /// Opens one to `place` for `only`.
    ///
    /// # Errors
    /// When the host cannot be found, reached, or says no.
    pub(crate) async fn open(run: &Run, place: &Place, only: Only) -> Outcome<Self> {
        match &place.via {
            Some(bastion) => Box::pin(jump::open(run, place, bastion, only)).await,
            None => Box::pin(direct(run, place, only)).await,
        }
    }

    /// What to call the host for ssh, scp and rsync.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The configuration file for ssh.
    pub(crate) fn config(&self) -> &std::path::Path {
        &self.config
    }

    /// Ends the sessions, and returns why the first of them ended that did not end well.
    pub(crate) async fn close(self) -> Option<Failed> {
        self.carrier.close().await
    }

    /// Fingerprints of the host keys that the host's agent told.
    pub(crate) fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }
}

async fn direct(run: &Run, place: &Place, only: Only) -> Outcome<Way> {
    let cloud = run.cloud_of(place).await?;
    run.at("region and credentials found");
    let user = place.user()?;
    let instance = targets::one(&cloud, &place.selector).await?;
    let scratch = new_scratch()?;
    let want = Want {
        tag: "host",
        instance: &instance,
        user,
        only,
        target: None,
        source: Source::Session,
    };
    let (granted, carrier) = reach(run, &cloud, &scratch, want, place.port).await?;
    let name = plain_name(place, &instance);
    let program = myself()?;
    let host = Host {
        name: &name,
        user: &granted.user,
        address: &instance,
        port: granted.reply.ssh_port,
        key_name: &instance,
        login: granted.login(),
        route: Route::Socket { program: &program, socket: carrier.path() },
    };
    let config = write_config(&scratch, &[host])?;
    let fingerprints = granted.fingerprints();
    Ok(Way { name, config, carrier, fingerprints, _agents: vec![granted.agent], _scratch: scratch })
}

/// A grant on an instance and a session to its sshd, asked for at the same time.
async fn reach(
    run: &Run,
    cloud: &Cloud,
    scratch: &Scratch,
    want: Want<'_>,
    port: Option<u16>,
) -> Outcome<(Granted, Carrier)> {
    let instance = want.instance.to_owned();
    let id = access::new_id()?;
    let dial = Dial::to_ssh(run, cloud, &instance, port.unwrap_or(SSH_PORT)).for_grant(&id);
    let ask = ask(run, cloud, scratch, want, id);
    let (started, asked) = tokio::join!(dial.start(), ask);
    let started = started?;
    let waiting = asked?;
    run.at("session started, grant asked for");
    // The channel opens while the host thinks about the grant.
    let line = dial.open(started)?;
    let granted = waiting.granted().await?;
    run.at("granted");
    let told = granted.reply.ssh_port;
    let (dial, line) = match port {
        // Somebody said which port, or it was guessed right.
        Some(_) => (dial, line),
        None if told == SSH_PORT => (dial, line),
        None => {
            line.close().await;
            let id = &granted.reply.id;
            let dial = Dial::to_ssh(run, cloud, &instance, told).for_grant(id);
            let line = dial.open(dial.start().await?)?;
            (dial, line)
        }
    };
    let path = scratch.path().join(format!("way-{instance}"));
    let carrier = Carrier::start(path, dial, line)
        .map_err(|e| Failed::because("listen on a private socket", &e))?;
    Ok((granted, carrier))
}

/// A request whose answer is awaited, with the key it is for.
struct Waiting {
    asked: access::Asked,
    instance: String,
    user: UserName,
    agent: KeyAgent,
    public_key: PathBuf,
    known_hosts: PathBuf,
}

async fn ask(
    run: &Run,
    cloud: &Cloud,
    scratch: &Scratch,
    want: Want<'_>,
    id: GrantId,
) -> Outcome<Waiting> {
    let file = |what: &str| scratch.path().join(format!("{}-{what}", want.tag));
    let key = EphemeralKey::new().map_err(|e| Failed::because("make a key", &e))?;
    let key = Arc::new(key);
    let public_key = file("id.pub");
    let text = format!("{} {} bastionctl\n", palisade_types::ED25519, key.public());
    write(&public_key, text.as_bytes())?;
    let wish = Wish {
        id,
        instance: want.instance.to_owned(),
        user: want.user.clone(),
        key: key.public(),
        ttl: run.settings.ttl,
        only: want.only,
        target: want.target,
        source: want.source,
        reason: run.settings.reason.clone(),
    };
    let asked = access::ask(cloud, &run.debts, wish).await?;
    let agent = KeyAgent::start(file("agent"), key)
        .map_err(|e| Failed::because("serve the key on a private socket", &e))?;
    Ok(Waiting {
        asked,
        instance: want.instance.to_owned(),
        user: want.user,
        agent,
        public_key,
        known_hosts: file("known_hosts"),
    })
}

impl Waiting {
    async fn granted(self) -> Outcome<Granted> {
        let reply = self.asked.reply().await?;
        let keys = ssh_files::known_hosts(&self.instance, &reply.host_keys)?;
        write(&self.known_hosts, keys.as_bytes())?;
        Ok(Granted {
            instance: self.instance,
            user: self.user,
            reply,
            agent: self.agent,
            public_key: self.public_key,
            known_hosts: self.known_hosts,
        })
    }
}

impl Granted {
    fn login(&self) -> Login<'_> {
        Login::Granted {
            agent: self.agent.path(),
            public_key: &self.public_key,
            known_hosts: &self.known_hosts,
        }
    }

    fn fingerprints(&self) -> Vec<String> {
        let prints = self.reply.host_keys.iter().filter_map(|k| ssh_files::fingerprint(k));
        prints.map(|p| format!("{} {p}", self.instance)).collect()
    }
}

fn new_scratch() -> Outcome<Scratch> {
    Scratch::new().map_err(|e| Failed::because("make a private directory", &e))
}

fn myself() -> Outcome<PathBuf> {
    program::myself().map_err(|e| Failed::because("find this program", &e))
}

fn write(path: &std::path::Path, bytes: &[u8]) -> Outcome<()> {
    dirs::write_private(path, bytes)
        .map_err(|e| Failed::because(format!("write {}", path.display()), &e))
}

fn write_config(scratch: &Scratch, hosts: &[Host<'_>]) -> Outcome<PathBuf> {
    let path = scratch.path().join("config");
    write(&path, ssh_files::config(hosts).as_bytes())?;
    Ok(path)
}

/// The name as typed, where ssh takes it for a name.
fn plain_name(place: &Place, instance: &str) -> String {
    let typed = &place.name;
    if ssh_files::is_plain_name(typed) { typed.clone() } else { instance.to_owned() }
}
