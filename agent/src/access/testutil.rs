//! Requests and twins of the ports, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_types::{
    Ed25519Key,
    grant::{Binding, GrantRequest, Only, UserName},
};

use super::{
    audit::Head,
    binding::{Traced, Unknown, Worker},
    model::{Account, Boot, Grant, Login, Member, Moment, Process, Role, Session, Signal, Trail},
    ports::{AuditLog, Clocks, Facts, Journal, Processes, Tail, Tracer},
    settings::{AtExpiry, Settings, UserRule},
};
use crate::clock::Timestamp;

pub(super) const OWNER: &str = "arn:aws:sts::123456789012:assumed-role/Admin/alice";
/// 2026-11-25 12:00 UTC.
pub(super) const NOON: i64 = 1_795_608_000;

pub(super) fn at(seconds: u64) -> Moment {
    let wall = Timestamp::from_secs(NOON).plus(Duration::from_secs(seconds));
    Moment { wall, boot: Boot(5_000_000 + seconds * 1000) }
}

pub(super) fn settings() -> Settings {
    let rule = |max: u64, system| UserRule {
        max_ttl: Duration::from_secs(max),
        only: [Only::Shell, Only::Sftp, Only::Tunnel].into(),
        system,
    };
    let name = |n: &str| n.parse::<UserName>().unwrap();
    Settings {
        users: BTreeMap::from([
            (name("deploy"), rule(3600, false)),
            (name("admin"), rule(3600, false)),
            (name("root"), rule(600, false)),
            (name("backup"), rule(600, true)),
        ]),
        sources: vec!["10.20.0.0/24".parse().unwrap()],
        max_per_user: 3,
        max_per_host: 4,
        binding: Binding::Strict,
        at_expiry: AtExpiry::End,
        clock_slack: Duration::from_secs(600),
        helper_user: "nobody".to_owned(),
        ssh_port: 22,
        ssh_dir: "/etc/ssh".into(),
        sshd: vec!["/usr/sbin/sshd".into()],
        workers: vec!["/usr/bin/ssm-session-worker".into()],
        ssm_dir: "/var/lib/amazon/ssm".into(),
        run_dir: "/run/palisade".into(),
        state_dir: "/var/lib/palisade/access".into(),
    }
}

/// A good request at noon, of a key and an id of its own.
pub(super) fn request(n: u8) -> GrantRequest {
    GrantRequest {
        id: format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap(),
        user: "deploy".parse().unwrap(),
        key: Ed25519Key::from_public([n; 32]),
        ttl: 600.try_into().unwrap(),
        only: Only::Shell,
        target: None,
        source: "session".parse().unwrap(),
        owner: OWNER.parse().unwrap(),
        issued_at: NOON,
        reason: "INC-1".parse().unwrap(),
    }
}

pub(super) fn person() -> Account {
    Account { uid: 1001, shell: "/bin/bash".to_owned() }
}

pub(super) fn sshd(pid: i32) -> Process {
    Process { pid, start_ticks: 7 }
}

pub(super) fn attempt(pid: i32, now: Moment) -> Session {
    Session {
        sshd: sshd(pid),
        session_id: Some("alice-1".to_owned()),
        since: now.wall,
        since_boot: now.boot,
        open: false,
        asked: 1,
        unbound: None,
    }
}

/// Both clocks, set by hand.
#[derive(Clone, Debug)]
pub(super) struct SetClocks(Arc<Mutex<Moment>>);

impl SetClocks {
    pub(super) fn at(now: Moment) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    pub(super) fn set(&self, now: Moment) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clocks for SetClocks {
    fn now(&self) -> Moment {
        *self.0.lock().unwrap()
    }
}

/// A host: users, processes of logins, a journal, an audit log.
#[derive(Clone, Debug, Default)]
pub(super) struct Host(Arc<Mutex<World>>);

#[derive(Debug, Default)]
pub(super) struct World {
    /// sshd's that live, and whether somebody is logged in.
    pub(super) logins: BTreeMap<Process, bool>,
    /// What a login runs beside sshd.
    pub(super) programs: BTreeMap<Process, BTreeSet<Process>>,
    /// Processes that ignore everything but SIGKILL.
    pub(super) stubborn: BTreeSet<Process>,
    /// Processes that die when somebody asks whether they live.
    pub(super) dying: BTreeSet<Process>,
    /// What some processes leave behind when they die.
    pub(super) heirs: BTreeMap<Process, Process>,
    pub(super) told: Vec<String>,
    pub(super) journal: Option<Vec<u8>>,
    pub(super) journal_broken: bool,
    pub(super) lines: Vec<u8>,
    pub(super) head: Option<Head>,
    pub(super) boot: u32,
    /// Which sshd a helper belongs to, and whose session it came through.
    pub(super) helpers: BTreeMap<i32, (Process, String)>,
}

impl Host {
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }
}

