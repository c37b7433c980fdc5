//! The `origin_guard` section.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use palisade_types::{Span, format_duration};

use super::section::{Field, Section, did_you_mean};
use crate::{
    firewall,
    origin::{HeaderName, Health, HealthPath, Leave, Location, Nginx, RealIp, Reload, Settings},
};

pub(super) const HEADER: &str = "X-Origin-Verify";
/// Parameter Store and Secrets Manager are asked this often; a file is looked at more often.
const EVERY: Duration = Duration::from_secs(60);
const EVERY_FILE: Duration = Duration::from_secs(5);
const LEAVE: Leave =
    Leave { unused_for: Duration::from_secs(10 * 60), at_most: Duration::from_secs(24 * 3600) };
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
const DIR: &str = "/etc/nginx/palisade";
/// Files that are beside the map.
const BESIDE: [&str; 6] = [
    "http.conf",
    "server.conf",
    "strip-proxy.conf",
    "strip-fastcgi.conf",
    "strip-uwsgi.conf",
    "real-ip.conf",
];

/// `has_aws`: whether AWS is configured at all.
pub(super) fn origin_guard(
    mut s: Section<'_>,
    state_dir: &Path,
    has_aws: bool,
    firewall: Option<&firewall::Settings>,
) -> Option<Settings> {
    let header = s.get("header").and_then(|f| header(&f)).or_else(|| HeaderName::parse(HEADER));
    let source = s.need("secret").and_then(|f| location(&f, has_aws));
    let every = s.get("every").and_then(|f| between(&f, 1, 3600));
    let unused_for = s.get("drop_unused_after").and_then(|f| between(&f, 60, 7 * 86_400));
    let at_most = s.get("drop_after").map(|f| (between(&f, 60, 90 * 86_400), f));
    let nginx = match s.get("nginx") {
        Some(f) => nginx(f.section()),
        None => usual_nginx(),
    };
    let health = s.get("health").and_then(|f| health(f.section()));
    let real_ip = s.get("real_ip").map(|f| real_ip(f.section(), firewall));
    s.finish();
    let leave = Leave {
        unused_for: unused_for.unwrap_or(LEAVE.unused_for),
        at_most: at_most.as_ref().and_then(|(d, _)| *d).unwrap_or(LEAVE.at_most),
    };
    if let Some((Some(_), f)) = &at_most
        && leave.at_most < leave.unused_for
    {
        f.wrong(format!(
            "must not be less than drop_unused_after, which is {}",
            format_duration(leave.unused_for)
        ));
    }
    let source = source?;
    let usual = if let Location::File(_) = source { EVERY_FILE } else { EVERY };
    Some(Settings {
        header: header?,
        source,
        every: every.unwrap_or(usual),
        leave,
        nginx,
        health,
        real_ip,
        state_dir: state_dir.join("origin"),
    })
}

fn header(field: &Field<'_>) -> Option<HeaderName> {
    let text = field.text()?;
    let name = HeaderName::parse(text);
    if name.is_none() {
        field.wrong(format!(
            "{text:?} must be a name of letters, digits and hyphens that visitors do not send anyway, such \
             as {HEADER}"
        ));
    }
    name
}

fn between(field: &Field<'_>, least: u64, most: u64) -> Option<Duration> {
    let Span(d) = field.parse()?;
    let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
    if d < least || d > most {
        field.wrong(format!("must be {} to {}", format_duration(least), format_duration(most)));
        return None;
    }
    Some(d)
}

fn location(field: &Field<'_>, has_aws: bool) -> Option<Location> {
    let mut s = field.section();
    let found = [s.get("ssm_parameter"), s.get("secrets_manager"), s.get("file")];
    s.finish();
    let [parameter, secret, file] = &found;
    for cloud in [parameter, secret].into_iter().flatten() {
        if !has_aws {
            cloud.wrong("needs the section aws");
        }
    }
    match (parameter, secret, file) {
        (Some(f), None, None) => name(f, b"/_.-", 1011).map(Location::SsmParameter),
        (None, Some(f), None) => name(f, b"/_+=.@:-", 2048).map(Location::SecretsManager),
        (None, None, Some(f)) => f.abs_path().map(Location::File),
        (None, None, None) => {
            field.wrong("needs one of ssm_parameter, secrets_manager, file");
            None
        }
        _ => {
            field.wrong("must have only one of ssm_parameter, secrets_manager, file");
            None
        }
    }
}

/// A name, or an ARN.
fn name(field: &Field<'_>, also: &[u8], most: usize) -> Option<String> {
    let text = field.text()?;
    let is_arn = text.starts_with("arn:");
    let good = |b: u8| b.is_ascii_alphanumeric() || also.contains(&b) || (is_arn && b == b':');
    if text.is_empty() || text.len() > most || !text.bytes().all(good) {
        field.wrong(format!("{text:?} must be a name or an ARN of AWS"));
        return None;
    }
    Some(text.to_owned())
}

