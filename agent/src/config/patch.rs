//! The `patch` section.

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::{
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use palisade_types::Span;

use super::section::{Field, Section, did_you_mean};
use crate::{
    clock::Timestamp,
    patch::{Hold, ManagerKind, Reboot, Scope, Settings, Tell, Unit, Window, Windows},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// What one window says.
struct Frame {
    length: Duration,
    window: Option<Window>,
}

pub(super) fn patch(
    mut s: Section<'_>,
    state_dir: &Path,
    programs: &BTreeSet<String>,
    has_aws: bool,
) -> Settings {
    let frames: Vec<Frame> = match s.need("window") {
        Some(f) => f.items().iter().map(window).collect(),
        None => Vec::new(),
    };
    let shortest = frames.iter().map(|f| f.length).min().unwrap_or(HOUR);
    let mut span = |key, default, max| s.get(key).and_then(|f| bounded(&f, max)).unwrap_or(default);
    let day = 24 * HOUR;
    let splay = span("splay", 10 * MINUTE, day);
    let lists_max_age = span("lists_max_age", day, 30 * day);
    let lock_timeout = span("lock_timeout", 10 * MINUTE, day);
    let session_grace = span("session_grace", 30 * MINUTE, day);
    let service_timeout = span("service_timeout", 2 * MINUTE, HOUR);
    let cutoff = s.get("cutoff").and_then(|f| {
        let cutoff = bounded(&f, day)?;
        if cutoff >= shortest {
            f.wrong("must be shorter than every window, or nothing would ever begin");
        }
        Some(cutoff)
    });
    let managers =
        [("auto", None), ("apt", Some(ManagerKind::Apt)), ("dnf", Some(ManagerKind::Dnf))];
    let manager = s.get("manager").and_then(|f| f.one_of(&managers)).flatten();
    let scope = s.get("scope");
    let scope = scope.and_then(|f| f.one_of(&[("security", Scope::Security), ("all", Scope::All)]));
    let reboots = [("never", Reboot::Never), ("when-needed", Reboot::WhenNeeded)];
    let reboot = s.get("reboot").and_then(|f| f.one_of(&reboots));
    let restart = s.get("restart").map(|f| restart(&f, programs)).unwrap_or_default();
    let leave = s.get("leave").map(|f| leave(&f)).unwrap_or_default();
    let holds = s.get("hold").map(|f| f.items().iter().filter_map(hold).collect());
    let max_packages = s.get("max_packages").and_then(|f| f.int(1..=10_000));
    let compliance = s.get("compliance").and_then(|f| tell(&f, has_aws));
    let apt_security = s.get("apt").map(|f| apt(f.section())).unwrap_or_default();
    let release = s.get("release").and_then(|f| release(&f));
    s.finish();
    Settings {
        manager,
        windows: Windows(frames.into_iter().filter_map(|f| f.window).collect()),
        scope: scope.unwrap_or(Scope::Security),
        reboot: reboot.unwrap_or(Reboot::Never),
        restart,
        leave,
        holds: holds.unwrap_or_default(),
        max_packages,
        compliance: compliance.unwrap_or(Tell::Nobody),
        splay,
        // A quarter of an hour, or of a short window.
        cutoff: cutoff.unwrap_or((15 * MINUTE).min(shortest / 4)),
        lists_max_age,
        lock_timeout,
        session_grace,
        service_timeout,
        apt_security,
        release,
        state_dir: state_dir.join("patch"),
    }
}

fn bounded(field: &Field<'_>, max: Duration) -> Option<Duration> {
    let Span(span) = field.parse()?;
    if span > max {
        field.wrong(format!("must be at most {}", palisade_types::format_duration(max)));
    }
    Some(span)
}

fn window(field: &Field<'_>) -> Frame {
    let mut s = field.section();
    let days = s.need("days").map(|f| days(&f));
    let start = s.need("start").and_then(|f| time_of_day(&f));
    let length = s.need("length").and_then(|f| f.parse::<Span>()).map(|Span(d)| d);
    let zone = match s.get("timezone") {
        None => Some(TimeZone::UTC),
        Some(f) => f.text().and_then(|name| zone(&f, name)),
    };
    let window = match (days, start, length, zone) {
        (Some(days), Some(start), Some(length), Some(zone)) => {
            Window::new(days, start, length, zone).map_err(|e| s.wrong(e.to_string())).ok()
        }
        _ => None,
    };
    s.finish();
    Frame { length: length.unwrap_or(HOUR), window }
}

/// `[tue, thu]`, or `daily`.
fn days(field: &Field<'_>) -> Vec<Weekday> {
    let mut days = Vec::new();
    for item in field.items() {
        if item.word().as_deref() == Some("daily") {
            days.extend(DAYS.map(|(_, day)| day));
            continue;
        }
        days.extend(item.one_of(&DAYS));
    }
    days
}

fn time_of_day(field: &Field<'_>) -> Option<Time> {
    let text = field.text()?;
    let parsed = text.split_once(':').and_then(|(h, m)| {
        let two = |s: &str| s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit());
        (two(h) && two(m)).then_some(())?;
        Time::new(h.parse().ok()?, m.parse().ok()?, 0, 0).ok()
    });
    if parsed.is_none() {
        field.wrong(format!("{text:?} must be a time of day in quotes, such as \"03:00\""));
    }
    parsed
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

/// Programs by name, units with their `.service`.
fn restart(field: &Field<'_>, programs: &BTreeSet<String>) -> Vec<Unit> {
    let mut seen: Vec<Unit> = Vec::new();
    for item in field.items() {
        let Some(name) = item.text() else { continue };
        let unit = if name.ends_with(".service") {
            Unit::Systemd(name.to_owned())
        } else {
            if !programs.contains(name) {
                let hint = did_you_mean(name, programs.iter().map(String::as_str));
                item.wrong(format!(
                    "{name:?} is neither a program nor a unit such as nginx.service{hint}"
                ));
            }
            Unit::Program(name.to_owned())
        };
        if seen.contains(&unit) {
            item.wrong(format!("{name} is named twice; each is restarted once"));
            continue;
        }
        seen.push(unit);
    }
    seen
}

fn leave(field: &Field<'_>) -> Vec<String> {
    let unit = |item: &Field<'_>| {
        let name = item.text()?;
        if !name.ends_with(".service") {
            item.wrong(format!("{name:?} must be a unit such as nginx.service"));
        }
        Some(name.to_owned())
    };
    field.items().iter().filter_map(unit).collect()
}

fn hold(field: &Field<'_>) -> Option<Hold> {
    let mut s = field.section();
    let package = s.need("package").and_then(|f| {
        let name = f.text()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            f.wrong(format!("{name:?} must be the name of one package"));
        }
        Some(name.to_owned())
    });
    let until = s.get("until").and_then(|f| day_after(&f));
    let why = s.need("why").and_then(|f| f.text().map(str::to_owned));
    s.finish();
    Some(Hold { package: package?, until, why: why? })
}