impl Processes for Host {
    fn login(&self, _: &Grant, session: &Session) -> Login {
        match self.with(|w| w.logins.get(&session.sshd).copied()) {
            None => Login::Gone,
            Some(false) => Login::Waits,
            Some(true) => Login::In,
        }
    }

    fn follow(&self, trail: &mut Trail) -> Vec<Member> {
        let sshd = trail.sshd;
        let found: Vec<Member> = self.with(|w| {
            let own = w.logins.contains_key(&sshd).then_some(sshd).into_iter();
            let user = w.programs.get(&sshd).into_iter().flatten().copied();
            let own = own.map(|process| Member { process, role: Role::Sshd, tty: None });
            own.chain(user.map(|process| Member { process, role: Role::User, tty: Some(3) }))
                .collect()
        });
        trail.members.extend(found.iter().map(|m| (m.process, m.role)));
        found
    }

    fn is_living(&self, p: Process) -> bool {
        self.with(|w| {
            if w.dying.contains(&p) {
                w.logins.remove(&p);
            }
            w.logins.contains_key(&p) || w.programs.values().any(|set| set.contains(&p))
        })
    }

    fn signal(&self, p: Process, signal: Signal) {
        self.with(|w| {
            if signal != Signal::Kill && w.stubborn.contains(&p) {
                return;
            }
            w.logins.remove(&p);
            let left = w.heirs.remove(&p);
            for set in w.programs.values_mut().filter(|s| s.contains(&p)) {
                set.remove(&p);
                set.extend(left);
            }
        });
    }

    fn tell(&self, tty: u32, text: &str) {
        self.with(|w| w.told.push(format!("{tty}: {}", text.trim())));
    }
}

impl Journal for Host {
    fn boot_id(&self) -> String {
        self.with(|w| format!("boot {}", w.boot))
    }

    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.with(|w| w.journal.clone()))
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|w| {
            if w.journal_broken {
                return Err(io::Error::other("no space left"));
            }
            w.journal = Some(bytes.to_vec());
            Ok(())
        })
    }
}

impl Facts for Host {
    fn account(&self, user: &UserName) -> io::Result<Option<Account>> {
        Ok(["deploy", "admin"].contains(&user.as_str()).then(person))
    }

    fn host_keys(&self) -> Vec<String> {
        vec!["ssh-ed25519 AAAA".to_owned()]
    }

    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Tracer for Host {
    fn sshd_of(&self, helper: i32) -> Result<Process, Unknown> {
        let known = self.with(|w| w.helpers.get(&helper).map(|(sshd, _)| *sshd));
        known.ok_or_else(|| Unknown("it was not sshd that asked".to_owned()))
    }

    fn trace(&self, sshd: Process) -> Traced {
        let owner = self
            .with(|w| w.helpers.values().find(|(s, _)| *s == sshd).map(|(_, owner)| owner.clone()));
        let worker = |owner| Worker { session_id: "alice-1".to_owned(), owner: Ok(owner) };
        Traced { worker: owner.map(worker).ok_or_else(|| Unknown("nobody".to_owned())) }
    }
}

impl AuditLog for Host {
    async fn open(&mut self) -> io::Result<Tail> {
        let last = self.with(|w| {
            let text = w.lines.strip_suffix(b"\n")?;
            Head::of_line(text.rsplit(|b| *b == b'\n').next()?)
        });
        Ok(Tail { last, head: self.with(|w| w.head.clone()) })
    }

    async fn append(&mut self, lines: Vec<u8>, head: Head) -> io::Result<()> {
        self.with(|w| {
            w.lines.extend(lines);
            w.head = Some(head);
        });
        Ok(())
    }
}
