//! Access filled with this host: sshd and its logins, the SSM agent's sessions, the record, the
//! firewall's view.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use palisade_agent::{
    access::{self, Entry, Event as Line},
    clock::SystemClock,
    events::Events,
    sys::access::{
        AuditFile, HostFacts, HostProcesses, ProcTracer, RunJournal, SystemClocks, bind_keys,
        sshd::DROP_IN,
    },
};
use tokio::{
    net::UnixListener,
    sync::{broadcast, watch},
};
use tokio_util::sync::CancellationToken;

use crate::modules::Trouble;

type Parts = access::Parts<HostProcesses, RunJournal, SystemClocks, AuditFile>;

/// The host, as access wants it. `helper` is the program that sshd runs.
pub(crate) fn access(wanted: &access::Settings, helper: &Path) -> Parts {
    access::Parts {
        processes: HostProcesses { sshd: wanted.sshd.clone() },
        journal: RunJournal::new(&wanted.run_dir),
        clocks: Arc::new(SystemClocks),
        facts: Arc::new(HostFacts {
            ssh_dir: wanted.ssh_dir.clone(),
            helper: helper.to_owned(),
            helper_user: wanted.helper_user.clone(),
            drop_in: wanted.ssh_dir.join(DROP_IN),
            sshd: wanted.sshd.clone(),
        }),
        tracer: Arc::new(ProcTracer {
            sshd: wanted.sshd.clone(),
            workers: wanted.workers.clone(),
            ssm_dir: wanted.ssm_dir.clone(),
        }),
        log: AuditFile::new(&wanted.state_dir),
    }
}

/// Answers sshd's helper, and says what of access works less than fully.
pub(crate) async fn keys(
    wanted: access::Settings,
    server: access::Server,
    mut status: watch::Receiver<access::Status>,
    trouble: Trouble,
    stop: CancellationToken,
) {
    let bound = bind_keys(&wanted.socket(), &wanted.helper_user).and_then(|(l, askers, what)| {
        l.set_nonblocking(true)?;
        Ok((UnixListener::from_std(l)?, askers, what))
    });
    let (serving, bind_trouble) = match bound {
        Ok((listener, askers, what)) => (Some((listener, askers)), what),
        Err(e) => {
            let socket = wanted.socket();
            (None, Some(format!("sshd cannot ask: listen on {}: {e}", socket.display())))
        }
    };
    let watch_troubles = async {
        loop {
            let mut all = status.borrow_and_update().troubles.clone();
            all.extend(bind_trouble.clone());
            trouble.is((!all.is_empty()).then(|| all.join("; ")));
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let serve = async {
        match serving {
            Some((listener, askers)) => server.run(listener, askers, stop.clone()).await,
            None => stop.cancelled().await,
        }
    };
    // Both go on until told to stop: what the second would still say is the next life's to say.
    tokio::select! {
        () = serve => {}
        () = watch_troubles => {}
    }
}

/// Hands on what live grants let in.
pub(crate) async fn forward(
    mut from: watch::Receiver<BTreeMap<IpAddr, u64>>,
    to: watch::Sender<BTreeMap<IpAddr, u64>>,
    stop: CancellationToken,
) {
    loop {
        let now = from.borrow_and_update().clone();
        to.send_if_modified(|seen| {
            let differs = *seen != now;
            *seen = now;
            differs
        });
        tokio::select! {
            // The task ended: what that means is for its scope to say, and what it let in stays until
            // the next one says otherwise.
            changed = from.changed() => if changed.is_err() { return stop.cancelled().await },
            () = stop.cancelled() => return,
        }
    }
}

/// Writes what happens into the agent's record, each with the place of its line in the audit log, so
/// that the chain is known off the host too.
pub(crate) async fn tell_access(
    mut entries: broadcast::Receiver<Entry>,
    events: Events<SystemClock>,
    stop: CancellationToken,
) {
    loop {
        // Told to stop, it still tells what is there already.
        let next = tokio::select! {
            biased;
            next = entries.recv() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(entry) => {
                let (what, subject, why) = words(&entry.event);
                let place = format!("audit {} {}", entry.seq, entry.hash);
                let why = if why.is_empty() { place } else { format!("{why}; {place}") };
                events.happened("access", what, subject, why);
            }
            Err(broadcast::error::RecvError::Lagged(n)) => {
                let why = format!("{n} at once; the audit log has them");
                events.happened("access", "happenings not recorded", "", why);
            }
            Err(broadcast::error::RecvError::Closed) => return stop.cancelled().await,
        }
    }
}

/// What happened, to which grant, and how.
fn words(event: &Line) -> (&'static str, String, String) {
    match event {
        Line::Started { live, .. } => {
            ("keys are answered", String::new(), format!("{live} live grants"))
        }
        Line::Granted { grant, user, fingerprint, owner, only, source, reason, .. } => {
            let mut why =
                format!("{user} {} from {source} by {owner}, {fingerprint}", only.as_str());
            if !reason.as_str().is_empty() {
                why = format!("{why}, because: {reason}");
            }
            ("granted", grant.to_string(), why)
        }
        Line::Refused { grant, user, owner, why, .. } => {
            let who = [user.as_str(), owner.as_str()].join(" ");
            ("grant refused", grant.clone(), format!("{}: {why}", who.trim()))
        }
        Line::Login { grant, user, owner, session_id, sshd, unbound, fingerprint, brief } => {
            let session = session_id.as_deref().unwrap_or("no session");
            let mut why =
                format!("{user} by {owner} through {session}, sshd {sshd}, {fingerprint}");
            if let Some(unbound) = unbound {
                why = format!("{why}; NOT BOUND: {unbound}");
            }
            let what = if *brief { "login, a brief one" } else { "login" };
            (what, grant.to_string(), why)
        }
        Line::LoginRefused { grant, user, why, .. } => {
            ("login refused", grant.to_string(), format!("{user}: {why}"))
        }
        Line::Warned { grant, left_s, sessions } => {
            ("login warned", grant.to_string(), format!("{sessions} logins, {left_s} s left"))
        }
        Line::Ended { grant, user, how, by, sessions } => {
            let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
            let why = format!("{user}: {}{by}, {sessions} logins", how.words());
            ("grant ended", grant.to_string(), why)
        }
        Line::Logout { grant, user, sshd, why, .. } => {
            let why = if why.is_empty() { "it ended by itself" } else { why };
            ("logout", grant.to_string(), format!("{user}, sshd {sshd}: {why}"))
        }
        Line::Lost { count } => ("audit lines lost", String::new(), count.to_string()),
        Line::Cut { head, file } => {
            ("AUDIT LOG CUT", String::new(), format!("it ended at {file} and not at {head}"))
        }
    }
}
