//! The `logs` section.

use std::{collections::BTreeSet, time::Duration};

use palisade_types::{ByteSize, Span};

use super::{
    log_lines,
    section::{Field, Section},
    settings::Host,
};
use crate::logs::{
    FileSource, Journald, NewGroups, NewRelic, OnFull, Redactor, Settings, Sink, Spool, Zone,
};

/// What CloudWatch Logs allows as a retention (`PutRetentionPolicy`).
const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// Characters of a log group's name (`CreateLogGroup`).
pub(super) fn is_group_name(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b))
}

/// `header` is that of the origin guard, `programs` all programs there are.
pub(super) fn logs(
    mut s: Section<'_>,
    host: &Host,
    has_aws: bool,
    header: &str,
    programs: &BTreeSet<String>,
) -> Settings {
    let group = s.get("group").and_then(|f| template(&f, &["env", "program", "instance_id"]));
    let stream = s.get("stream").and_then(|f| template(&f, &["instance_id", "process", "program"]));
    let group = group.unwrap_or_else(|| "/palisade/{env}/{program}".to_owned());
    // What a program prints arrives as it is printed; its own time adds nothing but mistakes.
    let (program_lines, zone) = log_lines::lines(&mut s, false, None);
    let default_sink = if has_aws { Sink::CloudWatch } else { Sink::Local };
    let sink = s.get("sink").and_then(|f| {
        let sink = f.one_of(&[("cloudwatch", Sink::CloudWatch), ("local", Sink::Local)])?;
        if sink == Sink::CloudWatch && !has_aws {
            f.wrong("cloudwatch needs an aws section, such as aws: { region: auto }");
        }
        Some(sink)
    });
    let flush_every = s.get("flush_every").and_then(|f| {
        let Span(every) = f.parse()?;
        if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&every) {
            f.wrong("must be 100ms to 5m");
        }
        Some(every)
    });
    let settings = Settings {
        group: group.replace("{env}", &host.env),
        stream: stream.unwrap_or_else(|| "{instance_id}/{process}".to_owned()),
        new_groups: NewGroups {
            retention_days: s.get("retention_days").and_then(|f| retention(&f)),
            kms_key: s.get("kms_key").and_then(|f| kms_key(&f)),
        },
        programs: s.get("programs").and_then(|f| f.bool()).unwrap_or(true),
        program_lines,
        redact: s
            .get("redact")
            .map_or_else(Redactor::none, |f| log_lines::redact(&f, header, programs)),
        agent: s.get("agent").and_then(|f| f.bool()).unwrap_or(true),
        journald: s.get("journald").map(|f| journald(f.section())),
        files: s.get("files").map(|f| files(&f, zone.as_ref())).unwrap_or_default(),
        spool: s.get("spool").map_or(DEFAULT_SPOOL, |f| spool(f.section(), DEFAULT_SPOOL)),
        compress: s.get("compress").and_then(|f| f.bool()).unwrap_or(true),
        sink: sink.unwrap_or(default_sink),
        new_relic: s.get("new_relic").and_then(|f| new_relic(f.section())),
        flush_every: flush_every.unwrap_or(Duration::from_secs(1)),
        state_dir: host.state_dir.join("logs"),
    };
    s.finish();
    settings
}

const DEFAULT_SPOOL: Spool =
    Spool { max: ByteSize::mib(1024), on_full: OnFull::Block, reserve_permille: 50 };

/// A name with `{placeholders}`, each of which must be known.
fn template(field: &Field<'_>, known: &[&str]) -> Option<String> {
    let text = field.text()?;
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            field.wrong(format!("{{{after} is not closed"));
            return None;
        };
        if !known.contains(&name) {
            field.wrong(format!("{{{name}}} is not known here; known are {}", known.join(", ")));
        }
        rest = after;
    }
    plain.push_str(rest);
    if text.is_empty() || text.len() > 256 || !is_group_name(&plain) {
        field.wrong("must be 1-256 of a-z A-Z 0-9 . - _ / # and {placeholders}");
    }
    if text.starts_with("aws/") {
        field.wrong("must not start with aws/, which AWS keeps for itself");
    }
    Some(text.to_owned())
}

fn retention(field: &Field<'_>) -> Option<u32> {
    let days = field.int(1..=3653)?;
    if !RETENTION_DAYS.contains(&days) {
        let near = RETENTION_DAYS.iter().find(|d| **d > days).copied().unwrap_or(3653);
        field.wrong(format!("{days} is not a retention of CloudWatch Logs; the next is {near}"));
    }
    Some(days)
}

