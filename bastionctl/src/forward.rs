//! What `tunnel` is asked for: `[LOCAL:]REMOTE[:PORT]`. Pure.

use std::fmt;

/// Where to listen and where to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Port here; None means that of the other end, or any free one if it is taken.
    pub(crate) local: Option<u16>,
    /// Host behind the host; None means the host itself.
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} must be PORT, LOCAL:PORT, REMOTE:PORT or LOCAL:REMOTE:PORT; an IPv6 address stands in brackets"
)]
pub(crate) struct BadForward(String);

impl std::str::FromStr for Forward {
    type Err = BadForward;

    fn from_str(s: &str) -> Result<Self, BadForward> {
        let bad = || BadForward(s.to_owned());
        let (rest, last) = match s.rsplit_once(':') {
            Some((rest, last)) => (Some(rest), last),
            None => (None, s),
        };
        let port = number(last).filter(|p| *p != 0).ok_or_else(bad)?;
        let Some(rest) = rest else { return Ok(Self { local: None, host: None, port }) };
        if let Some(local) = number(rest) {
            return Ok(Self { local: Some(local), host: None, port });
        }
        let (local, host) = match rest.split_once(':') {
            Some((local, host)) if !rest.starts_with('[') => {
                (Some(number(local).ok_or_else(bad)?), host)
            }
            Some(_) | None => (None, rest),
        };
        let host = bare(host).ok_or_else(bad)?;
        // What the host calls itself is the host: SSM takes it for no remote one.
        let is_itself = matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1");
        Ok(Self { local, host: (!is_itself).then_some(host), port })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "port {} of the host", self.port),
        }
    }
}

fn number(s: &str) -> Option<u16> {
    // No signs, which `parse` would take.
    s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok())?
}

/// A name or an address without its brackets.
fn bare(host: &str) -> Option<String> {
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().ok().map(|a| a.to_string());
    }
    let good = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with('-')
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    good.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_the_rest_is_refused() {
        let read = |s: &str| {
            let f: Forward = s.parse().unwrap();
            (f.local, f.host, f.port)
        };
        assert_eq!(read("8080"), (None, None, 8080));
        assert_eq!(read("9000:8080"), (Some(9000), None, 8080));
        assert_eq!(read("0:8080"), (Some(0), None, 8080));
        assert_eq!(read("db.x:5432"), (None, Some("db.x".into()), 5432));
        assert_eq!(read("15432:db.x:5432"), (Some(15432), Some("db.x".into()), 5432));
        assert_eq!(read("1:localhost:2"), (Some(1), None, 2));
        assert_eq!(read("127.0.0.1:2"), (None, None, 2));
        assert_eq!(read("1:[fd00::1]:2"), (Some(1), Some("fd00::1".into()), 2));
        assert_eq!(read("[fd00::1]:2"), (None, Some("fd00::1".into()), 2));
        for bad in [
            "", "0", "65536", "db", "db:", ":5", "+1", "a:b:c:5", "-x:5", "a b:5", "[x]:5",
            "1:2:3:4",
        ] {
            assert!(bad.parse::<Forward>().is_err(), "{bad:?}");
        }
    }
}
