//! The files that nginx includes. Pure.
//!
//! All that changes with a secret is in one file, the map; the others change with the settings, and the
//! trusted addresses, which stand alone, with the firewall's lists. So whatever files of two versions are
//! there together, nginx takes them: they are put in place one by one, in the order given here.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::{
    hits::SAMPLED,
    model::{Accepted, Secrets},
    settings::{Health, RealIp, Settings},
};

/// What every file begins with.
const MADE: &str = "# Made by palisade, which writes it again when it was changed.\n";

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Only who must: it has secrets.
    Secret,
}

/// When a file is put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whenever it is not so.
    Always,
    /// Only if there is none: what is there was made knowing more.
    Absent,
}

/// A file as it is to be.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
    /// Who may read it.
    pub access: Access,
    /// When it is put there.
    pub when: When,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, content, access, when } = self;
        write!(f, "File({}, {} bytes, {access:?}, {when:?})", path.display(), content.len())
    }
}

/// What the files are made of.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The accepted secrets.
    pub secrets: &'a Secrets,
    /// Addresses of the firewall's sources that are trusted, as far as they are known.
    pub ranges: &'a [IpNet],
}

impl Site<'_> {
    /// The files where the settings want them, in the order in which they are put there.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        self.files_in(self.settings.nginx.map.parent().unwrap_or(Path::new("/")))
    }

    /// The same in another directory.
    #[must_use]
    pub fn files_in(&self, dir: &Path) -> Vec<File> {
        let header = self.settings.header.as_str();
        let map = dir.join(self.settings.nginx.map.file_name().unwrap_or_default());
        let upper = self.settings.header.variable().to_ascii_uppercase();
        let accepted = self.secrets.accepted();
        let mut files = vec![
            File {
                path: map.clone(),
                content: Zeroizing::new(origin_map(accepted).as_bytes().to_vec()),
                access: Access::Secret,
                // Closed, if nothing at all is known.
                when: if accepted.is_empty() { When::Absent } else { When::Always },
            },
            public(dir, "http.conf", http(self.settings, &map)),
            public(dir, "server.conf", server()),
            public(
                dir,
                "strip-proxy.conf",
                strip("proxy_set_header", &format!("proxy_set_header {header} \"\";")),
            ),
            public(
                dir,
                "strip-fastcgi.conf",
                strip("fastcgi_param", &format!("fastcgi_param {upper} \"\";")),
            ),
            public(
                dir,
                "strip-uwsgi.conf",
                strip("uwsgi_param", &format!("uwsgi_param {upper} \"\";")),
            ),
            public(dir, "default-server.conf.example", DEFAULT_SERVER.to_owned()),
        ];
        if let Some(wanted) = &self.settings.real_ip {
            let mut file = public(dir, "real-ip.conf", real_ip(wanted, self.ranges));
            if self.ranges.is_empty() && !wanted.sources.is_empty() {
                file.when = When::Absent;
            }
            files.push(file);
        }
        files
    }

    /// The same, with a whole configuration around them that nginx can test: the last file.
    #[must_use]
    pub fn apart(&self, dir: &Path) -> Vec<File> {
        let mut files = self.files_in(dir);
        let at = dir.display();
        let real_ip = if self.settings.real_ip.is_some() {
            format!("    include {at}/real-ip.conf;\n")
        } else {
            String::new()
        };
        // An address in use is no fault in a test.
        let conf = format!(
            "error_log stderr;\npid {at}/nginx.pid;\nevents {{ }}\nhttp {{\n\
             \x20   client_body_temp_path {at}/body;\n    proxy_temp_path {at}/proxy;\n\
             \x20   fastcgi_temp_path {at}/fastcgi;\n    uwsgi_temp_path {at}/uwsgi;\n\
             \x20   scgi_temp_path {at}/scgi;\n    include {at}/http.conf;\n{real_ip}\
             \x20   server {{\n        listen 127.0.0.1:65530;\n        include {at}/server.conf;\n\
             \x20       location / {{\n            include {at}/strip-proxy.conf;\n\
             \x20           proxy_pass http://127.0.0.1:9;\n        }}\n    }}\n}}\n"
        );
        files.push(public(dir, "nginx.conf", conf));
        files
    }
}

fn public(dir: &Path, name: &str, content: String) -> File {
    File {
        path: dir.join(name),
        content: Zeroizing::new(content.into_bytes()),
        access: Access::Public,
        when: When::Always,
    }
}

