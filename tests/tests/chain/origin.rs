//! An origin host as an operator sets it up: the package from a file, the site, a configuration.

use std::{net::Ipv4Addr, path::Path};

use palisade_hosts::{
    lab::{GATEWAY, Lab},
    nspawn::{Host, HostOptions},
    repo::{Archive, PLACE},
};

/// The host's address.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
/// Where the fakes of AWS listen, at the gateway.
pub(crate) const AWS_PORT: u16 = 4580;
/// The group that the site's lines go to.
pub(crate) const WEB_GROUP: &str = "/palisade/chain/web";

const CONFIG: &str = r#"version: 1
host: { role: origin }
aws: { region: auto }
programs:
  redis:
    command: [redis-server, --bind, 127.0.0.1, --save, "", --dir, /srv/data]
    user: www-data
    ready: { tcp: { address: "127.0.0.1:6379", every: 200ms, timeout: 60s } }
  web:
    command: [/opt/venv/bin/gunicorn, --workers, "2", --no-control-socket, origin_site.wsgi]
    directory: /srv/site
    user: www-data
    environment: { SITE_DATA: /srv/data, PYTHONDONTWRITEBYTECODE: "1", PYTHONUNBUFFERED: "1" }
    sockets: [{ name: http, listen: "127.0.0.1:8000" }]
    ready: { http: { url: "http://127.0.0.1:8000/health", every: 200ms, timeout: 120s } }
    stopwaitsecs: 35s
    after: [redis]
  nginx:
    command: [nginx, -c, /etc/nginx/chain.conf, -e, stderr]
    stopsignal: QUIT
    ready: { tcp: { address: "127.0.0.1:80", every: 200ms, timeout: 60s } }
    after: [web]
firewall:
  ports: [{ tcp: [80], from: [cloudfront] }]
  sources: { cloudfront: { feed: ip-ranges, service: CLOUDFRONT_ORIGIN_FACING } }
  enforce: true
logs:
  group: /palisade/chain/{program}
  stream: "{instance_id}/{process}"
  sink: cloudwatch
access:
  users: { deploy: { max_ttl: 1h } }
  require_session_binding: strict
patch:
  window: { days: [daily], start: "@START@", length: 1h, timezone: UTC }
  scope: security
  reboot: never
  apt: { security: [l=Palisade-Security] }
  compliance: ssm
"#;

const NGINX: &str = r#"daemon off;
user www-data;
worker_processes 1;
pid /run/nginx-chain.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
    access_log off;
    server {
        listen 80;
        location / {
            proxy_pass http://127.0.0.1:8000;
            proxy_set_header Host $host;
        }
    }
}
"#;

/// A drop-in by which the agent takes the fakes for AWS.
pub(crate) fn environment() -> String {
    format!("[Service]\nEnvironment=AWS_ENDPOINT_URL=http://{GATEWAY}:{AWS_PORT}\n")
}

/// A host that has everything but Palisade, with these packages of the archive's first suite.
pub(crate) fn boot(lab: &Lab, site: &Path, archive: &Archive, installed: &[&str]) -> Host {
    let mut options = HostOptions::new("origin")
        .address(ADDRESS)
        .bind(site, "/srv/site")
        .bind(archive.dir(), PLACE)
        .file("/etc/nginx/chain.conf", NGINX)
        .file("/etc/systemd/system/palisade.service.d/lab.conf", environment())
        .file("/etc/apt/sources.list", Archive::sources())
        .before_boot("rm -rf /etc/apt/sources.list.d/*");
    for file in installed {
        let (from, to) = (archive.dir().join("pool/stable").join(file), format!("/var/tmp/{file}"));
        options = options.copy(&from, &to).before_boot(&format!("dpkg -i {to}"));
    }
    Host::boot(Some(lab), options)
}

/// Installs the package, makes the site's database, and starts the agent with its configuration.
pub(crate) fn install(host: &Host, deb: &Path) {
    host.copy_in(deb, "/var/tmp/palisade.deb");
    host.ok("dpkg -i /var/tmp/palisade.deb");
    host.ok("install -d -o www-data /srv/data && cd /srv/site && \
         SITE_DATA=/srv/data PYTHONDONTWRITEBYTECODE=1 \
         setpriv --reuid www-data --regid www-data --clear-groups \
         /opt/venv/bin/python manage.py migrate --verbosity 0");
    // Half a day away: the run of this test is one that somebody asks for.
    let start = host.ok("date -u -d '+12 hours' +%H:00");
    host.write("/etc/palisade/palisade.yaml", &CONFIG.replace("@START@", start.trim()));
    host.ok("palisade check");
    host.ok("systemctl start palisade");
}
