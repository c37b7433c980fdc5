//! Where a program listens, and what is asked before it counts as ready.

use std::{net::SocketAddr, time::Duration};

use super::{section::Field, values::span};
use crate::supervise::{ListenAddr, ListenSocket, NotifyFrom, Probe, ProbeTarget, Ready};

pub(super) fn sockets(field: &Field<'_>) -> Vec<ListenSocket> {
    let mut out: Vec<ListenSocket> = Vec::new();
    for item in field.items() {
        let mut s = item.section();
        let listen = s.need("listen").and_then(|f| listen(&f));
        let name = s.get("name").and_then(|f| {
            let name = f.text()?;
            let ok = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !ok {
                f.wrong("must be 1-64 of a-z A-Z 0-9 . _ -");
            }
            Some(name.to_owned())
        });
        s.finish();
        if let Some(listen) = listen {
            if out.iter().any(|s| s.listen == listen) {
                item.wrong("listens where another of this program's sockets does");
            }
            let name = name.unwrap_or_else(|| format!("socket{}", out.len()));
            out.push(ListenSocket { name, listen });
        }
    }
    out
}

/// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock` or `/run/app.sock`.
pub(super) fn listen(field: &Field<'_>) -> Option<ListenAddr> {
    let text = field.text()?;
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        if path.len() > 107 {
            field.wrong("must be at most 107 bytes long");
        }
        return Some(ListenAddr::Unix(path.into()));
    }
    address(field, text).map(ListenAddr::Tcp)
}

pub(super) fn address(field: &Field<'_>, text: &str) -> Option<SocketAddr> {
    let parsed = text.replace("localhost:", "127.0.0.1:").parse();
    if parsed.is_err() {
        field.wrong(format!("{text:?} must be an address and port such as 127.0.0.1:8000"));
    }
    parsed.ok()
}

pub(super) fn ready(field: &Field<'_>) -> Option<Ready> {
    use super::raw::Value;
    if let Value::Text(word) = &field.node.value {
        return match word.as_str() {
            "delay" => Some(Ready::Delay),
            "notify" => Some(Ready::Notify { timeout: READY_TIMEOUT, from: NotifyFrom::Any }),
            other => {
                field.wrong(format!(
                    "{other:?} must be delay, notify, or a map with http, tcp, unix or notify"
                ));
                None
            }
        };
    }
    let mut s = field.section();
    let mut found: Vec<Ready> = Vec::new();
    if let Some(f) = s.get("notify") {
        let mut s = f.section();
        let timeout = span(&mut s, "timeout").unwrap_or(READY_TIMEOUT);
        let words = [("any", NotifyFrom::Any), ("worker", NotifyFrom::Worker)];
        let from = s.get("from").and_then(|f| f.one_of(&words)).unwrap_or_default();
        s.finish();
        found.push(Ready::Notify { timeout, from });
    }
    found.extend(probe(s.get("http"), "url", http_target));
    found.extend(probe(s.get("tcp"), "address", |f| {
        f.text().and_then(|t| address(f, t)).map(ProbeTarget::Tcp)
    }));
    found.extend(probe(s.get("unix"), "path", |f| f.abs_path().map(ProbeTarget::Unix)));
    if found.len() > 1 {
        s.wrong("has more than one way to be ready; keep one");
    }
    s.finish();
    found.pop()
}

const READY_TIMEOUT: Duration = Duration::from_secs(30);

fn probe(
    field: Option<Field<'_>>,
    target_key: &'static str,
    target: impl Fn(&Field<'_>) -> Option<ProbeTarget>,
) -> Option<Ready> {
    let mut s = field?.section();
    let target = s.need(target_key).and_then(|f| target(&f));
    let every = span(&mut s, "every").unwrap_or(Duration::from_millis(500));
    let timeout = span(&mut s, "timeout").unwrap_or(READY_TIMEOUT);
    if every < Duration::from_millis(10) {
        s.wrong("every must be at least 10ms");
    }
    s.finish();
    Some(Ready::Probe(Probe { target: target?, every, timeout }))
}

/// `http://127.0.0.1:8000/health`. Probes are for the host itself, so no names and no TLS.
pub(super) fn http_target(field: &Field<'_>) -> Option<ProbeTarget> {
    let text = field.text()?;
    let parsed = text.strip_prefix("http://").and_then(|rest| {
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let with_port = if host.ends_with(']') || !host.contains(':') {
            format!("{host}:80")
        } else {
            host.to_owned()
        };
        let addr = with_port.replace("localhost:", "127.0.0.1:").parse().ok()?;
        let clean = path.bytes().all(|b| b.is_ascii_graphic());
        clean.then(|| ProbeTarget::Http { addr, host: host.to_owned(), path: path.to_owned() })
    });
    if parsed.is_none() {
        field.wrong(format!(
            "{text:?} must be http:// with an address, such as http://127.0.0.1:8000/health"
        ));
    }
    parsed
}
