//! What the origin guard is told to do.

use std::{fmt, path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Everything the guard needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The header that CloudFront adds.
    pub header: HeaderName,
    /// Where its value is read.
    pub source: Location,
    /// How often to look there.
    pub every: Duration,
    /// When a value goes that the source no longer has.
    pub leave: Leave,
    /// The web server.
    pub nginx: Nginx,
    /// Requests that need no header.
    pub health: Option<Health>,
    /// How the address of a visitor is found behind CloudFront.
    pub real_ip: Option<RealIp>,
    /// Where the accepted values are kept: `STATE_DIR/origin`.
    pub state_dir: PathBuf,
}

/// Name of a header: a letter, then letters, digits and hyphens; 64 at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

/// Headers that every request may have, and one that nginx takes apart itself.
const TAKEN: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "authorization",
    "user-agent",
    "referer",
    "accept",
    "accept-encoding",
    "transfer-encoding",
    "x-forwarded-for",
];

impl HeaderName {
    /// Takes a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_free = !TAKEN.contains(&text.to_ascii_lowercase().as_str());
        (starts && rest && is_free && text.len() <= 64).then(|| Self(text.to_owned()))
    }

    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What nginx calls its value: `http_x_origin_verify`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("http_{}", self.0.to_ascii_lowercase().replace('-', "_"))
    }
}

/// Where the secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SecureString of SSM Parameter Store: its newest version, and the one before.
    SsmParameter(String),
    /// A secret of Secrets Manager: `AWSCURRENT` and `AWSPENDING`.
    SecretsManager(String),
    /// A file: one secret a line, two lines while it is changed.
    File(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SsmParameter(name) => write!(f, "parameter {name}"),
            Self::SecretsManager(id) => write!(f, "secret {id}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// When a value goes that the source no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// It goes once no request used it for so long, while others were seen that used another.
    pub unused_for: Duration,
    /// It goes after this even if it is used: a value that leaked must not live by being used.
    pub at_most: Duration,
}

/// The web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nginx {
    /// The map with the secrets. What a site includes is beside it.
    pub map: PathBuf,
    /// Whether nginx is told to read them.
    pub reload: Reload,
    /// Its program.
    pub program: PathBuf,
    /// Its configuration, if it is not the one built in.
    pub config: Option<PathBuf>,
    /// Where its master process writes its pid.
    pub pid: PathBuf,
    /// The group that may read the map, if the master process is not root's.
    pub group: Option<String>,
    /// Where nginx notes which secret a request had; no secret is in there.
    pub hits: PathBuf,
}

/// Whether nginx is told to read its configuration anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is, and no sooner than this after the last time.
    After(Duration),
    /// Somebody else does it.
    Never,
}

/// Requests that need no header: health checks of a load balancer, by exact path and by sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Paths.
    pub paths: Vec<HealthPath>,
    /// Who may ask for them so: who connects, whatever a header says.
    pub from: Vec<IpNet>,
}

/// The path of a health check: `/`, then `A-Z a-z 0-9 / _ . -`, 200 at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPath(String);

impl HealthPath {
    /// Takes a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.starts_with('/')
            && text.len() <= 200
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-".contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the address of a visitor is found behind CloudFront: in `X-Forwarded-For`, from the right, the
/// first address that is not trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealIp {
    /// Sources of the firewall that are trusted, by name.
    pub sources: Vec<String>,
    /// Networks that are trusted as well: those of the load balancer.
    pub trusted: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_that_no_visitor_sends_anyway_and_nginx_can_name() {
        let name = HeaderName::parse("X-Origin-Verify").unwrap();
        assert_eq!(name.variable(), "http_x_origin_verify");
        let long = "a".repeat(65);
        for bad in ["", "-x", "X_Origin", "X Origin", "x\r\ny", "Cookie", "host", &long] {
            assert_eq!(HeaderName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_health_path_has_nothing_that_a_regular_expression_or_nginx_reads_otherwise() {
        assert!(HealthPath::parse("/health/live.txt").is_some());
        for bad in ["", "health", "/a b", "/a?b", "/a$", "/a\"", "/a|b", "/%61"] {
            assert_eq!(HealthPath::parse(bad), None, "{bad}");
        }
    }
}
