//! Keys of a program that runs at times or once, and of the commands around its start.
//!
//! Such a program is not kept running: keys that would say so are mistakes, not ignored.

use std::time::Duration;

use jiff::tz::TimeZone;
use palisade_types::Span;

use super::{
    programs::{Program, command},
    raw::Value,
    section::{Field, Section, did_you_mean},
    values::{Known, Template},
};
use crate::supervise::{AutoRestart, Calendar, Hook, Hooks, Missed, Notation, Overlap, Schedule};

/// How long a hook may take if nothing is said.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that a hook may be given: a start must have an end.
const HOOK_MAX: Duration = Duration::from_secs(24 * 3600);

/// The pause before a failed run is tried again if nothing is said.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// More hooks than this is a script that wants to be one.
const MAX_HOOKS: usize = 16;

/// What these keys say.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) schedule: Option<Schedule>,
    pub(super) oneshot: bool,
    pre_start: Vec<HookDraft<'a>>,
    post_start: Vec<HookDraft<'a>>,
    /// `startsecs` is given.
    has_startsecs: bool,
}

#[derive(Debug)]
struct HookDraft<'a> {
    argv: Vec<Template<'a>>,
    timeout: Duration,
}

/// Reads these keys of a program.
pub(super) fn errand<'a>(s: &mut Section<'a>) -> Draft<'a> {
    let oneshot = s.get("oneshot").and_then(|f| f.bool()).unwrap_or(false);
    let schedule_field = s.get("schedule");
    let schedule = schedule_field.as_ref().and_then(schedule);
    let (pre_start, post_start) = match s.get("hooks") {
        Some(field) => {
            let mut s = field.section();
            let both = [s.get("pre_start"), s.get("post_start")];
            if let [_, Some(post)] = &both {
                no_post_start(post, oneshot, schedule_field.is_some());
            }
            s.finish();
            let [pre, post] = both.map(|f| f.map(|f| hooks(&f)).unwrap_or_default());
            (pre, post)
        }
        None => Default::default(),
    };
    if schedule_field.is_some() {
        not_kept_running(s, oneshot);
    } else if oneshot {
        runs_once(s);
    }
    let has_startsecs = s.get("startsecs").is_some();
    Draft { schedule, oneshot, pre_start, post_start, has_startsecs }
}

/// What a schedule means for keys that are not given.
pub(super) fn settle(program: &mut Program<'_>) {
    if program.errand.schedule.is_some() {
        program.autostart = false;
        program.autorestart = AutoRestart::Never;
        if !program.errand.has_startsecs {
            // However soon a job is done, that is no failure.
            program.startsecs = Duration::ZERO;
        }
    }
}

fn not_kept_running(s: &mut Section<'_>, oneshot: bool) {
    if oneshot {
        s.wrong(
            "oneshot and schedule exclude each other: nobody waits for what runs again and again",
        );
    }
    if let Some(f) = s.get("autostart")
        && f.bool() == Some(true)
    {
        f.wrong("cannot be true with a schedule, which starts it; remove it");
    }
    if let Some(f) = s.get("autorestart")
        && f.word().is_some_and(|word| word != "false")
    {
        f.wrong("must be false with a schedule; schedule.retries tries a failed run again");
    }
    for key in ["health", "rolling"] {
        if let Some(f) = s.get(key) {
            f.wrong("has no meaning with a schedule; remove it");
        }
    }
}

fn runs_once(s: &mut Section<'_>) {
    if let Some(f) = s.get("autorestart")
        && f.word().is_some_and(|word| word == "true")
    {
        f.wrong("cannot be true with oneshot, which runs to its end once");
    }
    for key in ["ready", "startsecs", "health", "rolling", "reload", "max_memory"] {
        if let Some(f) = s.get(key) {
            f.wrong("has no meaning with oneshot, which is up once it has ended well; remove it");
        }
    }
}

/// A hook is for what stays up: of what ends by itself, it would not begin or be cut off.
fn no_post_start(field: &Field<'_>, oneshot: bool, is_scheduled: bool) {
    let instead = "make it a part of the command";
    if oneshot {
        field.wrong(format!("would never run: a oneshot is up once it has ended; {instead}"));
    } else if is_scheduled {
        field.wrong(format!("would be cut off at the end of a scheduled run; {instead}"));
    }
}

