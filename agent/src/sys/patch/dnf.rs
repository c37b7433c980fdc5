//! Amazon Linux, Fedora and theirs: dnf and rpm.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::{children::Children, exec::Cmd},
    cmd, complaint, power, run, run_well, state, text,
};
use crate::{
    clock::Timestamp,
    patch::{
        Blocked, Facts, Found, HostError, Packages, Said, Scope, Settings,
        dnf::{self, Transaction},
        lists::{Fetch, Fetches, SourceList, Trouble},
    },
};

const DNF: &str = "/usr/bin/dnf";
const RPM: &str = "/usr/bin/rpm";
/// How long one command may take that fetches.
const FETCH: Duration = Duration::from_secs(600);
/// How long an installation may take; see the same of apt.
const INSTALL: Duration = Duration::from_secs(4 * 3600);

/// dnf on this host.
#[derive(Clone, Debug)]
pub struct Dnf {
    children: Children,
    dir: PathBuf,
    scope: Scope,
    release: Option<String>,
}

impl Dnf {
    /// Whether the host has it.
    #[must_use]
    pub fn is_here() -> bool {
        Path::new(DNF).exists()
    }

    /// With these settings.
    #[must_use]
    pub fn new(children: Children, settings: &Settings) -> Self {
        Self {
            children,
            dir: settings.state_dir.clone(),
            scope: settings.scope,
            release: settings.release.clone(),
        }
    }

    fn dnf(&self, excluded: &[String]) -> Cmd {
        cmd(DNF).args(dnf::common(self.release.as_deref(), excluded)).deadline(FETCH)
    }

    async fn repositories(&self) -> Result<Vec<String>, HostError> {
        let cmd = self.dnf(&[]).args(["-q", "repolist", "--enabled"]);
        let text = run_well(&self.children, "ask dnf for its repositories", cmd).await?;
        let names = text.lines().filter_map(|l| l.split_whitespace().next());
        Ok(names.filter(|n| *n != "repo").map(str::to_owned).collect())
    }

    /// Whether a repository says which updates mend what; without that none of them is security.
    async fn has_advisories(&self, repository: &str) -> bool {
        let cmd =
            self.dnf(&[]).args(["-q", "-C", "updateinfo", "list", "--all", "--repo", repository]);
        let out = run(&self.children, "ask dnf for advisories", cmd).await;
        out.is_ok_and(|o| o.code == Some(0) && !text(&o.stdout).trim().is_empty())
    }

    async fn installed(&self) -> Result<BTreeMap<String, String>, HostError> {
        let format = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n";
        let cmd = cmd(RPM).args(["-qa", "--qf", format]);
        let text = run_well(&self.children, "ask rpm for versions", cmd).await?;
        Ok(dnf::parse_installed(&text))
    }

    async fn simulate(
        &self,
        excluded: &[String],
        installed: &BTreeMap<String, String>,
    ) -> Result<Transaction, HostError> {
        let cmd = self.dnf(excluded).args(["-C", "--assumeno"]).args(dnf::upgrade(self.scope));
        let out = run(&self.children, "simulate an upgrade", cmd).await?;
        let all = format!("{}\n{}", text(&out.stdout), text(&out.stderr));
        let found = dnf::parse_transaction(&all, installed);
        // 1 with "Operation aborted" is the answer no, which was ours.
        let aborted = all.contains("Operation aborted");
        if out.code != Some(0) && !aborted {
            return Err(HostError::new(format!("simulate an upgrade: {}", complaint(&out))));
        }
        // dnf asks only where there is something to do: nothing read of it is not nothing.
        if aborted && found.updates.is_empty() {
            return Err(HostError::new("simulate an upgrade: dnf's table could not be read"));
        }
        Ok(found)
    }

    async fn sources(&self) -> Result<Vec<SourceList>, HostError> {
        let known = state::fetches(&self.dir);
        let mut sources = Vec::new();
        for name in self.repositories().await? {
            let fetch = known.sources.get(&name).cloned().unwrap_or_default();
            sources.push(SourceList {
                security: self.has_advisories(&name).await,
                present: fetch.fetched.is_some(),
                source: name,
                fetched: fetch.fetched,
                trouble: fetch.trouble,
            });
        }
        Ok(sources)
    }
}

impl Packages for Dnf {
    async fn lock_holder(&mut self) -> Option<String> {
        // dnf waits for its own locks itself; there is no lock to ask about from outside.
        None
    }

    async fn refresh(&mut self, now: Timestamp) -> Result<(), HostError> {
        let before = state::fetches(&self.dir);
        let mut after = Fetches { v: 1, sources: BTreeMap::new() };
        for name in self.repositories().await? {
            let cmd = self.dnf(&[]).args(["-q", "makecache", "--refresh", "--repo", &name]);
            let out = run(&self.children, "fetch package lists", cmd).await?;
            let known = before.sources.get(&name).and_then(|f| f.fetched);
            let fetch = match out.code {
                Some(0) => Fetch { fetched: Some(now), trouble: None },
                _ => {
                    let what = complaint(&out);
                    let untrusted =
                        ["checksum", "GPG", "signature"].iter().any(|m| what.contains(m));
                    Fetch { fetched: known, trouble: Some(Trouble { what, untrusted }) }
                }
            };
            after.sources.insert(name, fetch);
        }
        state::remember(&self.dir, &after)
    }

    async fn facts(&mut self, excluded: &[String]) -> Result<Facts, HostError> {
        let sources = self.sources().await?;
        let installed = self.installed().await?;
        let mut wanted = self.simulate(&[], &installed).await?;
        let mut doable = match excluded.is_empty() {
            true => wanted.clone(),
            false => self.simulate(excluded, &installed).await?,
        };
        let cmd =
            self.dnf(&[]).args(["-q", "-C", "updateinfo", "list", "--security", "--with-cve"]);
        let text = run_well(&self.children, "ask dnf for advisories", cmd).await?;
        let advisories = dnf::parse_advisories(&text);
        for list in [&mut wanted.updates, &mut wanted.skipped, &mut doable.updates] {
            dnf::annotate(list, &advisories);
        }
        let obstacle = Some(wanted.problems.join("; ")).filter(|p| !p.is_empty());
        let blocked = wanted.skipped.into_iter();
        Ok(Facts {
            sources,
            blocked: blocked.map(|update| Blocked { update, obstacle: obstacle.clone() }).collect(),
            wanted: wanted.updates,
            doable: doable.updates,
            marked: Vec::new(),
            broken: Vec::new(),
            reboot: power::need(&self.children).await,
            release: self.release.clone(),
        })
    }

    async fn repair(&mut self) -> Result<Said, HostError> {
        Ok(Said::default())
    }

    async fn install(&mut self, excluded: &[String], names: &[String]) -> Result<Said, HostError> {
        let cmd = self.dnf(excluded).args(["-y"]).args(dnf::upgrade(self.scope)).deadline(INSTALL);
        let out = run(&self.children, "install updates", cmd).await?;
        let installed = self.installed().await?;
        let of = |n: &String| {
            Some((n.clone(), Found { version: installed.get(n)?.clone(), whole: true }))
        };
        let trouble =
            (out.code != Some(0)).then(|| format!("install updates: {}", complaint(&out)));
        Ok(Said { trouble, found: names.iter().filter_map(of).collect(), ..Said::default() })
    }
}
