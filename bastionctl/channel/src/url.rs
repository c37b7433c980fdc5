//! Where a token may be sent. `StreamUrl` comes from an answer of the network, so it is judged before
//! anything is sent to it: an endpoint of AWS, or one that the user named.

use std::net::IpAddr;

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not `wss://`.
    #[error("it does not begin with wss://")]
    Scheme,
    /// Something that no address of AWS has: blanks, `@`, `\`, `#`, letters beyond ASCII.
    #[error("it holds a character that has no place there")]
    Character,
    /// Not an endpoint of Session Manager.
    #[error("{0:?} is not a Session Manager endpoint of AWS")]
    Host(String),
    /// Another port than 443.
    #[error("port {0:?} is not 443")]
    Port(String),
    /// Not a data channel.
    #[error("its path is not that of a data channel")]
    Path,
    /// The user's endpoint cannot be read.
    #[error("endpoint {0:?} is not ws://HOST[:PORT] or wss://HOST[:PORT]")]
    Endpoint(String),
    /// A token over an open network, unencrypted.
    #[error("endpoint {0:?} is not encrypted, which is for loopback addresses only")]
    Plain(String),
}

/// An endpoint that the user named instead of the one in `StreamUrl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads `wss://vpce-0a1b.ssmmessages.eu-central-1.vpce.amazonaws.com` or `ws://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`BadUrl::Endpoint`] and [`BadUrl::Plain`].
    pub fn read(text: &str) -> Result<Self, BadUrl> {
        let bad = || BadUrl::Endpoint(text.to_owned());
        let text = text.trim_end_matches('/');
        let (tls, rest) = match (text.strip_prefix("wss://"), text.strip_prefix("ws://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(bad()),
        };
        let (host, port) = split_port(rest);
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| bad())?,
        };
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if host.is_empty() || !host.chars().all(fine) {
            return Err(bad());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback =
            bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !tls && !loopback {
            return Err(BadUrl::Plain(text.to_owned()));
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

/// An address that passed, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address; IPv6 in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Judges a `StreamUrl`, and puts `endpoint` in place of its host if there is one.
    ///
    /// # Errors
    /// [`BadUrl`].
    pub fn judge(stream_url: &str, endpoint: Option<&Endpoint>) -> Result<Self, BadUrl> {
        let strange =
            |b: u8| !b.is_ascii_graphic() || matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>');
        if stream_url.bytes().any(strange) {
            return Err(BadUrl::Character);
        }
        let (scheme, rest) = stream_url.split_once("://").ok_or(BadUrl::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains(['@', '?', '%']) {
            return Err(BadUrl::Character);
        }
        if !path.starts_with("/v1/data-channel/") || path.contains("/../") {
            return Err(BadUrl::Path);
        }
        let path = path.to_owned();
        if let Some(Endpoint { tls, host, port }) = endpoint.cloned() {
            return Ok(Self { tls, host, port, path });
        }
        if scheme != "wss" {
            return Err(BadUrl::Scheme);
        }
        let (host, port) = split_port(authority);
        if port.is_some_and(|port| port != "443") {
            return Err(BadUrl::Port(port.unwrap_or_default().to_owned()));
        }
        if !is_aws(host) {
            return Err(BadUrl::Host(host.to_owned()));
        }
        Ok(Self { tls: true, host: host.to_owned(), port: 443, path })
    }

    /// The address as it is signed and asked for.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => format!("{scheme}://{}{}", self.host, self.path),
            (_, port) => format!("{scheme}://{}:{port}{}", self.host, self.path),
        }
    }

    /// The host as a resolver takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colon of a bare IPv6 address in brackets is not a port's.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// `ssmmessages[-fips].REGION.SUFFIX`, or the same behind a PrivateLink endpoint's name.
fn is_aws(host: &str) -> bool {
    const SUFFIXES: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "api.aws"];
    let suffix = SUFFIXES.iter().filter_map(|s| host.strip_suffix(s)?.strip_suffix('.'));
    suffix.into_iter().any(|front| {
        let labels: Vec<&str> = front.split('.').collect();
        match labels.as_slice() {
            ["ssmmessages" | "ssmmessages-fips", region] => is_region(region),
            [vpce, "ssmmessages" | "ssmmessages-fips", region, "vpce"] => {
                vpce.strip_prefix("vpce-").is_some_and(|rest| is_word(rest, true))
                    && is_region(region)
            }
            _ => false,
        }
    })
}

