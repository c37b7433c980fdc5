//! What dnf is told and what it answers. Pure text; `sys::dnf` runs it.

use std::collections::BTreeMap;

use super::{model::Severity, plan::Update, settings::Scope};

/// Arguments before every dnf command: the release that the sources are locked to, and what is left.
///
/// Amazon Linux locks its repositories to the release of the image, so that a plain `dnf upgrade` does
/// nothing; `--releasever` is stronger than the host's own setting, and pins a fleet to one set.
#[must_use]
pub fn common(release: Option<&str>, excluded: &[String]) -> Vec<String> {
    let mut args = vec!["--color=never".to_owned()];
    args.extend(release.map(|r| format!("--releasever={r}")));
    args.extend(excluded.iter().map(|e| format!("--exclude={e}")));
    args
}

/// Arguments of the command that installs. `upgrade-minimal` goes to the version that mends, where
/// `upgrade --security` would go to the newest.
#[must_use]
pub fn upgrade(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::Security => &["upgrade-minimal", "--security"],
        Scope::All => &["upgrade"],
    }
}

/// What is known of a package's advisories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advisory {
    /// The worst of them.
    pub severity: Severity,
    /// All their CVEs.
    pub cves: Vec<String>,
}

/// Reads `dnf updateinfo list --security --with-cve`: `CVE-2026-1 Important/Sec. baz-1.0-2.x86_64`.
/// The same advisory without a CVE is a line with the advisory's name.
#[must_use]
pub fn parse_advisories(text: &str) -> BTreeMap<String, Advisory> {
    let mut found: BTreeMap<String, Advisory> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(id), Some(kind), Some(nevra), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some((name, _)) = split_nevra(nevra).filter(|_| kind.ends_with("Sec.")) else {
            continue;
        };
        let advisory = found.entry(name).or_default();
        advisory.severity = advisory.severity.max(severity(kind));
        if id.starts_with("CVE-") && !advisory.cves.iter().any(|c| c == id) {
            advisory.cves.push(id.to_owned());
        }
    }
    found
}

fn severity(kind: &str) -> Severity {
    match kind.split('/').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "critical" => Severity::Critical,
        "important" => Severity::High,
        "moderate" => Severity::Medium,
        "low" => Severity::Low,
        _ => Severity::Unspecified,
    }
}

/// `NAME-[EPOCH:]VERSION-RELEASE.ARCH` as the name and `[EPOCH:]VERSION-RELEASE`.
#[must_use]
pub fn split_nevra(nevra: &str) -> Option<(String, String)> {
    let (rest, _arch) = nevra.rsplit_once('.')?;
    let (rest, release) = rest.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some((name.to_owned(), format!("{version}-{release}")))
}

/// What `dnf --assumeno upgrade…` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Packages that would be installed.
    pub updates: Vec<Update>,
    /// Packages that were skipped.
    pub skipped: Vec<Update>,
    /// What dnf says of problems.
    pub problems: Vec<String>,
}

/// Reads the table that dnf prints before it asks. `installed` gives the versions before.
#[must_use]
pub fn parse_transaction(text: &str, installed: &BTreeMap<String, String>) -> Transaction {
    #[derive(PartialEq)]
    enum Part {
        Outside,
        Changes,
        Skipped,
    }
    let mut found = Transaction::default();
    let mut part = Part::Outside;
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(problem) = line.trim_start().strip_prefix("Problem") {
            let words = problem.split_once(": ").map_or(problem, |(_, p)| p);
            found.problems.push(words.to_owned());
            continue;
        }
        if line.trim_start().starts_with("- ") && !found.problems.is_empty() {
            found.problems.push(line.trim_start().trim_start_matches("- ").to_owned());
            continue;
        }
        part = match line {
            "Upgrading:"
            | "Installing:"
            | "Installing dependencies:"
            | "Installing weak dependencies:" => Part::Changes,
            l if l.starts_with("Skipping packages") => Part::Skipped,
            l if l.is_empty() || l.starts_with(' ') || l.starts_with('(') => part,
            _ => Part::Outside,
        };
        if part == Part::Outside || !line.starts_with(' ') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        // NAME ARCH VERSION REPOSITORY SIZE UNIT
        if let [name, _arch, version, repository, ..] = words.as_slice()
            && version.contains('-')
        {
            let update = Update {
                name: (*name).to_owned(),
                from: installed.get(*name).cloned(),
                to: (*version).to_owned(),
                origin: (*repository).to_owned(),
                ..Update::default()
            };
            match part {
                Part::Skipped => found.skipped.push(update),
                Part::Changes | Part::Outside => found.updates.push(update),
            }
        }
    }
    found
}

