//! Debian and Ubuntu: apt and dpkg.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    super::{children::Children, exec::Cmd},
    cmd, complaint, lock, power, run, run_well, state,
    state::Scratch,
    text,
};
use crate::{
    clock::Timestamp,
    patch::{
        Blocked, Broken, Facts, Found, HostError, Packages, Said, Scope, Settings, Update,
        apt::{self, Simulation},
        lists::{self, Target},
    },
};

const APT_GET: &str = "/usr/bin/apt-get";
const DPKG: &str = "/usr/bin/dpkg";
/// How long fetching all lists may take.
const FETCH: Duration = Duration::from_secs(600);
/// How long an installation may take. One that is killed leaves packages half installed, so this only
/// guards against one that hangs for ever.
const INSTALL: Duration = Duration::from_secs(4 * 3600);
/// apt's own patience for a lock taken between our look and its start.
const RACE: Duration = Duration::from_secs(10);
/// Packages that are asked one by one why they are kept back; the rest go without a reason.
const MAX_ASKED: usize = 20;
/// A package whose files cannot be relied on.
const MUST_REINSTALL: &str = "must be reinstalled";
/// What an edited configuration file means: it stays, and the new one is put beside it.
const KEEP_EDITED: [&str; 4] =
    ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"];

/// apt on this host.
#[derive(Clone, Debug)]
pub struct Apt {
    children: Children,
    dir: PathBuf,
    scope: Scope,
    labels: Vec<String>,
}

impl Apt {
    /// Whether the host has it.
    #[must_use]
    pub fn is_here() -> bool {
        Path::new(APT_GET).exists()
    }

    /// With these settings.
    #[must_use]
    pub fn new(children: Children, settings: &Settings) -> Self {
        let labels = match settings.apt_security.is_empty() {
            true => labels_of_this_host(),
            false => settings.apt_security.clone(),
        };
        Self { children, dir: settings.state_dir.clone(), scope: settings.scope, labels }
    }

    /// A preferences file that leaves out some packages.
    fn preferences(&self, name: &str, excluded: &[String]) -> Result<Scratch, HostError> {
        let security = (self.scope == Scope::Security).then_some(self.labels.as_slice());
        Scratch::new(&self.dir, name, &apt::preferences(security, excluded))
    }

    fn apt_get(preferences: &Scratch) -> Cmd {
        let option = format!("Dir::Etc::Preferences={}", preferences.path().display());
        cmd(APT_GET).args(["-q", "-o", &option])
    }

    async fn targets(&self) -> Result<Vec<Target>, HostError> {
        let cmd = cmd(APT_GET).args(["indextargets", "--no-release-info", "Created-By: Packages"]);
        let text = run_well(&self.children, "ask apt for its sources", cmd).await?;
        let mut targets = lists::parse_targets(&text);
        for target in &mut targets {
            let head = release_files(target).into_iter().find_map(|f| fs::read_to_string(f).ok());
            target.release = lists::parse_release(&head.unwrap_or_default());
        }
        Ok(targets)
    }

    async fn simulate(&self, pref: &Scratch, more: &[&str]) -> Result<Simulation, HostError> {
        let cmd = Self::apt_get(pref).args(["-s", "--with-new-pkgs"]).args(more).args(["upgrade"]);
        let text = run_well(&self.children, "simulate an upgrade", cmd).await?;
        Ok(apt::parse_simulation(&text))
    }

    /// Packages that are not wholly installed.
    async fn broken(&self) -> Result<Vec<Broken>, HostError> {
        let cmd = cmd("/usr/bin/dpkg-query").args([
            "-W",
            "-f",
            "${db:Status-Abbrev}|${binary:Package}\n",
        ]);
        let text = run_well(&self.children, "ask dpkg for its packages", cmd).await?;
        let mut broken: Vec<Broken> = text.lines().filter_map(broken_line).collect();
        let interrupted = fs::read_dir("/var/lib/dpkg/updates").is_ok_and(|d| d.count() > 0);
        if interrupted && broken.is_empty() {
            let what = "was interrupted in the middle of its work".to_owned();
            broken.push(Broken { name: "dpkg".to_owned(), what });
        }
        Ok(broken)
    }

    async fn found(&self, names: &[String]) -> Result<BTreeMap<String, Found>, HostError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let format = "${binary:Package}|${Package}|${db:Status-Abbrev}|${Version}\n";
        // A name that dpkg does not know makes it complain and answer for the others.
        let cmd = cmd("/usr/bin/dpkg-query").args(["-W", "-f", format]).args(names);
        let out = run(&self.children, "ask dpkg for versions", cmd).await?;
        let mut found = BTreeMap::new();
        for line in text(&out.stdout).lines() {
            let mut parts = line.splitn(4, '|');
            if let (Some(full), Some(name), Some(status), Some(version)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            {
                let whole = status.get(1..3) == Some("i ");
                let f = Found { version: version.to_owned(), whole };
                found.insert(full.to_owned(), f.clone());
                if names.iter().any(|n| n == name) {
                    found.insert(name.to_owned(), f);
                }
            }
        }
        Ok(found)
    }