fn is_word(text: &str, hyphens: bool) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || (hyphens && b == b'-'))
}

/// `eu-central-1`, `us-gov-west-1`, `us-isob-east-1`.
fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let first = parts.next().is_some_and(|p| (2..=4).contains(&p.len()) && is_word(p, false));
    let rest: Vec<_> = parts.collect();
    let last = rest.last().is_some_and(|p| p.len() <= 2 && p.bytes().all(|b| b.is_ascii_digit()));
    first && last && (2..=3).contains(&rest.len()) && rest.iter().all(|p| is_word(p, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/v1/data-channel/alice-0123?role=publish_subscribe";

    #[test]
    fn endpoints_of_aws_pass() {
        for host in [
            "ssmmessages.eu-central-1.amazonaws.com",
            "ssmmessages-fips.us-gov-west-1.amazonaws.com",
            "ssmmessages.cn-north-1.amazonaws.com.cn",
            "vpce-0a1b2c-xyz-eu-central-1a.ssmmessages.eu-central-1.vpce.amazonaws.com",
            "ssmmessages.eu-central-1.amazonaws.com:443",
        ] {
            let url = format!("wss://{host}{PATH}");
            let target = Target::judge(&url, None).unwrap();
            assert_eq!((target.tls, target.port, target.path.as_str()), (true, 443, PATH));
        }
    }

    #[test]
    fn what_is_not_aws_is_refused_before_anything_is_sent_there() {
        for url in [
            format!("wss://evil.example{PATH}"),
            format!("http://ssmmessages.eu-central-1.amazonaws.com{PATH}"),
            format!("ws://ssmmessages.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://user:pw@ssmmessages.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com@evil.example{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com.evil.example{PATH}"),
            format!("wss://evil-ssmmessages.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://evil.ssmmessages.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://ssmmessages.evil.amazonaws.com{PATH}"),
            format!("wss://s3.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com:8443{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com:{PATH}"),
            format!("wss://ssmmеssages.eu-central-1.amazonaws.com{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com\\@evil.example{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com#{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com%2eevil{PATH}"),
            format!("wss://ssmmessages.eu-central-1.amazonaws.com?x={PATH}"),
            format!("wss://SSMMESSAGES.eu-central-1.amazonaws.com{PATH}"),
            "wss://ssmmessages.eu-central-1.amazonaws.com/other".to_owned(),
            "wss://ssmmessages.eu-central-1.amazonaws.com".to_owned(),
            String::new(),
        ] {
            assert!(Target::judge(&url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn a_named_endpoint_takes_the_hosts_place_and_keeps_the_path() {
        let endpoint = Endpoint::read("ws://127.0.0.1:8080/").unwrap();
        let target =
            Target::judge(&format!("wss://anything.example{PATH}"), Some(&endpoint)).unwrap();
        assert_eq!(target.url(), format!("ws://127.0.0.1:8080{PATH}"));
        let six = Endpoint::read("ws://[::1]:81").unwrap();
        let target = Target::judge(&format!("wss://x{PATH}"), Some(&six)).unwrap();
        assert_eq!((target.name(), target.port), ("::1", 81));
    }

    #[test]
    fn a_token_goes_unencrypted_to_loopback_only() {
        assert!(matches!(Endpoint::read("ws://10.0.0.1:80"), Err(BadUrl::Plain(_))));
        assert!(matches!(Endpoint::read("ws://localhost.evil"), Err(BadUrl::Plain(_))));
        assert!(Endpoint::read("ws://localhost:1").is_ok());
        for bad in ["http://127.0.0.1", "ws://", "ws://u@127.0.0.1", "wss://h:99999", "h:1"] {
            assert!(matches!(Endpoint::read(bad), Err(BadUrl::Endpoint(_))), "{bad}");
        }
    }
}
