//! The demo's Django site as a site that is deployed, and revisions of it, good and broken.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_hosts::{
    exec::Cmd,
    nspawn::HostOptions,
    packages::{OLD, Packages},
    trees::{target_dir, workspace},
};
use tempfile::TempDir;

/// The site's name, as its visitors write it.
pub(crate) const SITE: &str = "www.example.com";

/// Settings as a real site has them: from the environment, and strict about the Host.
const SETTINGS: &str = r#"from .settings import *

STATIC_ROOT = os.environ["STATIC_ROOT"]
ALLOWED_HOSTS = ["www.example.com"]
MIDDLEWARE = ["origin_site.release.header", *MIDDLEWARE]
"#;

/// A header that tells which revision answered.
const RELEASE: &str = r#"def header(get_response):
    def answer(request):
        response = get_response(request)
        response["X-Release"] = "@NAME@"
        return response

    return answer
"#;

const CONF: &str = r#"site_host=www.example.com
wsgi=origin_site.wsgi
answer_paths="/health"
validate_paths="/health / /static/guestbook/style.css"
migrate=@MIGRATE@
patience=5
"#;

/// What makes a revision different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// It cannot be imported.
    Import,
    /// It starts everywhere but under the agent.
    UnderTheAgent,
    /// Gunicorn answers, but NGINX has no style sheet to send.
    NoStyle,
    /// It has a migration, and nobody said that migrations may be applied.
    Migration,
}

/// Revisions, in a directory of their own.
#[derive(Debug)]
pub(crate) struct Revisions {
    dir: TempDir,
}

impl Revisions {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Makes one with the project's own tool.
    pub(crate) fn make(&self, name: &str, flaw: Flaw) -> PathBuf {
        let project = self.dir.path().join(format!("{name}-project"));
        Cmd::new("cp").arg("-a").arg(workspace().join("demo/site")).arg(&project).run().unwrap();
        let put = |path: &str, text: &str| fs::write(project.join(path), text).unwrap();
        put("origin_site/release.py", &RELEASE.replace("@NAME@", name));
        let more = match flaw {
            Flaw::UnderTheAgent => "if \"NOTIFY_SOCKET\" in os.environ:\n    raise SystemExit(1)\n",
            Flaw::None | Flaw::Import | Flaw::NoStyle | Flaw::Migration => "",
        };
        put("origin_site/deployed.py", &format!("{SETTINGS}{more}"));
        match flaw {
            Flaw::Import => put("origin_site/wsgi.py", "import no_such_module\n"),
            Flaw::NoStyle => fs::remove_dir_all(project.join("guestbook/static")).unwrap(),
            Flaw::Migration => put(
                "guestbook/migrations/0002_more.py",
                "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    \
                 dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [\n        \
                 migrations.AddField(\"entry\", \"mood\", models.CharField(max_length=9, null=True))\n    ]\n",
            ),
            Flaw::None | Flaw::UnderTheAgent => {}
        }
        let migrate = if flaw == Flaw::Migration { "no" } else { "yes" };
        let conf = self.dir.path().join("deploy.conf");
        fs::write(&conf, CONF.replace("@MIGRATE@", migrate)).unwrap();
        let revision = self.dir.path().join(name);
        Cmd::new(deploy("bundle"))
            .arg(&project)
            .arg(requirements(self.dir.path()))
            .args([&conf, &revision])
            .env("WHEELS", target_dir().join("hosts-wheels"))
            .env("PYTHON", python())
            .within(Duration::from_secs(300))
            .run()
            .unwrap();
        revision
    }
}

/// A file of the project's `deploy/codedeploy`.
pub(crate) fn deploy(name: &str) -> PathBuf {
    workspace().join("deploy/codedeploy").join(name)
}

/// The site's own packages: those of the demo without Supervisor.
fn requirements(dir: &Path) -> PathBuf {
    let all = fs::read_to_string(workspace().join("demo/requirements.txt")).unwrap();
    let file = dir.join("requirements.txt");
    let lines = all.lines().filter(|l| !l.starts_with("supervisor"));
    fs::write(&file, lines.map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    file
}

/// The Python that `cargo xtask setup` made an environment of, which has pip; else the machine's.
pub(crate) fn python() -> PathBuf {
    let demo = target_dir().join("demo-venv/bin/python");
    if demo.exists() { demo } else { PathBuf::from("/usr/bin/python3") }
}

/// A host with the package, `host/` as its README says, and Redis; the site is not there yet.
pub(crate) fn host(name: &str, packages: &Packages) -> HostOptions {
    let programs = fs::read_to_string(deploy("host/site.yaml")).unwrap();
    let programs =
        programs.replace("site.wsgi", "origin_site.wsgi").replace("-A, site", "-A, origin_site");
    HostOptions::new(name)
        .copy(&packages.deb(OLD), "/root/palisade.deb")
        .before_boot("dpkg -i /root/palisade.deb && systemctl disable -q nginx && systemctl enable -q redis-server")
        .before_boot("chmod 0600 /etc/site/env")
        .file("/etc/palisade/palisade.yaml", "version: 1\n")
        .file("/etc/palisade/conf.d/site.yaml", programs)
        .copy(&deploy("host/nginx.conf"), "/etc/nginx/nginx.conf")
        .file(
            "/etc/site/env",
            "SITE_DATA=/srv/app/shared\nDJANGO_SETTINGS_MODULE=origin_site.deployed\n",
        )
}