    /// What is kept back, with the version it should have and what stands in the way.
    async fn blocked(&self, pref: &Scratch, names: &[String]) -> Result<Vec<Blocked>, HostError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let option = format!("Dir::Etc::Preferences={}", pref.path().display());
        let policy = cmd("/usr/bin/apt-cache").args(["-o", &option, "policy"]).args(names);
        let text = run_well(&self.children, "ask apt for candidates", policy).await?;
        let mut blocked = Vec::new();
        for (name, from, to) in apt::parse_candidates(&text) {
            let obstacle = match blocked.len() < MAX_ASKED {
                true => self.obstacle(pref, &name).await?,
                false => None,
            };
            let update = Update { name, from, to: to.unwrap_or_default(), ..Update::default() };
            blocked.push(Blocked { update, obstacle });
        }
        Ok(blocked)
    }

    async fn obstacle(&self, pref: &Scratch, name: &str) -> Result<Option<String>, HostError> {
        let cmd = Self::apt_get(pref).args(["-s", "install", name]);
        let out = run(&self.children, "ask apt what stands in the way", cmd).await?;
        Ok(apt::parse_obstacle(&text(&out.stdout)))
    }

    /// The newer versions that dpkg put beside edited configuration files of these packages.
    async fn conffiles(&self, names: &[String]) -> Result<Vec<String>, HostError> {
        let cmd = cmd("/usr/bin/dpkg-query").args(["-W", "-f", "${Conffiles}\n"]).args(names);
        let out = run(&self.children, "ask dpkg for configuration files", cmd).await?;
        let all = text(&out.stdout);
        let paths = all.lines().filter_map(|l| l.split_whitespace().next());
        let beside = paths.map(|p| format!("{p}.dpkg-dist")).filter(|p| Path::new(p).exists());
        Ok(beside.collect())
    }

    /// Runs apt-get so that it changes the host, and reads what it says of single packages.
    async fn change(&self, what: &str, pref: &Scratch, args: &[&str]) -> Result<Said, HostError> {
        let path = self.dir.join("apt.status");
        let failed = |e| HostError::because(format!("write {}", path.display()), e);
        let status = File::create(&path).map_err(failed)?;
        // apt inherits it; nothing else is started meanwhile, as a run does one thing at a time.
        fcntl(&status, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|e| HostError::because("hand a file to apt", e))?;
        let fd = format!("APT::Status-Fd={}", status.as_raw_fd());
        let race = format!("DPkg::Lock::Timeout={}", RACE.as_secs());
        let cmd = Self::apt_get(pref)
            // What could be installed only by removing something is for a person to decide.
            .args(["-y", "--no-remove", "-o", &fd, "-o", &race])
            .args(KEEP_EDITED)
            .args(args)
            .deadline(INSTALL);
        let out = run(&self.children, what, cmd).await?;
        drop(status);
        let mut said = Said { broken: self.broken().await?, ..Said::default() };
        if out.code != Some(0) {
            said.locked_by = apt::parse_lock_holder(&text(&out.stderr));
            said.errors = apt::parse_errors(&text(&fs::read(&path).unwrap_or_default()));
            said.trouble = Some(format!("{what}: {}", complaint(&out)));
        }
        Ok(said)
    }
}

impl Packages for Apt {
    async fn lock_holder(&mut self) -> Option<String> {
        lock::holder()
    }

    async fn refresh(&mut self, now: Timestamp) -> Result<(), HostError> {
        let targets = self.targets().await?;
        let cmd = cmd(APT_GET)
            .args(["-q", "-o", "APT::Update::Error-Mode=any", "update"])
            .deadline(FETCH);
        let out = run(&self.children, "fetch package lists", cmd).await?;
        let complaints = text(&out.stderr);
        if let Some(who) = apt::parse_lock_holder(&complaints) {
            return Err(HostError::new(format!("{who} is fetching package lists")));
        }
        let said = format!("{}\n{complaints}", text(&out.stdout));
        let before = state::fetches(&self.dir);
        let after = lists::after_update(&before, &targets, &said, out.code == Some(0), now);
        state::remember(&self.dir, &after)
    }

