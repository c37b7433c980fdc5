//! What new settings mean for the processes that are there, and who may start before whom.
//!
//! Per process, never per group: a process whose settings did not change is not touched, and of the
//! changes only those that a running process cannot take over restart it.

use std::collections::{BTreeMap, BTreeSet};

use palisade_types::{ProcessName, ProgramName};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{ListenAddr, ProcessSpec};

/// What an update did, or is about to do. Names are in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// New.
    pub added: Vec<ProcessName>,
    /// Gone: being stopped.
    pub removed: Vec<ProcessName>,
    /// Restarted, if they run.
    pub changed: Vec<ProcessName>,
    /// Given new settings without a restart.
    pub adjusted: Vec<ProcessName>,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The difference between what is there and what is wanted.
#[must_use]
pub(super) fn changes<'a>(
    have: impl Iterator<Item = &'a ProcessSpec>,
    want: impl Iterator<Item = &'a ProcessSpec>,
) -> Changes {
    let have: BTreeMap<_, _> = have.map(|s| (&s.name, s)).collect();
    let want: BTreeMap<_, _> = want.map(|s| (&s.name, s)).collect();
    let mut out = Changes::default();
    for (name, old) in &have {
        match want.get(name) {
            None => out.removed.push((*name).clone()),
            Some(new) if fingerprint(old) != fingerprint(new) => out.changed.push((*name).clone()),
            Some(new) if old != new => out.adjusted.push((*name).clone()),
            Some(_) => {}
        }
    }
    out.added = want.keys().filter(|n| !have.contains_key(*n)).map(|n| (*n).clone()).collect();
    out
}

/// The settings that a process is born with. Two specs with the same fingerprint differ only in what
/// the agent does about the process. The same over versions of the agent, or an upgrade would
/// restart everything: a new field is left out of it while it has its old meaning.
#[must_use]
pub(super) fn fingerprint(spec: &ProcessSpec) -> String {
    #[derive(Serialize)]
    struct Born<'a> {
        argv: &'a [String],
        directory: Option<String>,
        user: &'a Option<String>,
        environment: &'a BTreeMap<String, String>,
        umask: Option<u32>,
        sockets: Vec<(&'a str, String)>,
        notify: bool,
        redirect_stderr: bool,
        limits: [Option<u64>; 4],
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stdin: Option<String>,
        /// What a listener hears of may change while it runs; that it is one may not.
        #[serde(skip_serializing_if = "Option::is_none")]
        listener: Option<bool>,
        // Not `serverurl`: programs would be restarted because something is served.
    }
    let limits = spec.limits;
    let born = Born {
        argv: &spec.argv,
        directory: spec.directory.as_ref().map(|d| d.to_string_lossy().into_owned()),
        user: &spec.user,
        environment: &spec.environment,
        umask: spec.umask,
        sockets: spec.sockets.iter().map(|s| (s.name.as_str(), address(&s.listen))).collect(),
        notify: matches!(spec.ready, super::Ready::Notify { .. }),
        redirect_stderr: spec.redirect_stderr,
        limits: [
            limits.memory.map(palisade_types::ByteSize::bytes),
            limits.cpu_percent.map(u64::from),
            limits.pids.map(u64::from),
            limits.nofile,
        ],
        label: (spec.label != spec.name.as_str()).then_some(&spec.label),
        stdin: match spec.input() {
            super::Stdin::Null => None,
            super::Stdin::Pipe => Some("pipe".to_owned()),
            super::Stdin::Socket(s) => {
                Some(format!("{} {:o} {:?} {:?}", address(&s.listen), s.mode, s.owner, s.backlog))
            }
        },
        listener: spec.listener().map(|_| true),
    };
    // Serialising this struct to memory cannot fail; if it did, every spec would be like every other.
    short_hash(&serde_json::to_vec(&born).unwrap_or_default())
}

/// How the names of handed-over sockets begin.
pub(super) const SOCKET_KEY: &str = "socket-";

/// The name under which the socket of an address is handed over: no `:`, which the FD store forbids.
#[must_use]
pub(super) fn socket_key(addr: &ListenAddr) -> String {
    format!("{SOCKET_KEY}{}", short_hash(address(addr).as_bytes()))
}