/// `"0 3 * * *"`, `daily`, or a map with `cron` or `calendar`.
fn schedule(field: &Field<'_>) -> Option<Schedule> {
    if !matches!(field.node.value, Value::Map(_)) {
        let when = calendar(field, Notation::Either, TimeZone::UTC)?;
        return Some(Schedule {
            when,
            overlap: Overlap::default(),
            missed: Missed::default(),
            retries: 0,
            retry_after: RETRY_AFTER,
        });
    }
    let mut s = field.section();
    let zone = match s.get("timezone") {
        Some(f) => f.text().and_then(|name| self::zone(&f, name)),
        None => Some(TimeZone::UTC),
    };
    let (cron, systemd) = (s.get("cron"), s.get("calendar"));
    let overlaps =
        [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("replace", Overlap::Replace)];
    let overlap = s.get("overlap").and_then(|f| f.one_of(&overlaps)).unwrap_or_default();
    let missed = s.get("missed");
    let missed = missed.and_then(|f| f.one_of(&[("skip", Missed::Skip), ("once", Missed::Once)]));
    let retries = s.get("retries").and_then(|f| f.int(0..=1000)).unwrap_or(0);
    let retry_after = s.get("retry_after").and_then(|f| within(&f)).unwrap_or(RETRY_AFTER);
    let zone = zone.unwrap_or(TimeZone::UTC);
    let when = match (cron, systemd) {
        (Some(f), None) => calendar(&f, Notation::Cron, zone),
        (None, Some(f)) => calendar(&f, Notation::Systemd, zone),
        (None, None) => {
            s.wrong("needs cron, such as \"0 3 * * *\", or calendar, such as \"Mon..Fri 03:00\"");
            None
        }
        (Some(_), Some(f)) => {
            f.wrong("cannot stand beside cron; keep one");
            None
        }
    };
    s.finish();
    Some(Schedule {
        when: when?,
        overlap,
        missed: missed.unwrap_or_default(),
        retries,
        retry_after,
    })
}

fn calendar(field: &Field<'_>, notation: Notation, zone: TimeZone) -> Option<Calendar> {
    let text = field.text()?;
    Calendar::new(text, notation, zone).map_err(|e| field.wrong(e.to_string())).ok()
}

fn zone(field: &Field<'_>, name: &str) -> Option<TimeZone> {
    let found = TimeZone::get(name).ok();
    if found.is_none() {
        let all: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
        let hint = did_you_mean(name, all.iter().map(String::as_str));
        field.wrong(format!("{name:?} is not a time zone such as Europe/Berlin{hint}"));
    }
    found
}

fn within(field: &Field<'_>) -> Option<Duration> {
    let Span(span) = field.parse()?;
    if span.is_zero() || span > HOOK_MAX {
        field.wrong("must be more than 0s and at most 24h");
    }
    Some(span)
}

/// A command or a list of them; each a string, a list of words, or a map with `command` and `timeout`.
fn hooks<'a>(field: &Field<'a>) -> Vec<HookDraft<'a>> {
    let items = match &field.node.value {
        // A list of words would be a list of commands: one command in words needs its own list.
        Value::List(_) => field.items(),
        _ => vec![field.clone()],
    };
    if items.len() > MAX_HOOKS {
        field.wrong(format!("has more than {MAX_HOOKS} commands; put them into a script"));
    }
    items.iter().filter_map(hook).collect()
}

fn hook<'a>(field: &Field<'a>) -> Option<HookDraft<'a>> {
    let (argv, timeout) = if let Value::Map(_) = field.node.value {
        let mut s = field.section();
        let argv = s.need("command").map(|f| command(&f)).unwrap_or_default();
        let timeout = s.get("timeout").and_then(|f| within(&f));
        s.finish();
        (argv, timeout)
    } else {
        (command(field), None)
    };
    (!argv.is_empty()).then(|| HookDraft { argv, timeout: timeout.unwrap_or(HOOK_TIMEOUT) })
}

impl Draft<'_> {
    /// The hooks of one process.
    pub(super) fn hooks(
        &self,
        known: &Known,
        fill: impl Fn(&Template<'_>, &Known) -> Option<String>,
    ) -> Option<Hooks> {
        let all = |hooks: &[HookDraft<'_>]| {
            let one = |hook: &HookDraft<'_>| {
                let argv = hook.argv.iter().map(|word| fill(word, known)).collect::<Option<_>>()?;
                Some(Hook { argv, timeout: hook.timeout })
            };
            hooks.iter().map(one).collect::<Option<_>>()
        };
        Some(Hooks { pre_start: all(&self.pre_start)?, post_start: all(&self.post_start)? })
    }
}

#[cfg(test)]
mod tests;
