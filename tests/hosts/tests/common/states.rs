//! The states in which a page of docs/ops finds its host.

use std::{collections::BTreeMap, time::Duration};

use palisade_hosts::{
    exec::Cmd,
    nspawn::{Host, HostOptions},
    packages::{NEW, OLD, Packages},
    trees::target_dir,
};

use crate::{
    codedeploy::Group,
    django::{self, Flaw, Revisions},
};

/// How long programs may take until they run.
const PATIENCE: Duration = Duration::from_secs(60);

const AGENT: &str = "version: 1
programs:
  web:
    command: [/usr/bin/python3, -m, http.server, --bind, 127.0.0.1, \"8000\"]
    directory: /srv
    ready: { http: { url: \"http://127.0.0.1:8000/\", every: 100ms } }
  worker: { command: [/bin/sh, -c, \"echo works; exec sleep infinity\"] }
";

const FIREWALL: &str = "firewall:
  ports: [{ tcp: [80, 443], from: cloudfront }, { tcp: 22, from: bastion }]
  sources:
    cloudfront: { feed: ip-ranges, service: CLOUDFRONT_ORIGIN_FACING }
    bastion: { cidrs: [10.20.0.10/32] }
";

/// The host has no network, and so no way to CloudWatch.
const OUTAGE: &str = "aws: { region: eu-central-1 }
logs:
  group: /palisade/prod/{program}
  stream: \"{process}\"
  spool: { max: 64MiB, on_full: block }
";

const LOCAL: &str = "logs:
  group: /palisade/prod/{program}
  stream: \"{process}\"
  sink: local
";

const ACCESS: &str = "access:
  users: { nobody: { max_ttl: 4h, system: true } }
";

const PATCH: &str = "patch:
  window: { days: [tue, thu], start: \"03:00\", length: 2h, timezone: Europe/Berlin }
  restart: [worker, web]
";

/// Programs that take their secrets from /etc/site/env, as a site does.
const ENV: &str = "version: 1
programs:
  web:
    command: [/bin/sh, -c, \"set -a; . /etc/site/env; exec sleep infinity\"]
    numprocs: 2
    process_name: \"%(program_name)s_%(process_num)d\"
    user: app
  worker:
    command: [/bin/sh, -c, \"set -a; . /etc/site/env; exec sleep infinity\"]
    user: app
";

const SUPERVISORD: &str = "[unix_http_server]
file=/run/supervisor.sock
[supervisord]
nodaemon=true
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix:///run/supervisor.sock
[include]
files = /etc/supervisor/conf.d/*.conf
";

const SUPERVISED: &str = "[program:web]
command=/usr/bin/python3 -m http.server --bind 127.0.0.1 8000
directory=/srv
user=www-data
[program:worker]
command=/bin/sleep infinity
user=www-data
stopwaitsecs=600
";

const SUPERVISOR_UNIT: &str = "[Service]
ExecStart=/opt/supervisor/bin/supervisord -c /etc/supervisor/supervisord.conf
[Install]
WantedBy=multi-user.target
";

/// What a host must have before it boots.
pub(crate) fn options(
    name: &str,
    states: &[String],
    packages: &Packages,
) -> Result<HostOptions, String> {
    if states.iter().any(|s| s == "site") {
        return Ok(django::host(name, packages));
    }
    // Both versions of the package lie in /root.
    let mut options = HostOptions::new(name)
        .copy(&packages.deb(OLD), &format!("/root/palisade_{OLD}-1_amd64.deb"))
        .copy(&packages.deb(NEW), &format!("/root/palisade_{NEW}-1_amd64.deb"))
        .before_boot("systemctl disable -q nginx redis-server")
        .before_boot("cd /root && sha256sum *.deb > SHA256SUMS");
    let mut config = None;
    let mut installed = true;
    for state in states {
        match state.as_str() {
            "agent" => config = Some(AGENT.to_owned()),
            "firewall" => config = Some(format!("{AGENT}{FIREWALL}")),
            "outage" => config = Some(format!("{AGENT}{OUTAGE}")),
            "local" => config = Some(format!("{AGENT}{LOCAL}")),
            "patch" => config = Some(format!("{AGENT}{PATCH}")),
            "access" => config = Some(format!("{AGENT}{ACCESS}")),
            "env" => {
                config = Some(format!("{ENV}{LOCAL}"));
                options = options.file("/etc/site/env", "SECRET_KEY=old-secret\n").before_boot(
                    "useradd --system app; chown root:app /etc/site/env; chmod 640 /etc/site/env",
                );
            }
            "supervisor" => options = with_supervisor(options)?,
            "no-package" => installed = false,
            "backup" => {}
            unknown => return Err(format!("nobody knows the state {unknown:?}")),
        }
    }
    if installed {
        options = options.before_boot(&format!("dpkg -i /root/palisade_{OLD}-1_amd64.deb"));
    }
    Ok(match config {
        Some(config) => options.file("/etc/palisade/palisade.yaml", config),
        None => options,
    })
}

fn with_supervisor(options: HostOptions) -> Result<HostOptions, String> {
    let wheels = target_dir().join("hosts-wheels");
    let mut pip = Cmd::new(django::python()).args(["-m", "pip", "wheel", "--quiet", "--wheel-dir"]);
    pip = pip.arg(&wheels).arg("--find-links").arg(&wheels);
    pip.arg("supervisor==4.3.0").run().map_err(|e| format!("skipped: no Supervisor: {e:#}"))?;
    // The wheel needs pkg_resources only to know its own version.
    Ok(options
        .bind(&wheels, "/wheels")
        .file("/etc/supervisor/supervisord.conf", SUPERVISORD)
        .file("/etc/supervisor/conf.d/site.conf", SUPERVISED)
        .file("/etc/systemd/system/supervisor.service", SUPERVISOR_UNIT)
        .link("/usr/local/bin/supervisorctl", "/opt/supervisor/bin/supervisorctl"))
}

/// Brings a host that runs into a state.
pub(crate) fn bring(host: &Host, state: &str, hosts: &BTreeMap<String, Host>) {
    match state {
        "agent" | "firewall" | "outage" | "local" | "patch" | "access" => {
            host.ok("palisade check");
            host.wait_ok(PATIENCE, "palisade tail worker | grep works");
        }
        "env" => drop(host.wait_ok(PATIENCE, "palisade status")),
        "supervisor" => {
            host.ok("/usr/bin/python3 -m venv /opt/supervisor && /opt/supervisor/bin/pip install -q --no-index \
                     --find-links /wheels setuptools supervisor && systemctl enable -q --now supervisor");
            host.wait_ok(PATIENCE, "supervisorctl status");
        }
        // What the page's first host has backed up.
        "backup" => {
            let archive = "/root/palisade-backup.tar.gz";
            let text = hosts["host"].ok(&format!("base64 -w 0 {archive}"));
            host.write("/root/backup.base64", &text);
            host.ok(&format!("base64 -d /root/backup.base64 > {archive}"));
        }
        "site" => {
            let revisions = Revisions::new();
            let mut group = Group::new(host, "prod");
            for name in ["v1", "v2"] {
                let outcome = group.deploy(&revisions.make(name, Flaw::None));
                assert_eq!(outcome.result, Ok(()), "{}", outcome.log);
            }
        }
        _ => {}
    }
}