/// An address as text.
#[must_use]
pub(super) fn address(addr: &ListenAddr) -> String {
    match addr {
        ListenAddr::Tcp(a) => format!("tcp:{a}"),
        ListenAddr::Unix(p) => format!("unix:{}", p.display()),
        ListenAddr::Nowhere { address, .. } => address.clone(),
    }
}

fn short_hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Where a process is with regard to those that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Wanted, and waiting for others itself.
    Held,
    /// Wanted, and not up yet.
    Coming,
    /// Up, given up, ended or not wanted: nobody waits for it.
    Settled,
    /// Given up, and to be done before others may start: they wait until it is asked for again.
    Failed,
}

/// Which of the held processes may start now: those whose programs to wait for are settled. If all
/// wait for each other in a ring, the first in order starts, rather than none for ever.
#[must_use]
pub(super) fn may_start<'a>(
    processes: impl Iterator<Item = (&'a ProcessSpec, Progress)>,
) -> BTreeSet<ProcessName> {
    let all: Vec<_> = processes.collect();
    let mut open: BTreeSet<&ProgramName> = BTreeSet::new();
    for (spec, progress) in &all {
        if *progress != Progress::Settled {
            open.insert(&spec.program);
        }
    }
    let stuck = stuck(&all);
    let held: Vec<_> = all.iter().filter(|(_, p)| *p == Progress::Held).map(|(s, _)| *s).collect();
    let free = |s: &ProcessSpec| s.after.iter().all(|a| *a == s.program || !open.contains(a));
    let free: BTreeSet<_> = held.iter().filter(|s| free(s)).map(|s| s.name.clone()).collect();
    let held: Vec<_> = held.into_iter().filter(|s| !stuck.contains(&s.program)).collect();
    let is_ring = free.is_empty() && !all.iter().any(|(_, p)| *p == Progress::Coming);
    if is_ring {
        return held
            .iter()
            .min_by_key(|s| (s.priority, &s.name))
            .map(|s| s.name.clone())
            .into_iter()
            .collect();
    }
    free
}