fn usual_nginx() -> Nginx {
    Nginx {
        map: Path::new(DIR).join("origin.map"),
        reload: Reload::After(RELOAD_INTERVAL),
        program: PathBuf::from("/usr/sbin/nginx"),
        config: None,
        pid: PathBuf::from("/run/nginx.pid"),
        group: None,
        hits: PathBuf::from("/var/log/nginx/palisade-origin.hits"),
    }
}

fn nginx(mut s: Section<'_>) -> Nginx {
    let usual = usual_nginx();
    let map = s.get("map").and_then(|f| map(&f));
    let reload = s.get("reload").and_then(|f| f.bool());
    let interval = s.get("reload_interval").and_then(|f| between(&f, 1, 3600));
    let program = s.get("program").and_then(|f| f.abs_path());
    let config = s.get("config").and_then(|f| f.abs_path());
    let pid = s.get("pid").and_then(|f| f.abs_path());
    let group = s.get("group").and_then(|f| f.word());
    let hits = s.get("hits").and_then(|f| plain_path(&f));
    s.finish();
    Nginx {
        map: map.unwrap_or(usual.map),
        reload: match reload {
            Some(false) => Reload::Never,
            Some(true) | None => Reload::After(interval.unwrap_or(RELOAD_INTERVAL)),
        },
        program: program.unwrap_or(usual.program),
        config,
        pid: pid.unwrap_or(usual.pid),
        group,
        hits: hits.unwrap_or(usual.hits),
    }
}

fn map(field: &Field<'_>) -> Option<PathBuf> {
    let path = plain_path(field)?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if path.parent().is_none_or(|dir| dir == Path::new("/")) {
        field.wrong("must be in a directory of its own, such as /etc/nginx/palisade");
    } else if BESIDE.contains(&name) {
        field.wrong(format!("{name} is the name of another file of the guard"));
    }
    Some(path)
}

/// A path that nginx reads as it is written.
fn plain_path(field: &Field<'_>) -> Option<PathBuf> {
    let path = field.abs_path()?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/_.-".contains(b);
    if path.as_os_str().as_encoded_bytes().iter().all(plain) {
        return Some(path);
    }
    field.wrong("must be made of A-Z a-z 0-9 / _ . - only, for nginx to read it as it is written");
    None
}

fn health(mut s: Section<'_>) -> Option<Health> {
    let paths = s.need("paths").map(|f| f.items().iter().filter_map(health_path).collect());
    let from = s.need("from").map(|f| f.items().iter().filter_map(net).collect());
    s.finish();
    Some(Health { paths: paths?, from: from? })
}

fn health_path(field: &Field<'_>) -> Option<HealthPath> {
    let text = field.text()?;
    let path = HealthPath::parse(text);
    if path.is_none() {
        field.wrong(format!(
            "{text:?} must be an exact path of A-Z a-z 0-9 / _ . -, such as /health"
        ));
    }
    path
}

fn net(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    let net = text.parse::<IpNet>().ok().filter(|n| n.trunc() == *n);
    match net {
        None => {
            field.wrong(format!(
                "{text:?} must be a network such as 10.20.0.0/24, without host bits"
            ));
            None
        }
        Some(n) if n.prefix_len() < 8 => {
            field.wrong(format!("{text} is too much of the internet to be trusted"));
            None
        }
        net => net,
    }
}

fn real_ip(mut s: Section<'_>, firewall: Option<&firewall::Settings>) -> RealIp {
    let from = s.get("from").map(|f| f.items()).unwrap_or_default();
    let known: Vec<&str> =
        firewall.iter().flat_map(|f| f.sources.keys()).map(firewall::SourceName::as_str).collect();
    let sources = from.iter().filter_map(|f| {
        let text = f.text()?;
        if !known.contains(&text) {
            let hint = did_you_mean(text, known.iter().copied());
            f.wrong(format!("{text} is not among firewall.sources{hint}"));
        }
        Some(text.to_owned())
    });
    let sources: Vec<String> = sources.collect();
    let trusted: Vec<IpNet> =
        s.get("trusted").map(|f| f.items().iter().filter_map(net).collect()).unwrap_or_default();
    if sources.is_empty() && trusted.is_empty() {
        s.wrong("needs from (sources of the firewall) or trusted (networks)");
    }
    s.finish();
    RealIp { sources, trusted }
}

#[cfg(test)]
#[path = "origin_guard_tests.rs"]
mod tests;