/// `CreateLogGroup` takes the ARN of a key, never an alias.
fn kms_key(field: &Field<'_>) -> Option<String> {
    let arn = field.text()?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let good = match parts.as_slice() {
        ["arn", _, "kms", region, account, resource] => {
            !region.is_empty()
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && resource.strip_prefix("key/").is_some_and(|id| !id.is_empty())
        }
        _ => false,
    };
    if !good || arn.len() > 256 {
        field.wrong(
            "must be the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/ID",
        );
        return None;
    }
    Some(arn.to_owned())
}

/// New Relic's Log API, by the region of the account.
const NEW_RELIC: [(&str, &str); 2] = [
    ("us", "https://log-api.newrelic.com/log/v1"),
    ("eu", "https://log-api.eu.newrelic.com/log/v1"),
];

fn new_relic(mut s: Section<'_>) -> Option<NewRelic> {
    let key_file = s.need("license_key_file").and_then(|f| f.abs_path());
    let by_region = s.get("region").and_then(|f| f.one_of(&NEW_RELIC));
    let endpoint = s.get("endpoint").and_then(|f| endpoint(&f));
    // The first sink is the record; a copy of it does not hold up programs unless that is asked for.
    let usual = Spool { on_full: OnFull::DropOldest, ..DEFAULT_SPOOL };
    let spool = s.get("spool").map_or(usual, |f| spool(f.section(), usual));
    s.finish();
    let usual = NEW_RELIC.first().map_or("", |(_, url)| *url);
    let endpoint = endpoint.unwrap_or_else(|| by_region.unwrap_or(usual).to_owned());
    Some(NewRelic { key_file: key_file?, endpoint, spool })
}

/// The key goes there, so only encrypted or to this host.
fn endpoint(field: &Field<'_>) -> Option<String> {
    let url = field.text()?;
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(['/', ':']).next());
    let is_here = matches!(host, Some("127.0.0.1" | "localhost"));
    let is_safe = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) || is_here;
    if !is_safe || url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        field.wrong("must be an https:// URL, or http:// on 127.0.0.1");
        return None;
    }
    Some(url.to_owned())
}

fn files(field: &Field<'_>, zone: Option<&Zone>) -> Vec<FileSource> {
    let mut out = Vec::new();
    for item in field.items() {
        let mut s = item.section();
        // A file may be read long after it was written, above all when the agent did not run.
        let (lines, _) = log_lines::lines(&mut s, true, zone);
        if let Some(f) = s.need("path")
            && let Some(path) = f.abs_path()
        {
            let dir = path.parent().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
            if dir.contains(['*', '?']) {
                f.wrong("may hold * and ? in its last part only");
            }
            out.push(FileSource { path, lines });
        }
        s.finish();
    }
    out
}

/// Most units that are named one by one; each is a part of what the journal is asked for.
const MAX_UNITS: usize = 100;

fn journald(mut s: Section<'_>) -> Journald {
    let mut units = Vec::new();
    if let Some(f) = s.get("units") {
        for item in f.items() {
            let Some(name) = item.text() else { continue };
            if let Some(why) = unit_mistake(name) {
                item.wrong(why);
            } else if !units.iter().any(|u| u == name) {
                units.push(name.to_owned());
            }
        }
        if units.len() > MAX_UNITS {
            f.wrong(format!("must be {MAX_UNITS} at most; an empty list means every unit"));
        }
    }
    s.finish();
    Journald { units }
}

/// What is wrong with the name of a unit.
fn unit_mistake(name: &str) -> Option<String> {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "device",
        "mount",
        "automount",
        "swap",
        "target",
        "path",
        "timer",
        "slice",
        "scope",
    ];
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        return Some("must be the name of a unit, such as nginx.service".to_owned());
    }
    match name.rsplit_once('.') {
        Some((_, kind)) if KINDS.contains(&kind) => None,
        _ => Some(format!("must be a full name; did you mean {name}.service?")),
    }
}

fn spool(mut s: Section<'_>, usual: Spool) -> Spool {
    let max = s.get("max").and_then(|f| {
        let max: ByteSize = f.parse()?;
        if max < ByteSize::mib(32) {
            f.wrong("must be at least 32MiB, four segments");
        }
        Some(max)
    });
    let on_full = s
        .get("on_full")
        .and_then(|f| f.one_of(&[("block", OnFull::Block), ("drop_oldest", OnFull::DropOldest)]));
    let reserve = s.get("reserve").and_then(|f| {
        let permille = f.permille()?;
        if permille > 500 {
            f.wrong("must be at most 50%");
        }
        Some(permille)
    });
    s.finish();
    Spool {
        max: max.unwrap_or(usual.max),
        on_full: on_full.unwrap_or(usual.on_full),
        reserve_permille: reserve.unwrap_or(usual.reserve_permille),
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
