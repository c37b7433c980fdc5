//! `proxy`: stdin and stdout are sshd's, for an ssh that somebody else started with the settings of
//! `ssh-config`. Invariant: not one byte on stdout that is not sshd's, and none before the host's
//! keys are in place.

use palisade_types::grant::{GrantReply, Only, Source};

use palisade_channel::stdio;

use crate::{
    access::{self, Wish},
    child::{self, Signals},
    cli, dirs,
    failed::{Failed, Outcome},
    keeper::{self, Answer, Places},
    run::Run,
    settings::Place,
    ssh_files, targets,
    way::dial::{Dial, Line, bad_end},
};

/// What ssh says when nobody says another.
const SSH_PORT: u16 = 22;

/// Where the keeper's files are.
pub(crate) fn places() -> Outcome<Places> {
    dirs::runtime().map(|d| Places::new(&d)).ok_or_else(|| {
        Failed::plain("no directory for sockets: neither XDG_RUNTIME_DIR nor HOME is set")
    })
}

pub(crate) async fn proxy(run: &Run, args: cli::Proxy, signals: &mut Signals) -> Outcome<u8> {
    let typed = match &args.user {
        Some(user) => format!("{user}@{}", args.host),
        None => args.host.clone(),
    };
    let place = run.settings.place(&typed)?;
    if !ssh_files::is_plain_name(&place.name) {
        return Err(Failed::usage(format!("{}: ssh takes no such name; use an alias", place.name)));
    }
    let (line, instance) = run.until_signal(signals, open(run, &place, args.port)).await?;
    let joined = stdio::join(line.into_session(), tokio::io::stdin(), tokio::io::stdout());
    // Losing the copy's arm ends the session, which terminates itself.
    let end = tokio::select! {
        end = joined => end.map_err(|e| Failed::because("carry bytes", &e))?,
        signal = signals.any() => return Ok(child::of_signal(signal)),
    };
    match bad_end(&instance, &end) {
        Some(failed) => Err(failed),
        None => Ok(0),
    }
}

async fn open(run: &Run, place: &Place, port: Option<u16>) -> Outcome<(Line, String)> {
    let places = places()?;
    let cloud = run.cloud_of(place).await?;
    let user = place.user()?;
    let instance = targets::one(&cloud, &place.selector).await?;
    let asked_port = place.port.or(port.filter(|p| *p != SSH_PORT));
    let port = asked_port.unwrap_or(SSH_PORT);
    let dial = Dial::to_ssh(run, &cloud, &instance, port);
    let grant = async {
        // A grant is its owner's: for another caller it would be another one.
        let caller = cloud.caller().await?;
        let profile = cloud.profile().unwrap_or_default();
        let identity = format!("{profile} {} {instance} {caller}", cloud.region());
        let asked = places.ask(&user, &place.name, identity).await;
        let reply = match asked.map_err(|e| Failed::because("ask the keeper of keys", &e))? {
            Answer::Have(reply) => *reply,
            Answer::Make(lease) => {
                let wish = Wish {
                    id: access::new_id()?,
                    instance: instance.clone(),
                    user: user.clone(),
                    key: lease.key,
                    ttl: run.settings.ttl,
                    only: run.settings.only.unwrap_or(Only::Shell),
                    target: None,
                    source: Source::Session,
                    reason: run.settings.reason.clone(),
                };
                let reply = access::ask(&cloud, &run.debts, wish).await?.reply().await?;
                write_keys(&places, place, &instance, &reply, port)?;
                lease.made(&reply).await.map_err(|e| Failed::because("tell the keeper", &e))?;
                reply
            }
        };
        write_keys(&places, place, &instance, &reply, port)?;
        Ok::<_, Failed>(reply.ssh_port)
    };
    let (line, granted) =
        tokio::join!(async { dial.start().await.and_then(|started| dial.open(started)) }, grant);
    let told = granted?;
    // The grant is shared by whoever comes next; it ends by itself.
    run.debts.keep_grants();
    let line = line?;
    if asked_port.is_some() || told == port {
        return Ok((line, instance));
    }
    // Nobody said which port, and the usual one is not it.
    line.close().await;
    let dial = Dial::to_ssh(run, &cloud, &instance, told);
    let line = dial.open(dial.start().await?)?;
    Ok((line, instance))
}

/// Host keys under the names that ssh may look for.
fn write_keys(
    places: &Places,
    place: &Place,
    instance: &str,
    reply: &GrantReply,
    port: u16,
) -> Outcome<()> {
    let path = places.known_hosts(&place.name);
    let names = format!("{0},[{0}]:{port},{instance}", place.name.to_lowercase());
    let text = ssh_files::known_hosts(&names, &reply.host_keys)?;
    if std::fs::read_to_string(&path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    let what = || format!("write {}", path.display());
    let parent = path.parent().map_or(Ok(()), dirs::private);
    parent
        .and_then(|()| dirs::write_private(&path, text.as_bytes()))
        .map_err(|e| Failed::because(what(), &e))
}

/// The keeper's process.
pub(crate) async fn keep(args: cli::InternalKeeper) -> Outcome<u8> {
    // Of no terminal: it outlives the ssh that started it.
    if let Err(e) = nix::unistd::setsid() {
        return Err(Failed::because("leave the terminal", &e));
    }
    keeper::serve(Places::new(&args.directory))
        .await
        .map_err(|e| Failed::because("keep keys", &e))?;
    Ok(0)
}
