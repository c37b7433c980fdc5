//! HTTP proxies: which one, by the environment's variables, and the words to get through it.

use std::net::IpAddr;

/// A proxy that tunnels TCP by `CONNECT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub host: String,
    /// Its port.
    pub port: u16,
    login: Option<String>,
    except: Vec<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Why the variable is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTPS_PROXY is not http://[USER:PASSWORD@]HOST[:PORT]")]
pub struct BadProxy;

impl Proxy {
    /// Reads `HTTPS_PROXY` and `NO_PROXY`, capitals first, through `var`.
    ///
    /// # Errors
    /// [`BadProxy`]: going around a proxy that was asked for would surprise.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, BadProxy> {
        let get = |name: &str| {
            var(name).or_else(|| var(&name.to_lowercase())).filter(|value| !value.is_empty())
        };
        let Some(text) = get("HTTPS_PROXY") else { return Ok(None) };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            None => text.as_str(),
            Some(_) => return Err(BadProxy),
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(decoded(login)), address),
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| BadProxy)?)
            }
            _ => (address, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(BadProxy);
        }
        let except = get("NO_PROXY").unwrap_or_default();
        let except = except.split(',').map(|e| e.trim().to_ascii_lowercase());
        Ok(Some(Self {
            host: host.to_owned(),
            port,
            login,
            except: except.filter(|e| !e.is_empty()).collect(),
        }))
    }

    /// Whether connections to `host` go through it. Loopback never does.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let excepted = self.except.iter().any(|except| {
            let name = except.trim_start_matches('*').trim_start_matches('.');
            except == "*"
                || host == name
                || host.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
        });
        !loopback && !excepted
    }

    /// The request for a tunnel.
    #[must_use]
    pub fn request(&self, host: &str, port: u16) -> String {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let login = self.login.as_deref().map_or_else(String::new, |login| {
            format!("Proxy-Authorization: Basic {}\r\n", base64(login.as_bytes()))
        });
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n")
    }
}

/// The status of a proxy's answer.
#[must_use]
pub fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|v| v.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let hex: Vec<u8> = if b == b'%' { bytes.clone().take(2).collect() } else { Vec::new() };
        let value = std::str::from_utf8(&hex).ok().filter(|h| h.len() == 2);
        match value.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let index = usize::try_from((word >> (18 - 6 * i)) & 63).unwrap_or(0);
            let letter = LETTERS.get(index).copied().unwrap_or(b'=');
            out.push(char::from(if i <= three.len() { letter } else { b'=' }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(https: &str, no: &str) -> Result<Option<Proxy>, BadProxy> {
        Proxy::from_vars(|name| match name {
            "https_proxy" => Some(https.to_owned()),
            "NO_PROXY" => Some(no.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn the_variable_is_read_with_and_without_decoration() {
        let with = proxy("http://me:p%40ss@proxy.corp:3128/", "").unwrap().unwrap();
        assert_eq!((with.host.as_str(), with.port), ("proxy.corp", 3128));
        assert_eq!(
            with.request("h.example", 443),
            "CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\
             Proxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
        );
        assert_eq!(proxy("proxy", "").unwrap().unwrap().port, 80);
        assert_eq!(proxy("", ""), Ok(None));
        assert_eq!(proxy("https://proxy", ""), Err(BadProxy));
        assert_eq!(proxy("http://proxy:x", ""), Err(BadProxy));
        assert!(!format!("{with:?}").contains("p@ss"));
    }

    #[test]
    fn exceptions_and_loopback_go_direct() {
        let proxy = proxy("http://p:1", "corp.example, .vpce.amazonaws.com").unwrap().unwrap();
        assert!(proxy.serves("ssmmessages.eu-central-1.amazonaws.com"));
        assert!(!proxy.serves("corp.example"));
        assert!(!proxy.serves("a.corp.example"));
        assert!(proxy.serves("acorp.example"));
        assert!(!proxy.serves("x.vpce.amazonaws.com"));
        assert!(!proxy.serves("127.0.0.1"));
    }

    #[test]
    fn answers_of_proxies_have_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 x\r\n"), Some(407));
        assert_eq!(status(b"SSH-2.0"), None);
    }

    #[test]
    fn base64_is_padded() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
