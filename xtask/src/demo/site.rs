//! The origin's files: the Django site with its database, and the configuration of every program,
//! filled in from `demo/`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::world::{Host, RUNS, World};
use crate::{
    cmd::{Cmd, find},
    host, say,
};

/// Longest path of a UNIX socket, less the name of ours.
const MAX_DIR: usize = 80;
/// How long Django may take to make its database.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Files below the agent's state directory.
    Local,
    /// An endpoint that speaks CloudWatch Logs.
    CloudWatch,
}

/// The files of the origin.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    /// The agent's configuration.
    pub(crate) config: PathBuf,
    /// The agent's control socket.
    pub(crate) socket: PathBuf,
    /// Whom the site's programs run as.
    pub(crate) user: &'static str,
}

/// A directory for one run: below the target directory, or below the temporary one if that path
/// would be too long for a socket.
pub(crate) fn run_dir(target: &Path) -> PathBuf {
    let dir = target.join(RUNS).join(std::process::id().to_string());
    if dir.as_os_str().len() <= MAX_DIR {
        return dir;
    }
    std::env::temp_dir().join(format!("palisade-demo-{}", std::process::id()))
}

/// Writes everything.
pub(crate) fn build(world: &World, venv: &Path, sink: Sink) -> Result<Site> {
    let dir = &world.dir;
    let demo = host::workspace().join("demo");
    for part in ["run", "state", "logs", "redis", "data", "ssh", "nginx", "bin"] {
        let path = dir.join(part);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    host::copy_tree(&demo.join("site"), &dir.join("site"))?;
    fs::copy(demo.join("ticker.py"), dir.join("ticker.py")).context("copy ticker.py")?;
    host::write(&dir.join("ip-ranges.json"), super::feed::text())?;

    // Other users than root can only run what they can reach.
    let open =
        host::open_to_all(&venv.join("bin/gunicorn")) && host::open_to_all(&dir.join("site"));
    if !open {
        say::progress(&format!(
            "note: only root can reach {}, so the site's programs run as root in this demo",
            dir.display()
        ));
    }
    let site = Site {
        dir: dir.clone(),
        config: dir.join("palisade.yaml"),
        socket: dir.join("run/control.sock"),
        user: if open { "www-data" } else { "root" },
    };
    let fill = Fill { site: &site, venv, sink, open };
    for (template, to) in [
        ("palisade.yaml.in", site.config.clone()),
        ("nginx.conf.in", dir.join("nginx.conf")),
        ("redis.conf.in", dir.join("redis.conf")),
        ("sshd_config.in", dir.join("sshd_config")),
    ] {
        let text = fill.in_text(&host::read(&demo.join(template))?);
        if let Some(name) = unfilled(&text).first() {
            bail!("demo/{template} names @{name}@, which nothing fills in");
        }
        host::write(&to, text)?;
    }
    site.database(venv)?;
    site.keys()?;
    Ok(site)
}

/// Placeholders such as `@DIR@` that are left in a text.
fn unfilled(text: &str) -> Vec<&str> {
    text.split('@')
        .skip(1)
        .filter(|name| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        })
        .collect()
}

struct Fill<'a> {
    site: &'a Site,
    venv: &'a Path,
    sink: Sink,
    open: bool,
}

impl Fill<'_> {
    fn in_text(&self, template: &str) -> String {
        let user = |name: &str| if self.open { format!("    user: {name}") } else { String::new() };
        let (aws, sink) = match self.sink {
            Sink::Local => ("", "local"),
            Sink::CloudWatch => ("aws: { region: eu-central-1 }", "cloudwatch"),
        };
        template
            .replace("@DIR@", &self.site.dir.display().to_string())
            .replace("@VENV@", &self.venv.display().to_string())
            .replace("@WEB_USER@", self.site.user)
            .replace("@USER_WEB@", &user("www-data"))
            .replace("@USER_REDIS@", &user("redis"))
            .replace("@ORIGIN@", Host::Origin.address())
            .replace("@BASTION@", Host::Bastion.address())
            .replace("@USE_PAM@", if root_is_locked() { "yes" } else { "no" })
            .replace("@AWS@", aws)
            .replace("@SINK@", sink)
    }
}