/// Adds what the advisories say.
pub fn annotate(updates: &mut [Update], advisories: &BTreeMap<String, Advisory>) {
    for update in updates {
        if let Some(a) = advisories.get(&update.name) {
            update.severity = a.severity;
            update.cves.clone_from(&a.cves);
        }
    }
}

/// Reads `rpm -qa --qf '%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n'`; the newest of several counts
/// as the last. An epoch of 0 is not written, as dnf does not.
#[must_use]
pub fn parse_installed(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .map(|(n, v)| (n.to_owned(), v.strip_prefix("0:").unwrap_or(v).to_owned()))
        .collect()
}

/// The names under `needs-restarting -r`: `  * kernel`. The exit code says whether a restart is needed.
#[must_use]
pub fn parse_needs_restarting(text: &str) -> Vec<String> {
    text.lines().filter_map(|l| l.trim().strip_prefix("* ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_advisory_and_every_cve_of_a_package_is_kept() {
        let text = "CVE-2026-0001 Important/Sec. baz-1.0-2.x86_64\n\
            CVE-2026-0002 Moderate/Sec.  baz-1.0-2.x86_64\n\
            PAL-2026-7    Low/Sec.       lib-c++-2:4.1-3.noarch\n\
            FEAT-1        enhancement    bar-1.1-1.x86_64\n";
        let got = parse_advisories(text);
        assert_eq!(got.len(), 2);
        assert_eq!(got["baz"].severity, Severity::High);
        assert_eq!(got["baz"].cves, ["CVE-2026-0001", "CVE-2026-0002"]);
        assert_eq!(got["lib-c++"], Advisory { severity: Severity::Low, cves: vec![] });
    }

    #[test]
    fn a_transaction_is_read_with_what_is_skipped_and_why() {
        let text = "\
Dependencies resolved.

 Problem: package nd-1.1-1.x86_64 requires ndlib, but none of the providers can be installed
  - cannot install the best update candidate for package nd-1.0-1.x86_64
================================================================================
 Package          Architecture  Version          Repository               Size
================================================================================
Upgrading:
 baz              x86_64        1.0-2            sec                     6.1 k
Installing dependencies:
 newlib           x86_64        1:2.0-1          sec                     6.1 k
Skipping packages with broken dependencies:
 nd               x86_64        1.1-1            sec                     6.1 k

Transaction Summary
================================================================================
Upgrade  1 Package
Operation aborted.
";
        let installed = BTreeMap::from([("baz".to_owned(), "1.0-1".to_owned())]);
        let t = parse_transaction(text, &installed);
        let got: Vec<_> = t.updates.iter().map(|u| (u.name.as_str(), u.to.as_str())).collect();
        assert_eq!(got, [("baz", "1.0-2"), ("newlib", "1:2.0-1")]);
        assert_eq!(t.updates[0].from.as_deref(), Some("1.0-1"));
        assert_eq!(t.skipped[0].name, "nd");
        assert!(t.problems[0].starts_with("package nd-1.1-1.x86_64 requires ndlib"));
        assert_eq!(t.problems.len(), 2);
    }

    #[test]
    fn what_is_installed_is_read_with_its_epoch_where_it_has_one() {
        let got = parse_installed("bash 0:5.2-1\nnginx 1:1.24-3\n");
        assert_eq!((got["bash"].as_str(), got["nginx"].as_str()), ("5.2-1", "1:1.24-3"));
    }

    #[test]
    fn the_release_and_what_is_left_go_before_the_command() {
        let args = common(Some("2023.6.20260101"), &["nginx".to_owned()]);
        assert!(args.contains(&"--releasever=2023.6.20260101".to_owned()));
        assert!(args.contains(&"--exclude=nginx".to_owned()));
        assert_eq!(upgrade(Scope::Security), ["upgrade-minimal", "--security"]);
    }
}
