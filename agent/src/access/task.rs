//! The access task: owns all grants, and does what is due about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use palisade_types::grant::{GrantId, Source};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    audit::Event,
    closing::{self, Closing, Progress},
    handle::{Command, Handle, QUEUE},
    keyserver::{Keys, Server},
    ledger::{Due, Ledger, Seen},
    model::{Ended, Grant, Moment, Process, Session},
    ports::{AuditLog, Clocks, Facts, Journal, Processes, Tracer},
    settings::{AtExpiry, Settings},
    status::{Counts, Status},
    store,
    writer::{self, AuditEnds, AuditWriter},
};
use crate::errors::Chain;

/// Longest rest while there are grants: the timer stands still while the host sleeps, the time since
/// boot does not.
const WITH_GRANTS: Duration = Duration::from_secs(1);
/// Rest while somebody may be logging in.
const WITH_ATTEMPTS: Duration = Duration::from_millis(100);
/// The same for the first moments of an attempt: most logins begin then, and some are over at once.
const WITH_YOUNG: Duration = Duration::from_millis(20);
const YOUNG: Duration = Duration::from_secs(5);
/// Rest while there is nothing.
const IDLE: Duration = Duration::from_secs(30);
/// Between two looks at whether sshd can ask us.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// What the task works with.
pub struct Parts<P, J, C, L> {
    /// Processes of logins.
    pub processes: P,
    /// Where grants are written down.
    pub journal: J,
    /// Both clocks.
    pub clocks: Arc<C>,
    /// What is asked of the host.
    pub facts: Arc<dyn Facts>,
    /// Where connections come from.
    pub tracer: Arc<dyn Tracer>,
    /// Where the audit log is kept.
    pub log: L,
}

impl<P, J, C, L> fmt::Debug for Parts<P, J, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access::Parts")
    }
}

/// The task, to be run.
pub struct Task<P, J, C> {
    settings: Arc<Settings>,
    processes: P,
    journal: J,
    clocks: Arc<C>,
    facts: Arc<dyn Facts>,
    audit: AuditEnds,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    keys: watch::Sender<Arc<Keys>>,
    direct: watch::Sender<BTreeMap<IpAddr, u64>>,
    ledger: Ledger,
    closing: Vec<Closing>,
    counts: Counts,
    troubles: Vec<String>,
    journal_error: Option<String>,
    refusals: requests::Bucket,
    boot_id: String,
    changed: bool,
}

impl<P, J, C> fmt::Debug for Task<P, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access::Task")
    }
}

/// A new task, the handle to it, the server of keys, and the writer of the audit log, all to be run.
pub fn new<P: Processes, J: Journal, C: Clocks, L: AuditLog>(
    settings: Settings,
    parts: Parts<P, J, C, L>,
) -> (Handle, Task<P, J, C>, Server, AuditWriter<L>) {
    let Parts { processes, journal, clocks, facts, tracer, log } = parts;
    let settings = Arc::new(settings);
    let (tx, commands) = mpsc::channel(QUEUE);
    let (status, status_seen) =
        watch::channel(Status { binding: settings.binding, ..Status::default() });
    let (keys, keys_seen) = watch::channel(Arc::new(Keys::default()));
    let (direct, direct_seen) = watch::channel(BTreeMap::new());
    let (audit, writer) = writer::writer(log);
    let handle = Handle {
        commands: tx.clone(),
        status: status_seen,
        direct: direct_seen,
        entries: audit.entries.clone(),
        facts: Arc::clone(&facts),
        settings: Arc::clone(&settings),
    };
    let clocks_of_server: Arc<dyn Clocks> = Arc::clone(&clocks) as _;
    let server = Server { keys: keys_seen, commands: tx, clocks: clocks_of_server, tracer };
    let boot_id = journal.boot_id();
    let mut task = Task {
        settings,
        processes,
        journal,
        clocks,
        facts,
        audit,
        commands,
        status,
        keys,
        direct,
        ledger: Ledger::default(),
        closing: Vec::new(),
        counts: Counts::default(),
        troubles: Vec::new(),
        journal_error: None,
        refusals: requests::Bucket::default(),
        boot_id,
        changed: true,
    };
    // Before anybody can ask: the firewall and sshd are to see the last life's grants at once.
    task.begin();
    task.publish();
    (handle, task, server, writer)
}