/// The programs that wait, directly or not, for one that failed.
#[must_use]
pub(super) fn stuck<'a>(all: &[(&'a ProcessSpec, Progress)]) -> BTreeSet<&'a ProgramName> {
    let failed = all.iter().filter(|(_, p)| *p == Progress::Failed).map(|(s, _)| &s.program);
    let mut stuck: BTreeSet<_> = failed.collect();
    while !stuck.is_empty() {
        let waits = |s: &ProcessSpec| s.after.iter().any(|a| *a != s.program && stuck.contains(a));
        let held = all.iter().filter(|(s, p)| *p == Progress::Held && waits(s));
        let more: Vec<_> = held.map(|(s, _)| &s.program).filter(|p| !stuck.contains(p)).collect();
        if more.is_empty() {
            break;
        }
        stuck.extend(more);
    }
    stuck
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::supervise::{AutoRestart, Limits, NotifyFrom, Ready, testutil::spec};

    fn names(of: &[ProcessName]) -> Vec<&str> {
        of.iter().map(ProcessName::as_str).collect()
    }

    #[test]
    fn only_the_process_that_changed_is_restarted() {
        let old = [spec("a"), spec("b"), spec("c")];
        let mut b = spec("b");
        b.argv.push("x".to_owned());
        let new = [spec("a"), b, spec("d")];
        let c = changes(old.iter(), new.iter());
        assert_eq!(
            (names(&c.added), names(&c.removed), names(&c.changed), c.adjusted.len()),
            (vec!["d"], vec!["c"], vec!["b"], 0)
        );
    }

    #[test]
    fn what_only_the_agent_cares_about_is_taken_over_without_a_restart() {
        let adjusted = ProcessSpec {
            stopwaitsecs: Duration::from_secs(600),
            autorestart: AutoRestart::Never,
            priority: 1,
            limits: Limits { nofile_min: Some(4096), ..Limits::default() },
            ..spec("a")
        };
        let c = changes([spec("a")].iter(), [adjusted].iter());
        assert_eq!((c.changed.len(), names(&c.adjusted)), (0, vec!["a"]));
    }

    #[test]
    fn a_least_number_of_open_files_lowers_no_limit() {
        let of = |nofile, nofile_min| Limits { nofile, nofile_min, ..Limits::default() };
        for (limits, inherited, want) in [
            (of(None, Some(4096)), (20_000, 1 << 20), (20_000, 1 << 20)),
            (of(None, Some(4096)), (1024, 1 << 20), (4096, 1 << 20)),
            (of(None, Some(4096)), (1024, 2048), (4096, 4096)),
            (of(None, Some(4096)), (u64::MAX, u64::MAX), (u64::MAX, u64::MAX)),
            (of(Some(512), Some(4096)), (1024, 2048), (512, 512)),
            (of(None, None), (1024, 2048), (1024, 2048)),
        ] {
            assert_eq!(limits.open_files(inherited), want, "{limits:?}");
        }
    }

    #[test]
    fn a_program_that_starts_to_notify_needs_the_socket_in_its_environment() {
        let ready = Ready::Notify { timeout: Duration::from_secs(1), from: NotifyFrom::Any };
        let notify = ProcessSpec { ready, ..spec("a") };
        assert_eq!(names(&changes([spec("a")].iter(), [notify].iter()).changed), ["a"]);
    }

    /// An upgrade that changes this value restarts every program of every host.
    #[test]
    fn the_fingerprint_is_the_same_in_every_version() {
        assert_eq!(fingerprint(&spec("a")), "dfbdad7e12007bc2");
    }

    fn after(name: &str, deps: &[&str]) -> ProcessSpec {
        ProcessSpec { after: deps.iter().map(|d| d.parse().unwrap()).collect(), ..spec(name) }
    }

    #[test]
    fn a_process_starts_once_those_it_waits_for_are_settled() {
        let (cache, web) = (spec("cache"), after("web", &["cache"]));
        let start = |p| may_start([(&cache, p), (&web, Progress::Held)].into_iter());
        assert!(start(Progress::Coming).is_empty());
        assert_eq!(start(Progress::Settled), BTreeSet::from([web.name.clone()]));
    }

    #[test]
    fn a_ring_is_broken_at_its_first_process() {
        let (a, b) = (after("a", &["b"]), ProcessSpec { priority: 1, ..after("b", &["a"]) });
        let free = may_start([(&a, Progress::Held), (&b, Progress::Held)].into_iter());
        assert_eq!(free, BTreeSet::from([b.name.clone()]));
    }

    #[test]
    fn what_waits_for_a_failed_one_shot_waits_on_and_takes_no_ring_with_it() {
        let migrate = ProcessSpec { oneshot: true, ..spec("migrate") };
        let (api, web) = (after("api", &["migrate"]), after("web", &["api"]));
        let (a, b) = (after("a", &["b"]), after("b", &["a"]));
        let all = [
            (&migrate, Progress::Failed),
            (&api, Progress::Held),
            (&web, Progress::Held),
            (&a, Progress::Held),
            (&b, Progress::Held),
        ];
        assert_eq!(may_start(all.into_iter()), BTreeSet::from([a.name.clone()]));
        assert_eq!(may_start(all[..3].iter().copied()), BTreeSet::new());
        let names: Vec<_> = stuck(&all).into_iter().map(ProgramName::as_str).collect();
        assert_eq!(names, ["api", "migrate", "web"]);
    }

    proptest! {
        /// However the programs wait for each other, all of them start in the end.
        #[test]
        fn everything_starts_in_the_end(edges in proptest::collection::vec((0_usize..6, 0_usize..6), 0..20)) {
            let all: Vec<_> = (0..6).map(|i| {
                let deps: Vec<_> = edges.iter().filter(|(a, _)| *a == i).map(|(_, b)| format!("p{b}")).collect();
                after(&format!("p{i}"), &deps.iter().map(String::as_str).collect::<Vec<_>>())
            }).collect();
            let mut up = BTreeSet::new();
            for _ in 0..6 {
                let free = may_start(all.iter().map(|s| {
                    (s, if up.contains(&s.name) { Progress::Settled } else { Progress::Held })
                }));
                up.extend(free);
            }
            prop_assert_eq!(up.len(), 6);
        }
    }
}