/// The end of a day in UTC: a hold until the first of December holds on that day.
fn day_after(field: &Field<'_>) -> Option<Timestamp> {
    let text = field.text()?;
    let end = text.parse::<Date>().ok().and_then(|d| d.tomorrow().ok());
    let end = end.and_then(|d| d.to_zoned(TimeZone::UTC).ok());
    if end.is_none() {
        field.wrong(format!("{text:?} must be a date in quotes, such as \"2026-12-01\""));
    }
    end.map(|t| Timestamp::from_millis(t.timestamp().as_millisecond()))
}

fn tell(field: &Field<'_>, has_aws: bool) -> Option<Tell> {
    // YAML reads a bare `off` as false.
    let told =
        field.one_of(&[("ssm", Tell::Ssm), ("off", Tell::Nobody), ("false", Tell::Nobody)])?;
    if told == Tell::Ssm && !has_aws {
        field.wrong("ssm needs an aws section, such as aws: { region: auto }");
    }
    Some(told)
}

fn apt(mut s: Section<'_>) -> Vec<String> {
    let items = s.get("security").map(|f| f.items()).unwrap_or_default();
    let label = |item: &Field<'_>| {
        let text = item.text()?;
        let known = |part: &str| {
            part.trim().split_once('=').is_some_and(|(k, v)| {
                ["l", "o", "a", "n"].contains(&k) && !v.is_empty() && !v.contains(['\n', '*'])
            })
        };
        if !text.split(',').all(known) {
            item.wrong(format!(
                "{text:?} must be as in a pin: l=LABEL, o=ORIGIN, a=SUITE, n=CODENAME, joined by commas"
            ));
        }
        Some(text.to_owned())
    };
    let labels = items.iter().filter_map(label).collect();
    s.finish();
    labels
}

fn release(field: &Field<'_>) -> Option<String> {
    let word = field.word()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if word.is_empty() || !word.bytes().all(plain) {
        field.wrong(format!("{word:?} must be latest or a release such as 2023.6.20260101"));
    }
    Some(word)
}
