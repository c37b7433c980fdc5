//! The `logs` section.

use std::time::Duration;

use palisade_types::{ByteSize, Span};

use super::{
    section::{Field, Section},
    settings::Host,
};
use crate::logs::{FileSource, OnFull, Settings, Sink, Spool};

/// What CloudWatch Logs allows as a retention (`PutRetentionPolicy`).
const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// Characters of a log group's name (`CreateLogGroup`).
pub(super) fn is_group_name(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b))
}

pub(super) fn logs(mut s: Section<'_>, host: &Host, has_aws: bool) -> Settings {
    let group = s.get("group").and_then(|f| template(&f, &["env", "program", "instance_id"]));
    let stream = s.get("stream").and_then(|f| template(&f, &["instance_id", "process", "program"]));
    let group = group.unwrap_or_else(|| "/palisade/{env}/{program}".to_owned());
    if let Some(f) = s.get("multiline") {
        f.wrong("belongs to an entry of files");
    }
    s.refuse(&["journald", "redact"]);
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
        retention_days: s.get("retention_days").and_then(|f| retention(&f)),
        programs: s.get("programs").and_then(|f| f.bool()).unwrap_or(true),
        files: s.get("files").map(|f| files(&f)).unwrap_or_default(),
        spool: s.get("spool").map_or(DEFAULT_SPOOL, |f| spool(f.section())),
        compress: s.get("compress").and_then(|f| f.bool()).unwrap_or(true),
        sink: sink.unwrap_or(default_sink),
        flush_every: flush_every.unwrap_or(Duration::from_secs(1)),
        state_dir: host.state_dir.join("logs"),
    };
    s.finish();
    settings
}

const DEFAULT_SPOOL: Spool = Spool { max: ByteSize::mib(1024), on_full: OnFull::Block };

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

fn files(field: &Field<'_>) -> Vec<FileSource> {
    let mut out = Vec::new();
    for item in field.items() {
        let mut s = item.section();
        if let Some(f) = s.get("multiline")
            && f.text().is_some_and(|t| t != "none")
        {
            f.wrong("only none is supported by this version of palisade");
        }
        if let Some(f) = s.need("path")
            && let Some(path) = f.abs_path()
        {
            let dir = path.parent().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
            if dir.contains(['*', '?']) {
                f.wrong("may hold * and ? in its last part only");
            }
            out.push(FileSource { path });
        }
        s.finish();
    }
    out
}

fn spool(mut s: Section<'_>) -> Spool {
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
    s.finish();
    Spool {
        max: max.unwrap_or(DEFAULT_SPOOL.max),
        on_full: on_full.unwrap_or(DEFAULT_SPOOL.on_full),
    }
}
