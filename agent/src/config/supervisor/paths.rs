//! Paths as Python takes them: made absolute without looking at the disk, and matched by patterns.

use std::path::{Path, PathBuf};

use super::host::{Host, Sort, World};

/// More files than any pattern is meant to match.
const MAX_MATCHES: usize = 10_000;

/// `os.path.abspath`.
pub(super) fn absolute(path: &str, world: &World) -> String {
    if path.starts_with('/') {
        return normal(path);
    }
    normal(&format!("{}/{path}", world.cwd.display()))
}

/// `os.path.normpath` of an absolute path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    // Two slashes at the start, and no more, mean something of their own to POSIX.
    let root = if path.starts_with("//") && !path.starts_with("///") { "//" } else { "/" };
    format!("{root}{}", parts.join("/"))
}

/// `os.path.dirname`.
pub(super) fn folder(path: &str) -> &str {
    let Some((head, _)) = path.rsplit_once('/') else { return "" };
    let cut = head.trim_end_matches('/');
    if cut.is_empty() { path.get(..=head.len()).unwrap_or("/") } else { cut }
}

/// `os.path.expanduser`: the home of this user, or of the one named after the `~`.
pub(super) fn expand_user(path: &str, world: &World, host: &dyn Host) -> String {
    let Some(rest) = path.strip_prefix('~') else { return path.to_owned() };
    let (user, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let home = match (user, world.environment.get("HOME")) {
        ("", Some(home)) => Some(home.clone()),
        ("", None) => host.home("root").map(|h| h.display().to_string()),
        (user, _) => host.home(user).map(|h| h.display().to_string()),
    };
    let Some(home) = home else { return path.to_owned() };
    let whole = format!("{}{rest}", home.trim_end_matches('/'));
    if whole.is_empty() { "/".to_owned() } else { whole }
}

/// The paths that a pattern matches, in order. `*` and `?` and `[...]` match within one name, and no
/// name that begins with a dot unless the pattern does.
pub(super) fn matches(pattern: &str, host: &dyn Host) -> Vec<String> {
    let mut found = vec![if pattern.starts_with('/') { "/".to_owned() } else { String::new() }];
    let mut parts = pattern.split('/').filter(|p| !p.is_empty()).peekable();
    let wants_folder = pattern.ends_with('/');
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let mut next = Vec::new();
        for parent in &found {
            let join = |name: &str| match parent.as_str() {
                "" => name.to_owned(),
                p if p.ends_with('/') => format!("{p}{name}"),
                p => format!("{p}/{name}"),
            };
            if has_magic(part) {
                let wanted = |name: &String| {
                    (part.starts_with('.') || !name.starts_with('.')) && fits(part, name)
                };
                let dir = if parent.is_empty() { Path::new(".") } else { Path::new(parent) };
                next.extend(host.list(dir).iter().filter(|n| wanted(n)).map(|n| join(n)));
            } else {
                next.push(join(part));
            }
        }
        next.truncate(MAX_MATCHES);
        next.retain(|path| match host.at(&PathBuf::from(path)) {
            Some(Sort::Folder) => true,
            Some(Sort::File) => is_last && !wants_folder,
            None => false,
        });
        found = next;
    }
    found.sort();
    found
}

fn has_magic(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether a name fits a part of a pattern, as Python's `fnmatch` has it.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on after the last star if what follows it does not fit.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            (Some('?'), Some(_)) => Some(p + 1),
            (Some('['), Some(c)) => match class(&pattern, p + 1) {
                Some(end) => in_class(&pattern, p + 1, end, *c).then_some(end + 1),
                None => (*c == '[').then_some(p + 1),
            },
            (Some(want), Some(c)) => (want == c).then_some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Where the `]` of a class is that begins at `from`; one that comes first stands for itself.
fn class(pattern: &[char], from: usize) -> Option<usize> {
    let mut at = from;
    if pattern.get(at) == Some(&'!') {
        at += 1;
    }
    if pattern.get(at) == Some(&']') {
        at += 1;
    }
    (at..pattern.len()).find(|i| pattern.get(*i) == Some(&']'))
}

fn in_class(pattern: &[char], from: usize, end: usize, c: char) -> bool {
    let negated = pattern.get(from) == Some(&'!');
    let members = pattern.get(from + usize::from(negated)..end).unwrap_or_default();
    let mut at = 0;
    let mut found = false;
    while let Some(low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(high)) => {
                found |= (*low..=*high).contains(&c);
                at += 3;
            }
            _ => {
                found |= *low == c;
                at += 1;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::{super::host::Kept, *};

    #[test]
    fn paths_are_made_absolute_without_looking() {
        let world = World { cwd: "/srv/app".into(), ..World::default() };
        for (path, want) in [
            ("a/../b", "/srv/app/b"),
            ("/x//y/./z/..", "/x/y"),
            ("", "/srv/app"),
            ("/../..", "/"),
            ("//net/x", "//net/x"),
            ("///x", "/x"),
        ] {
            assert_eq!(absolute(path, &world), want);
        }
        for (path, want) in [("/etc/a.conf", "/etc"), ("/a", "/"), ("a", ""), ("b//a", "b")] {
            assert_eq!(folder(path), want);
        }
    }

    #[test]
    fn a_tilde_is_a_home() {
        let mut world = World::default();
        world.environment.insert("HOME".to_owned(), "/root/".to_owned());
        for (path, want) in [
            ("~/x", "/root/x"),
            ("~", "/root"),
            ("a/~", "a/~"),
            ("~root/x", "/root/x"),
            ("~.no", "~.no"),
        ] {
            assert_eq!(expand_user(path, &world, &Kept::default()), want);
        }
    }

    #[test]
    fn patterns_match_as_in_python() {
        for (pattern, name, want) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "aXbXbc", true),
            ("?.ini", ".ini", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("**", "anything", true),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
        let names = ["/e/b.conf", "/e/a.conf", "/e/.h.conf", "/e/sub/c.conf", "/f/d.conf"];
        let host = Kept::new(names.iter().map(|n| (PathBuf::from(n), Vec::new())));
        for (pattern, want) in [
            ("/e/*.conf", vec!["/e/a.conf", "/e/b.conf"]),
            ("/e/.*.conf", vec!["/e/.h.conf"]),
            ("/*/*.conf", vec!["/e/a.conf", "/e/b.conf", "/f/d.conf"]),
            ("/e/s*", vec!["/e/sub"]),
            ("/e/a.conf", vec!["/e/a.conf"]),
            ("/e/a.conf/", vec![]),
            ("/none/*", vec![]),
        ] {
            assert_eq!(matches(pattern, &host), want, "{pattern}");
        }
    }
}
