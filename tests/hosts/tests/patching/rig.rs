//! A host with the agent, an archive, and old versions of packages installed.

use std::{fs, path::PathBuf, time::Duration};

use super::binary::binary;

use palisade_hosts::{
    exec::Cmd,
    nspawn::{Host, HostOptions},
    repo::{Archive, Deb, PLACE, SECURITY},
    trees,
};
use serde_json::Value;

/// How long a run may take on a loaded machine.
pub(crate) const RUN: Duration = Duration::from_secs(180);

/// Windows that are always open: where one ends, the other is in its middle.
pub(crate) const ALWAYS: &str = r#"[{ days: daily, start: "00:00", length: 24h }, { days: daily, start: "12:00", length: 24h }]"#;

const UNIT: &str = "[Unit]\nConditionPathExists=/etc/palisade/palisade.yaml\n[Service]\nType=notify\n\
    NotifyAccess=all\nExecStart=/usr/bin/palisade run\nKillMode=mixed\nDelegate=yes\nRestart=always\n\
    StateDirectory=palisade\nRuntimeDirectory=palisade\nRuntimeDirectoryPreserve=yes\n\
    [Install]\nWantedBy=multi-user.target\n";

/// What is needed, or the reason is printed.
pub(crate) fn ready() -> Option<PathBuf> {
    trees::for_hosts().map(drop).and_then(|()| binary()).inspect_err(|why| println!("{why}")).ok()
}

/// A host with its archive.
pub(crate) struct Rig {
    pub(crate) archive: Archive,
    pub(crate) host: Host,
}

impl Rig {
    /// Every package of the archive's `stable` is installed; `patch` is what the section says beside
    /// its window.
    pub(crate) fn new(
        name: &str,
        archive: Archive,
        install: &[&str],
        window: &str,
        patch: &str,
    ) -> Self {
        let binary = ready().unwrap();
        let config = format!(
            "version: 1\nprograms:\n  web: {{ command: \"/usr/bin/python3 -c 'import time; time.sleep(100000)'\", startsecs: 0s }}\n\
             patch:\n  window: {window}\n  splay: 0s\n  cutoff: 0s\n  apt: {{ security: [l=Palisade-Security] }}\n{patch}\n"
        );
        let install: Vec<String> = install.iter().map(|p| (*p).to_owned()).collect();
        let prepare = format!(
            "set -e\nrm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*\nmkdir -p {PLACE}\n\
             groupadd -f palisade\n\
             systemctl --root=/ -q mask apt-daily.timer apt-daily-upgrade.timer 2>/dev/null || true\n"
        );
        let options = HostOptions::new(name)
            .copy(&binary, "/usr/bin/palisade")
            .file("/etc/systemd/system/palisade.service", UNIT)
            .file("/etc/palisade/palisade.yaml", config)
            .file("/etc/apt/sources.list", Archive::sources())
            .bind(archive.dir(), PLACE)
            .before_boot(&prepare);
        let host = Host::boot(None, options);
        // The first versions come from an archive that has nothing newer yet.
        let old = "sed -i '/security\\|updates/s/^/#/' /etc/apt/sources.list && apt-get -q update";
        host.ok(old);
        host.ok(&format!("NEEDRESTART_SUSPEND=1 apt-get -qy install {}", install.join(" ")));
        host.ok("sed -i 's/^#//' /etc/apt/sources.list; systemctl -q enable --now palisade");
        Self { archive, host }
    }

    /// `palisade …`, as text.
    pub(crate) fn ctl(&self, verb: &str) -> palisade_hosts::exec::Output {
        let cmd: Cmd = self.host.cmd("sh").unwrap();
        cmd.args(["-c", &format!("palisade {verb}")]).within(RUN).said().unwrap()
    }

    /// `palisade … --json`, as a document.
    pub(crate) fn json(&self, verb: &str) -> Value {
        let out = self.ctl(&format!("{verb} --json"));
        serde_json::from_str(&out.stdout)
            .unwrap_or_else(|e| panic!("palisade {verb}: {e}: {}\n{}", out.all(), self.why()))
    }

    /// A run at once, to its end.
    pub(crate) fn run_now(&self) -> Value {
        self.json("patch run --now")
    }

    /// The version of a package that is installed.
    pub(crate) fn version(&self, name: &str) -> String {
        self.host.ok(&format!("dpkg-query -W -f '${{Version}}' {name}"))
    }

    /// What the agent and the run said, for messages.
    pub(crate) fn why(&self) -> String {
        let line =
            "journalctl --sync; journalctl -b -o cat --no-pager -u palisade -u palisade-patch";
        let said = self.host.try_run(line).map(|out| out.all()).unwrap_or_default();
        if said.trim().is_empty() { self.host.console() } else { said }
    }

    /// Waits for a fact of `palisade patch status`.
    pub(crate) fn wait_status(&self, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = palisade_hosts::wait::try_for(RUN, || {
            let out = self.host.try_run("palisade patch status --json").ok()?;
            last = serde_json::from_str(&out.stdout).ok()?;
            fact(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("waited for {what}: {last:#}\n{}", self.why()))
    }
}

/// The names under a key of a list of packages.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|u| u["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// One package in its first version and the next, which mends it.
pub(crate) fn mended(archive: &mut Archive, old: Deb, new: Deb) {
    archive.add("stable", &old).unwrap();
    archive.add(SECURITY, &new).unwrap();
}

/// A shared library that says its version, and a daemon that runs it.
pub(crate) fn libfoo(version: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (c, so) = (dir.path().join("f.c"), dir.path().join("libfoo.so.1"));
    fs::write(&c, format!("const char*foo_v(void){{return \"{version}\";}}")).unwrap();
    let gcc = Cmd::new("gcc").args(["-shared", "-fPIC", "-Wl,-soname,libfoo.so.1", "-o"]);
    gcc.arg(&so).arg(&c).run().unwrap();
    fs::read(so).unwrap()
}

/// The daemon's program.
pub(crate) fn food() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (c, out) = (dir.path().join("d.c"), dir.path().join("food"));
    fs::write(dir.path().join("libfoo.so.1"), libfoo("0")).unwrap();
    let text = "#include <unistd.h>\nconst char*foo_v(void);int main(){for(;;){foo_v();pause();}}";
    fs::write(&c, text).unwrap();
    let gcc = Cmd::new("gcc").arg("-o").arg(&out).arg(&c).arg("-L").arg(dir.path());
    gcc.arg("-l:libfoo.so.1").run().unwrap();
    fs::read(out).unwrap()
}