    async fn facts(&mut self, excluded: &[String]) -> Result<Facts, HostError> {
        let targets = self.targets().await?;
        let fetches = state::fetches(&self.dir);
        let mut facts = Facts {
            sources: lists::sources(&targets, &fetches, &self.labels, is_here),
            broken: self.broken().await?,
            reboot: power::need(&self.children).await,
            ..Facts::default()
        };
        let held = cmd("/usr/bin/apt-mark").args(["showhold"]);
        let held = run_well(&self.children, "ask apt for holds", held).await?;
        facts.marked = held.lines().map(str::to_owned).collect();
        let all = self.preferences("wanted.pref", &[])?;
        let some = self.preferences("doable.pref", excluded)?;
        let wanted = match self.simulate(&all, &["--ignore-hold"]).await {
            Ok(wanted) => wanted,
            // On top of a half-finished installation nothing can be told; the repair comes first.
            Err(_) if !facts.broken.is_empty() => return Ok(facts),
            Err(e) => return Err(e),
        };
        let doable = match excluded.is_empty() && facts.marked.is_empty() {
            true => wanted.clone(),
            false => self.simulate(&some, &[]).await?,
        };
        facts.blocked = self.blocked(&all, &wanted.kept_back).await?;
        (facts.wanted, facts.doable) = (wanted.updates, doable.updates);
        Ok(facts)
    }

    async fn repair(&mut self) -> Result<Said, HostError> {
        let configure = cmd(DPKG)
            .args(["--configure", "-a", "--force-confdef", "--force-confold"])
            .deadline(INSTALL);
        let out = run(&self.children, "finish half-done installations", configure).await?;
        if let Some(who) = apt::parse_lock_holder(&text(&out.stderr)) {
            return Ok(Said { locked_by: Some(who), ..Said::default() });
        }
        let errors = apt::parse_dpkg_errors(&text(&out.stderr));
        let pref = self.preferences("repair.pref", &[])?;
        let half: Vec<String> = self.broken().await?.into_iter().map(|b| b.name).collect();
        let mut said = self.change("repair packages", &pref, &["-f", "install"]).await?;
        let again: Vec<&str> = said
            .broken
            .iter()
            .filter(|b| half.contains(&b.name))
            .map(|b| b.name.as_str())
            .collect();
        // "Reinstall before removal": only the whole package mends it.
        if said.broken.iter().any(|b| b.what == MUST_REINSTALL) {
            let args: Vec<&str> = ["--reinstall", "install"].into_iter().chain(again).collect();
            said = self.change("reinstall packages", &pref, &args).await?;
        }
        said.errors.extend(errors);
        Ok(said)
    }

    async fn install(&mut self, excluded: &[String], names: &[String]) -> Result<Said, HostError> {
        let pref = self.preferences("install.pref", excluded)?;
        let mut said =
            self.change("install updates", &pref, &["--with-new-pkgs", "upgrade"]).await?;
        said.found = self.found(names).await?;
        said.conffiles = self.conffiles(names).await?;
        Ok(said)
    }
}

/// Where apt keeps what an archive says of a release as a whole.
fn release_files(target: &Target) -> [PathBuf; 2] {
    ["InRelease", "Release"].map(|name| PathBuf::from(format!("{}{name}", target.base)))
}

/// Whether the lists of a source are here: its index, compressed or not, or its release file where the
/// index is empty.
fn is_here(target: &Target) -> bool {
    let with = |ext: &str| PathBuf::from(format!("{}{ext}", target.file)).exists();
    ["", ".lz4", ".xz", ".gz", ".zst", ".bz2"].iter().any(|ext| with(ext))
        || release_files(target).iter().any(|f| f.exists())
}

/// `iF |brk`: what is wanted, what is, whether it must be installed anew.
fn broken_line(line: &str) -> Option<Broken> {
    let (status, name) = line.split_once('|')?;
    let mut letters = status.chars().skip(1);
    let (is, error) = (letters.next()?, letters.next().unwrap_or(' '));
    let what = match (is, error) {
        (_, 'R') => MUST_REINSTALL,
        ('H', _) => "half-installed",
        ('U', _) => "unpacked",
        ('F', _) => "half-configured",
        ('W' | 't', _) => "waits for triggers",
        _ => return None,
    };
    Some(Broken { name: name.to_owned(), what: what.to_owned() })
}

fn labels_of_this_host() -> Vec<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let value = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    apt::security_labels(&field("ID"), &field("VERSION_CODENAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_not_whole_are_broken() {
        for whole in ["ii |a", "rc |a", "un |a", "hi |a", "pn |a"] {
            assert_eq!(broken_line(whole), None, "{whole}");
        }
        for (line, what) in [
            ("iF |brk", "half-configured"),
            ("iU |brk", "unpacked"),
            ("rHR|brk", "must be reinstalled"),
            ("iW |brk", "waits for triggers"),
        ] {
            let b = broken_line(line).unwrap();
            assert_eq!((b.name.as_str(), b.what.as_str()), ("brk", what));
        }
    }
}