impl<P: Processes, J: Journal, C: Clocks> Task<P, J, C> {
    /// Works until told to stop. Grants and logins are not touched by that: the next life goes on.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut standing = self.audit.standing.clone();
        let mut checked: Option<time::Instant> = None;
        let mut checking: Option<JoinHandle<Vec<String>>> = None;
        loop {
            let rest = self.turn();
            if checking.is_none() && checked.is_none_or(|at| at.elapsed() >= CHECK_EVERY) {
                checked = Some(time::Instant::now());
                // It asks the user database, which may hang; nothing here waits for that.
                let facts = Arc::clone(&self.facts);
                checking = Some(spawn_blocking(move || facts.troubles()));
            }
            let found = async {
                match checking.as_mut() {
                    Some(checking) => checking.await.unwrap_or_default(),
                    None => std::future::pending().await,
                }
            };
            // Every arm only waits: a command that loses the race is still there. What is asked after the
            // word to stop is the next life's: its lines could not be written any more.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                troubles = found => {
                    checking = None;
                    self.troubles = troubles;
                    self.publish();
                }
                Some(command) = self.commands.recv() => self.answer(command),
                Ok(()) = standing.changed() => {}
                () = time::sleep(rest) => {}
            }
        }
    }

    /// Takes up what the last life wrote down.
    fn begin(&mut self) {
        match self.journal.load() {
            Ok(None) => {}
            Ok(Some(bytes)) => match store::decode(&bytes, &self.boot_id) {
                Ok(ledger) => self.ledger = ledger,
                Err(e) => self.lost_journal(Chain(&e).to_string()),
            },
            Err(e) => self.lost_journal(e.to_string()),
        }
        let now = self.clocks.now();
        let live = self.ledger.live(now, self.settings.clock_slack).count();
        self.audit.audit.note(Event::Started { boot_id: self.boot_id.clone(), live }, now);
        let is_gone = |g: &&Grant| {
            g.ended != Some(Ended::Revoked) && !self.settings.users.contains_key(&g.user)
        };
        let gone: Vec<GrantId> = self.ledger.all().filter(is_gone).map(|g| g.id.clone()).collect();
        for id in gone {
            self.end(&id, Ended::Revoked, "the configuration, which no longer names the user");
        }
        // Logins that the last life was ending.
        let ended: Vec<(GrantId, Ended)> =
            self.ledger.all().filter_map(|g| Some((g.id.clone(), g.ended?))).collect();
        for (id, how) in ended {
            self.close(&id, how);
        }
    }

    fn lost_journal(&mut self, why: String) {
        tracing::error!(
            why,
            "the journal of grants cannot be read; none of them is valid any more"
        );
        self.journal_error = Some(format!("read the journal of grants: {why}"));
        self.ledger.forget_everything(self.clocks.now());
    }

    /// Does what is due, publishes, and returns how long there is nothing to do.
    fn turn(&mut self) -> Duration {
        let now = self.clocks.now();
        for due in self.ledger.due(now, self.settings.clock_slack) {
            self.changed = true;
            match due {
                Due::Warn { id, left } => self.warn(&id, left, now),
                Due::Ended { id, how } => drop(self.ended(&id, how, "", now)),
            }
        }
        self.look(now);
        // Not sooner: what ended after that look is ours too, and the next one is yet to say so.
        self.closing.retain(|c| !c.is_over());
        self.step(now);
        if self.changed {
            self.changed = false;
            // What could not be written is tried again at the next change and at each turn after it.
            if self.save().is_err() {
                self.changed = true;
            }
        }
        self.publish();
        self.rest(now)
    }

    fn rest(&self, now: Moment) -> Duration {
        if !self.closing.is_empty() {
            return closing::STEP;
        }
        if let Some(youngest) = self.ledger.youngest_attempt() {
            let is_young = now.boot.since(youngest) < YOUNG;
            return if is_young { WITH_YOUNG } else { WITH_ATTEMPTS };
        }
        if self.ledger.all().next().is_none() && !self.changed {
            return IDLE;
        }
        let due = self.ledger.next_due().map(|at| at.since(now.boot));
        due.map_or(WITH_GRANTS, |d| d.clamp(Duration::from_millis(10), WITH_GRANTS))
    }

    /// Looks at every connection.
    fn look(&mut self, now: Moment) {
        let (ledger, processes) = (&mut self.ledger, &self.processes);
        for seen in ledger.look(now, |grant, session| processes.login(grant, session)) {
            self.changed = true;
            match seen {
                Seen::Opened { grant, session } => self.logged_in(&grant, session, false, now),
                Seen::Brief { grant, session } => self.logged_in(&grant, session, true, now),
                Seen::Closed { id, session, user } => {
                    let ours = self.closing.iter().find(|c| c.sshd == session.sshd);
                    let why = ours.map(|c| c.how.words().to_owned()).unwrap_or_default();
                    if ours.is_some() {
                        self.counts.sessions_ended += 1;
                    }
                    let event = Event::Logout {
                        grant: id,
                        user,
                        session_id: session.session_id,
                        sshd: session.sshd.pid,
                        why,
                    };
                    self.audit.audit.note(event, now);
                }
            }
        }
    }

    fn logged_in(&mut self, grant: &Grant, session: Session, brief: bool, now: Moment) {
        self.counts.logins += 1;
        let event = Event::Login {
            grant: grant.id.clone(),
            user: grant.user.clone(),
            fingerprint: grant.key.fingerprint(),
            owner: grant.owner.clone(),
            session_id: session.session_id,
            sshd: session.sshd.pid,
            unbound: session.unbound,
            brief,
        };
        self.audit.audit.note(event, now);
    }

    /// Goes on ending logins.
    fn step(&mut self, now: Moment) {
        for c in &mut self.closing {
            if c.step(&self.processes, now.boot) == Progress::GivenUp {
                let (grant, pid) = (&c.grant, c.sshd.pid);
                tracing::error!(%grant, pid, "a login could not be ended: a process does not die");
            }
        }
    }

    fn warn(&mut self, id: &GrantId, left: Duration, now: Moment) {
        if self.settings.at_expiry == AtExpiry::Leave {
            return;
        }
        let Some(grant) = self.ledger.get(id) else { return };
        let minutes = left.as_secs().div_ceil(60);
        let text = format!(
            "\r\npalisade: the grant of this login ends in {minutes} min, and the login with it.\r\n"
        );
        let open: Vec<Process> = grant.sessions.iter().filter(|s| s.open).map(|s| s.sshd).collect();
        if open.is_empty() {
            return;
        }
        for sshd in &open {
            let members = self.processes.members(*sshd, grant.uid);
            let ttys: BTreeSet<u32> = members.iter().filter_map(|m| m.tty).collect();
            ttys.iter().for_each(|tty| self.processes.tell(*tty, &text));
        }
        let event =
            Event::Warned { grant: id.clone(), left_s: left.as_secs(), sessions: open.len() };
        self.audit.audit.note(event, now);
    }

    /// Ends a live grant.
    fn end(&mut self, id: &GrantId, how: Ended, by: &str) -> Option<usize> {
        self.ledger.end(id, how)?;
        let now = self.clocks.now();
        self.changed = true;
        Some(self.ended(id, how, by, now))
    }

    /// What follows from the end of a grant. Returns how many logins were open.
    fn ended(&mut self, id: &GrantId, how: Ended, by: &str, now: Moment) -> usize {
        let Some(grant) = self.ledger.get(id) else { return 0 };
        let sessions = grant.sessions.iter().filter(|s| s.open).count();
        let (user, by) = (grant.user.clone(), by.to_owned());
        let event = Event::Ended { grant: id.clone(), user, how, by, sessions };
        self.audit.audit.note(event, now);
        tracing::info!(grant = %id, how = how.words(), sessions, "a grant ended");
        self.close(id, how);
        sessions
    }

    /// Begins to end the logins of a grant, and attempts at one.
    fn close(&mut self, id: &GrantId, how: Ended) {
        let leave = self.settings.at_expiry == AtExpiry::Leave && how != Ended::Revoked;
        let Some(grant) = self.ledger.get(id) else { return };
        let now = self.clocks.now();
        let wanted = grant.sessions.iter().filter(|s| !s.open || !leave).map(|s| s.sshd);
        for sshd in wanted.collect::<Vec<_>>() {
            if !self.closing.iter().any(|c| c.sshd == sshd) {
                self.closing.push(Closing::new(grant, sshd, how, now.boot));
            }
        }
    }

    fn save(&mut self) -> io::Result<()> {
        let saved = store::encode(&self.ledger, &self.boot_id)
            .map_err(io::Error::other)
            .and_then(|bytes| self.journal.save(&bytes));
        match &saved {
            Ok(()) => self.journal_error = None,
            Err(e) => {
                tracing::error!(error = %e, "grants cannot be written down");
                self.journal_error = Some(format!("write the journal of grants: {e}"));
            }
        }
        saved
    }

    /// Looks whether sshd can ask us at all.
    fn publish(&self) {
        let now = self.clocks.now();
        let slack = self.settings.clock_slack;
        let live: Vec<Grant> = self.ledger.live(now, slack).cloned().collect();
        let mut direct: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for grant in &live {
            if let Source::Net(net) = grant.source {
                let end = direct.entry(net.addr()).or_default();
                *end = (*end).max(grant.deadline.0);
            }
        }
        let waiting = self.ledger.connections().filter(|(_, s)| !s.open).map(|(_, s)| s.sshd);
        self.keys.send_replace(Arc::new(Keys {
            grants: live,
            waiting: waiting.collect(),
            binding: self.settings.binding,
            slack,
        }));
        self.direct.send_if_modified(|d| {
            let differs = *d != direct;
            *d = direct;
            differs
        });
        let standing = self.audit.standing.borrow().clone();
        let mut troubles = self.troubles.clone();
        troubles.extend(self.journal_error.clone());
        troubles.extend(standing.error);
        let status = Status {
            grants: self.ledger.all().map(Grant::row).collect(),
            binding: self.settings.binding,
            counts: self.counts,
            audit: (standing.head.seq, standing.head.hash),
            troubles,
        };
        self.status.send_if_modified(|s| {
            let differs = *s != status;
            *s = status;
            differs
        });
    }
}

mod requests;

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