/// The map from a header's value to the id of the secret that it is, and how many requests a note of one
/// stands for. An entry is an anchored regular expression: a map compares plain text without regard to
/// case, and refuses it where it is long.
fn origin_map(accepted: &[Accepted]) -> Zeroizing<String> {
    // In one piece, so that no copy is left behind by growing.
    let room =
        MADE.len() + 64 + accepted.iter().map(|a| a.secret.expose().len() + 32).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(MADE);
    for (n, a) in accepted.iter().enumerate() {
        // Of the newest, which most requests will have, some are noted; of those on their way out, each.
        let stands_for = if n + 1 == accepted.len() { SAMPLED } else { 1 };
        text.push_str("\"~^");
        text.push_str(a.secret.expose());
        text.push_str("$\" \"");
        text.push_str(a.secret.id().as_str());
        text.push_str(if stands_for == 1 { " 1\";\n" } else { " 16\";\n" });
    }
    text
}

fn http(settings: &Settings, map: &Path) -> String {
    let mut text = format!(
        "{MADE}# Include it once, in http {{ }}: include {dir}/http.conf;\n\n\
         # The id of the secret that a request has; empty if it has none.\n\
         map ${variable} $palisade_origin_key {{\n    default \"\";\n    include {map};\n}}\n\n",
        dir = map.parent().unwrap_or(Path::new("/")).display(),
        variable = settings.header.variable(),
        map = map.display(),
    );
    match &settings.health {
        None => text.push_str(
            "map $palisade_origin_key $palisade_origin_ok {\n    default 1;\n    \"\" 0;\n}\n",
        ),
        Some(health) => text.push_str(&with_health(health)),
    }
    text += &format!(
        "\n# Which requests are noted, to know when a secret is not used any more: each that has an old one,\n\
         # one in sixteen of the rest. Neither a secret nor anything else that a visitor sends is written.\n\
         # A server or location with an access_log of its own needs this line of access_log as well.\n\
         map \"$palisade_origin_key $request_id\" $palisade_origin_noted {{\n    default 0;\n\
         \x20   \"~^[0-9a-f]+ 1 \" 1;\n    \"~0$\" 1;\n}}\n\
         log_format palisade_origin '$msec $palisade_origin_ok $palisade_origin_key';\n\
         access_log {hits} palisade_origin buffer=8k flush=1s if=$palisade_origin_noted;\n",
        hits = settings.nginx.hits.display(),
    );
    text
}

/// Health checks are told by who connects, before any header is believed, and by the path as it was sent.
fn with_health(health: &Health) -> String {
    let mut text = String::from(
        "# Who may ask for the paths of health checks without the header.\n\
         geo $realip_remote_addr $palisade_origin_probe {\n    default 0;\n",
    );
    for net in &health.from {
        text += &format!("    {net} 1;\n");
    }
    text.push_str(
        "}\nmap \"$palisade_origin_key|$palisade_origin_probe|$request_uri\" $palisade_origin_ok {\n\
         \x20   default 0;\n    \"~^[0-9a-f]\" 1;\n",
    );
    for path in &health.paths {
        text += &format!("    \"~^\\|1\\|{}$\" 1;\n", path.as_str().replace('.', "\\."));
    }
    text.push_str("}\n");
    text
}

fn server() -> String {
    format!(
        "{MADE}# Include it in each server {{ }} that CloudFront reaches, before anything else.\n\
         if ($palisade_origin_ok = 0) {{\n    return 403;\n}}\n"
    )
}

fn strip(directive: &str, line: &str) -> String {
    format!(
        "{MADE}# Keeps the secret from the application. Include it wherever there are lines of {directive}: those of\n\
         # an inner block replace those around it.\n{line}\n"
    )
}

const DEFAULT_SERVER: &str = "\
# Made by palisade. A copy of this as a site of its own answers nothing to whoever does not know the site's
# name. A health check of a load balancer has no name: let it ask for one, or serve its path here.
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    server_name _;
    return 444;
}
";

fn real_ip(wanted: &RealIp, ranges: &[IpNet]) -> String {
    let mut nets: Vec<IpNet> = wanted.trusted.iter().chain(ranges).copied().collect();
    nets.sort_unstable();
    nets.dedup();
    let mut text = format!(
        "{MADE}# Include it in http {{ }}. The visitor's address is the last one in X-Forwarded-For that is not of\n\
         # CloudFront or ours: what a visitor puts in front of it is not believed.\n"
    );
    for net in nets {
        text += &format!("set_real_ip_from {net};\n");
    }
    text.push_str("real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n");
    text
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
