//! Keys of a program about its life while it runs: health, reload, rolling, steps of stopping, upkeep.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_types::Span;

use super::{
    readiness::{address, http_target},
    section::{Field, Section},
    values::{signal, span},
};
use crate::supervise::{Health, ProbeTarget, Ready, Reload, Rolling, StopStep, Upkeep};

/// The longest wait between two signals.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 86_400);
/// The most signals in `stop`.
const MOST_STEPS: usize = 16;
/// What `health` means where it does not say.
const HEALTH_EVERY: Duration = Duration::from_secs(10);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
const HEALTH_FAILURES: u32 = 3;

/// What these keys say.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) health: Option<Health>,
    pub(super) reload: Option<Reload>,
    pub(super) rolling: Rolling,
    /// The first step of `stop`, in the place of `stopsignal` and `stopwaitsecs`.
    pub(super) stop: Option<StopStep>,
    pub(super) stop_then: Vec<StopStep>,
    pub(super) upkeep: Upkeep,
}

/// Reads these keys of a program.
pub(super) fn upkeep(s: &mut Section<'_>) -> Draft {
    let mut stop = s.get("stop").map(|f| steps(&f)).unwrap_or_default();
    for key in ["stopsignal", "stopwaitsecs"] {
        if let Some(f) = s.get(key).filter(|_| !stop.is_empty()) {
            f.wrong("cannot stand beside stop, which says both; keep one");
        }
    }
    let rolling = s.get("rolling").map(|f| rolling(f.section())).unwrap_or_default();
    if let Some(f) = s.get("reload").filter(|_| rolling.overlap) {
        f.wrong("is not used beside rolling.overlap, which starts a new instance; keep one");
    }
    let first = (!stop.is_empty()).then(|| stop.remove(0));
    Draft {
        health: s.get("health").and_then(|f| health(f.section())),
        reload: s.get("reload").and_then(|f| {
            let mut s = f.section();
            let signal = s.need("signal").and_then(|f| signal(&f));
            s.finish();
            Some(Reload { signal: signal? })
        }),
        rolling,
        stop: first,
        stop_then: stop,
        upkeep: Upkeep {
            max_memory: s.get("max_memory").and_then(|f| {
                let size: palisade_types::ByteSize = f.parse()?;
                if size.bytes() == 0 {
                    f.wrong("must be more than nothing; leave it out for no bound");
                }
                Some(size)
            }),
            restarts_per_minute: s.get("restarts_per_minute").and_then(|f| f.int(0..=100_000)),
        },
    }
}

/// An overlap has to tell a release that comes up from one that does not.
pub(super) fn overlap_can_tell(
    s: &mut Section<'_>,
    rolling: Rolling,
    startsecs: Duration,
    ready: &Ready,
) {
    let is_blind = rolling.overlap && startsecs.is_zero() && *ready == Ready::Delay;
    if let Some(f) = s.get("rolling").filter(|_| is_blind) {
        f.wrong(
            "overlap needs to know when a new instance is up: give ready, or a startsecs above 0",
        );
    }
}

/// `[TERM, 600s, QUIT, 15s, KILL]`: signals, each with the time it is given. KILL ends the list,
/// written or not.
fn steps(field: &Field<'_>) -> Vec<StopStep> {
    let mut out: Vec<StopStep> = Vec::new();
    let mut items = field.items().into_iter().peekable();
    while let Some(item) = items.next() {
        let Some(signal) = signal(&item) else { return Vec::new() };
        let Some(wait) = items.next() else {
            if signal != Signal::SIGKILL || out.is_empty() {
                item.wrong("must be followed by how long it is given, such as 10s");
                return Vec::new();
            }
            break;
        };
        let Some(Span(wait)) = wait.parse::<Span>().filter(|s| in_bounds(&wait, s.0)) else {
            return Vec::new();
        };
        out.push(StopStep { signal, wait });
        if signal == Signal::SIGKILL && items.peek().is_some() {
            item.wrong("ends the list: nothing comes after KILL");
            return Vec::new();
        }
    }
    if out.is_empty() {
        field.wrong("must be signals and how long each is given, such as [TERM, 600s, QUIT, 15s]");
    } else if out.len() > MOST_STEPS {
        field.wrong(format!("must have at most {MOST_STEPS} signals"));
    }
    out
}

fn in_bounds(field: &Field<'_>, wait: Duration) -> bool {
    let is_good = wait <= LONGEST_WAIT;
    if !is_good {
        field.wrong("must be at most 7d");
    }
    is_good
}

fn health(mut s: Section<'_>) -> Option<Health> {
    let ways = [
        ask(s.get("http"), "url", http_target),
        ask(s.get("tcp"), "address", |f| {
            f.text().and_then(|t| address(f, t)).map(ProbeTarget::Tcp)
        }),
        ask(s.get("unix"), "path", |f| f.abs_path().map(ProbeTarget::Unix)),
    ];
    let mut found: Vec<_> = ways.into_iter().flatten().collect();
    match found.len() {
        0 => s.wrong("must say what is asked: http, tcp or unix"),
        1 => {}
        _ => s.wrong("has more than one way to ask; keep one"),
    }
    s.finish();
    found.pop().flatten()
}

/// None where the key is not there, `Some(None)` where what it says is wrong and noted.
fn ask(
    field: Option<Field<'_>>,
    key: &'static str,
    target: impl Fn(&Field<'_>) -> Option<ProbeTarget>,
) -> Option<Option<Health>> {
    let mut s = field?.section();
    let target = s.need(key).and_then(|f| target(&f));
    let every = span(&mut s, "every").unwrap_or(HEALTH_EVERY);
    let timeout = span(&mut s, "timeout").unwrap_or(HEALTH_TIMEOUT.min(every));
    let failures = s.get("failures").and_then(|f| f.int(1..=1000)).unwrap_or(HEALTH_FAILURES);
    if every < Duration::from_millis(100) {
        s.wrong("every must be at least 100ms");
    }
    if timeout.is_zero() || timeout > every {
        s.wrong("timeout must be more than nothing and at most every");
    }
    s.finish();
    Some(target.map(|target| Health { target, every, timeout, failures }))
}

fn rolling(mut s: Section<'_>) -> Rolling {
    let rolling = Rolling { overlap: s.get("overlap").and_then(|f| f.bool()).unwrap_or(false) };
    s.finish();
    rolling
}