/// sshd refuses a locked account, unless PAM is asked instead.
fn root_is_locked() -> bool {
    fs::read_to_string("/etc/shadow").is_ok_and(|all| all.lines().any(|l| l.starts_with("root:!")))
}

impl Site {
    fn manage(&self, venv: &Path, args: &[&str]) -> Result<String> {
        Cmd::new(venv.join("bin/python"))
            .bare_env()
            .env("SITE_DATA", self.dir.join("data"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .dir(self.dir.join("site"))
            .arg("manage.py")
            .args(args)
            .within(PATIENCE)
            .run()
    }

    fn database(&self, venv: &Path) -> Result<()> {
        self.manage(venv, &["migrate", "--verbosity", "0"]).context("make the site's database")?;
        self.manage(venv, &["collectstatic", "--noinput", "--verbosity", "0"])
            .context("collect the site's static files")?;
        if self.user != "root" {
            chown(self.user, &self.dir.join("data"))?;
            chown("redis", &self.dir.join("redis"))?;
        }
        // The ticker leaves its count here, and NGINX its access log.
        Ok(())
    }

    fn keys(&self) -> Result<()> {
        let ssh = self.dir.join("ssh");
        for name in ["host_key", "key"] {
            Cmd::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "palisade demo", "-f"])
                .arg(ssh.join(name))
                .run()?;
        }
        fs::copy(ssh.join("key.pub"), ssh.join("authorized_keys")).context("authorise the key")?;
        let host_key = host::read(&ssh.join("host_key.pub"))?;
        let known = format!("{} {host_key}", Host::Origin.address());
        host::write(&ssh.join("known_hosts"), known)
    }

    /// Starts the origin's SSH server. Palisade does not run it: it only decides who may reach it.
    pub(crate) fn start_sshd(&self, world: &World) -> Result<()> {
        let sshd = find("sshd").context("sshd is not installed")?;
        // Where sshd puts itself before a login; Debian's service makes it at boot.
        fs::create_dir_all("/run/sshd").context("create /run/sshd")?;
        world
            .on(Host::Origin, sshd)
            .bare_env()
            .args(["-D", "-f"])
            .arg(self.dir.join("sshd_config"))
            .arg("-E")
            .arg(self.dir.join("logs/sshd.log"))
            .daemon(&self.dir.join("logs/sshd.out"))?;
        Ok(())
    }

    /// A login on the origin from another host that runs a command there.
    pub(crate) fn ssh_from(&self, world: &World, from: Host, command: &str) -> Cmd {
        let ssh = self.dir.join("ssh");
        let option = |name: &str, path: &str| format!("{name}={}", ssh.join(path).display());
        world
            .on(from, "ssh")
            .args(["-F", "none", "-T", "-i"])
            .arg(ssh.join("key"))
            .args(["-o", &option("UserKnownHostsFile", "known_hosts")])
            .args(["-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=2"])
            .arg(format!("root@{}", Host::Origin.address()))
            .arg(command)
            .within(Duration::from_secs(20))
    }
}

fn chown(user: &str, dir: &Path) -> Result<()> {
    Cmd::new("chown").args(["-R", user]).arg(dir).run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_of_every_template_is_filled() {
        let site = Site {
            dir: PathBuf::from("/d"),
            config: PathBuf::new(),
            socket: PathBuf::new(),
            user: "root",
        };
        for (sink, open) in [(Sink::Local, true), (Sink::CloudWatch, false)] {
            let fill = Fill { site: &site, venv: Path::new("/v"), sink, open };
            for entry in fs::read_dir(host::workspace().join("demo")).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|x| x == "in") {
                    let text = fill.in_text(&host::read(&path).unwrap());
                    let left = unfilled(&text);
                    assert!(left.is_empty(), "{}: {left:?}", path.display());
                }
            }
        }
    }

    #[test]
    fn a_placeholder_is_told_from_an_address() {
        assert_eq!(unfilled("cd @DIR@/x"), ["DIR"]);
        assert!(unfilled("worker@origin, --without-gossip").is_empty());
    }
}
