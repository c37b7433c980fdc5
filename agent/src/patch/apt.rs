//! What apt is told and what it answers. Pure text; `sys::apt` runs it.

use std::fmt::Write as _;

use super::plan::Update;

/// Priority of security updates: above everything, below what would allow a downgrade.
const SECURITY: i32 = 600;
/// Priority of everything else: below what is installed (100), so that nothing else is upgraded, and
/// still good enough for a new dependency.
const OTHER: i32 = 50;

/// The labels of the distribution's security updates, by `ID` and `VERSION_CODENAME` of os-release.
#[must_use]
pub fn security_labels(id: &str, codename: &str) -> Vec<String> {
    match id {
        "ubuntu" => vec![
            format!("o=Ubuntu,a={codename}-security"),
            format!("o=UbuntuESM,a={codename}-infra-security"),
            format!("o=UbuntuESMApps,a={codename}-apps-security"),
        ],
        _ => vec!["l=Debian-Security".to_owned()],
    }
}

/// A preferences file for this purpose alone.
///
/// With `security`, only what carries one of these labels upgrades anything. Each of `excluded` stays
/// as it is. An update hidden behind a newer one from elsewhere is found, because the candidate itself
/// changes; a filter on the output of a plain upgrade would miss it.
#[must_use]
pub fn preferences(security: Option<&[String]>, excluded: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut stanza = |package: &str, pin: &str, priority: i32| {
        write!(text, "Package: {package}\nPin: {pin}\nPin-Priority: {priority}\n\n")
            .unwrap_or_default();
    };
    // Specific before general: apt asks them first wherever they stand.
    for package in excluded {
        stanza(package, "version *", -1);
    }
    if let Some(labels) = security {
        for label in labels {
            stanza("*", &format!("release {label}"), SECURITY);
        }
        // By where it comes from: that covers archives without labels and spares what is installed,
        // whose own priority must stay above.
        stanza("*", "origin *", OTHER);
    }
    text
}

/// What `apt-get -s upgrade` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Packages that would be installed, in apt's order.
    pub updates: Vec<Update>,
    /// Packages that have an update which cannot be installed by an upgrade.
    pub kept_back: Vec<String>,
}

/// Reads the output of `apt-get -s upgrade` in the C locale.
#[must_use]
pub fn parse_simulation(text: &str) -> Simulation {
    let mut found = Simulation::default();
    let mut in_kept = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Inst ") {
            found.updates.extend(parse_inst(rest));
        }
        if in_kept && line.starts_with("  ") {
            found.kept_back.extend(line.split_whitespace().map(str::to_owned));
            continue;
        }
        in_kept = line.starts_with("The following packages have been kept back");
    }
    found
}

/// `NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH]) [...]`; a new package has no `[OLD]`.
fn parse_inst(rest: &str) -> Option<Update> {
    let (name, rest) = rest.split_once(' ')?;
    let (from, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (old, rest) = rest.split_once("] ")?;
            (Some(old.to_owned()), rest)
        }
        None => (None, rest),
    };
    let (inside, _) = rest.strip_prefix('(')?.split_once(')')?;
    let (to, origin) = inside.split_once(' ')?;
    let origin = origin.rsplit_once(" [").map_or(origin, |(origin, _)| origin);
    Some(Update {
        name: name.to_owned(),
        from,
        to: to.to_owned(),
        origin: origin.to_owned(),
        ..Update::default()
    })
}

/// Why `apt-get -s install NAME` does not go through, or what it would have to remove.
#[must_use]
pub fn parse_obstacle(text: &str) -> Option<String> {
    let unmet = section(text, "The following packages have unmet dependencies");
    if !unmet.is_empty() {
        return Some(unmet.join("; "));
    }
    let removed = section(text, "The following packages will be REMOVED");
    (!removed.is_empty()).then(|| format!("would remove {}", removed.join(" ")))
}

/// The indented lines under a heading, each with its spaces squeezed.
fn section(text: &str, heading: &str) -> Vec<String> {
    text.lines()
        .skip_while(|l| !l.starts_with(heading))
        .skip(1)
        .take_while(|l| l.starts_with(' '))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The candidate of each package, from `apt-cache policy`.
#[must_use]
pub fn parse_candidates(text: &str) -> Vec<(String, Option<String>, Option<String>)> {
    let mut found: Vec<(String, Option<String>, Option<String>)> = Vec::new();
    let version = |v: &str| Some(v.trim()).filter(|v| *v != "(none)").map(str::to_owned);
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|n| !n.starts_with(' ')) {
            found.push((name.to_owned(), None, None));
        } else if let Some(last) = found.last_mut() {
            let line = line.trim_start();
            if let Some(v) = line.strip_prefix("Installed: ") {
                last.1 = version(v);
            } else if let Some(v) = line.strip_prefix("Candidate: ") {
                last.2 = version(v);
            }
        }
    }
    found
}

/// What went wrong with packages, from the lines that apt writes to `APT::Status-Fd`.
#[must_use]
pub fn parse_errors(status: &str) -> Vec<(String, String)> {
    let mut errors: Vec<(String, String)> = Vec::new();
    for line in status.lines() {
        // pmerror:PACKAGE:PERCENT:TEXT; the package may be a file and the text may hold colons.
        let Some(rest) = line.strip_prefix("pmerror:") else { continue };
        let mut parts = rest.splitn(3, ':');
        let (Some(package), Some(_), Some(text)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let package = package.rsplit('/').next().unwrap_or(package);
        let package = package.split_once('_').map_or(package, |(name, _)| name);
        if !errors.iter().any(|(name, _)| name == package) {
            errors.push((package.to_owned(), text.trim().to_owned()));
        }
    }
    errors
}

/// What dpkg itself said went wrong with packages: a heading and an indented reason.
#[must_use]
pub fn parse_dpkg_errors(stderr: &str) -> Vec<(String, String)> {
    let mut errors = Vec::new();
    let mut lines = stderr.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("dpkg: error processing package ") else { continue };
        let name = rest.split_whitespace().next().unwrap_or(rest).trim_end_matches(':');
        let reason = lines.next_if(|l| l.starts_with(' ')).map_or("", str::trim);
        errors.push((name.to_owned(), reason.to_owned()));
    }
    errors
}

/// Who holds the lock, from apt's or dpkg's complaint; none if it complains of something else.
#[must_use]
pub fn parse_lock_holder(stderr: &str) -> Option<String> {
    let locked = stderr.lines().any(|l| {
        l.contains("Could not get lock")
            || l.contains("Unable to acquire the dpkg")
            || l.contains("was locked by another process")
    });
    let holder = stderr.lines().find_map(|l| l.split_once("held by process ")).map(|(_, who)| who);
    locked.then(|| match holder {
        Some(who) => format!("process {}", who.trim_end_matches('.')),
        None => "another process".to_owned(),
    })
}

#[cfg(test)]
mod tests;
