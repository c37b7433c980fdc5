//! What a site's nginx configuration does with the guard: read from what `nginx -T` prints. Pure.
//!
//! It looks for what makes the guard worth nothing without anybody noticing: a server that does not
//! include it, a block whose own lines keep the secret from being taken out, a log that writes it.

use std::fmt;

use super::settings::Settings;

/// Something that the site does not do as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteFault {
    /// `http.conf` is included nowhere.
    NotIncluded,
    /// A server lets requests in without the secret.
    Unguarded(Place),
    /// A block passes requests on with the secret in them.
    Leaks(Place),
    /// Something of the site's own uses the header's value.
    Uses(Place),
    /// A log of debugging writes every header.
    Debugs(Place),
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One directive, with its block.
#[derive(Debug)]
struct Directive<'a> {
    words: Vec<&'a str>,
    place: Place,
    block: Vec<Directive<'a>>,
}

impl Directive<'_> {
    fn name(&self) -> &str {
        self.words.first().copied().unwrap_or_default()
    }
}

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 16;

/// Faults of a configuration as `nginx -T` prints it: `# configuration file PATH:` before each file.
#[must_use]
pub fn faults(printed: &str, settings: &Settings) -> Vec<SiteFault> {
    let mut files = split(printed);
    let dir = settings.nginx.map.parent().map(|d| d.display().to_string()).unwrap_or_default();
    let ours = |name: &str| name.strip_prefix(dir.as_str()).is_some_and(|n| n.starts_with('/'));
    let mut found = Vec::new();
    if !files.iter().any(|(name, _)| *name == format!("{dir}/http.conf")) {
        found.push(SiteFault::NotIncluded);
    }
    let variable = format!("${}", settings.header.variable());
    for (name, text) in files.iter().filter(|(name, _)| !ours(name)) {
        for (n, line) in text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default();
            if code.contains(&variable) {
                found.push(SiteFault::Uses(Place { file: (*name).to_owned(), line: n + 1 }));
            }
        }
    }
    let Some((main, _)) = files.first().copied() else { return found };
    // The map has secrets, and nothing that is looked for.
    let map = settings.nginx.map.display().to_string();
    files.retain(|(name, _)| *name != map);
    let tree = Tree { files: &files, dir: main.rsplit_once('/').map_or("", |(dir, _)| dir) };
    let root = tree.read(main, 0);
    let mut seen = Walk { settings, found };
    seen.block(&root, &Inherited::default());
    seen.found
}

/// The files, in the order in which they are printed; the first is the main one.
fn split(printed: &str) -> Vec<(&str, &str)> {
    let mut files = Vec::new();
    for part in printed.split("# configuration file ").skip(1) {
        if let Some((name, text)) = part.split_once(":\n") {
            files.push((name, text));
        }
    }
    files
}

struct Tree<'a> {
    files: &'a [(&'a str, &'a str)],
    dir: &'a str,
}

impl<'a> Tree<'a> {
    fn read(&self, name: &str, depth: usize) -> Vec<Directive<'a>> {
        let Some((name, text)) = self.files.iter().find(|(n, _)| *n == name).copied() else {
            return Vec::new();
        };
        let words = words(text);
        let mut at = 0;
        self.parse(name, &words, &mut at, depth)
    }

    fn parse(
        &self,
        file: &str,
        words: &[(&'a str, usize)],
        at: &mut usize,
        depth: usize,
    ) -> Vec<Directive<'a>> {
        let mut out = Vec::new();
        let mut current: Vec<&'a str> = Vec::new();
        let mut line = 0;
        while let Some((word, on)) = words.get(*at).copied() {
            *at += 1;
            match word {
                ";" | "{" => {
                    let block = match (word, depth < MAX_DEPTH) {
                        ("{", true) => self.parse(file, words, at, depth + 1),
                        _ => Vec::new(),
                    };
                    let place = Place { file: file.to_owned(), line };
                    let made = Directive { words: std::mem::take(&mut current), place, block };
                    if made.name() == "include" && depth < MAX_DEPTH {
                        out.extend(self.included(made.words.get(1).copied(), depth));
                    } else {
                        out.push(made);
                    }
                }
                "}" => return out,
                _ => {
                    if current.is_empty() {
                        line = on;
                    }
                    current.push(word);
                }
            }
        }
        out
    }

    /// The directives of files that a pattern names, of those that were printed.
    fn included(&self, pattern: Option<&str>, depth: usize) -> Vec<Directive<'a>> {
        let Some(pattern) = pattern else { return Vec::new() };
        let pattern = match pattern.starts_with('/') {
            true => pattern.to_owned(),
            false => format!("{}/{pattern}", self.dir),
        };
        let names: Vec<&str> =
            self.files.iter().map(|(n, _)| *n).filter(|n| matches(&pattern, n)).collect();
        names.into_iter().flat_map(|name| self.read(name, depth + 1)).collect()
    }
}

/// Whether a path is of a pattern in which `*` stands for anything but `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut want, mut have) = (pattern.split('/'), path.split('/'));
    loop {
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some(w), Some(h)) if part_matches(w, h) => {}
            _ => return false,
        }
    }
}

fn part_matches(want: &str, have: &str) -> bool {
    let Some((head, tail)) = want.split_once('*') else { return want == have };
    let Some(rest) = have.strip_prefix(head) else { return false };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| rest.get(at..).is_some_and(|rest| part_matches(tail, rest)))
}

/// Words, `;`, `{` and `}`, each with its line. Quotes are taken off, comments left out.
fn words(text: &str) -> Vec<(&str, usize)> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\n' => {
                line += 1;
                1
            }
            c if c.is_whitespace() => c.len_utf8(),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            ';' | '{' | '}' => {
                out.push((rest.get(..1).unwrap_or_default(), line));
                1
            }
            '"' | '\'' => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = end_of_quoted(inner, c);
                out.push((inner.get(..end).unwrap_or_default(), line));
                line += inner.get(..end).unwrap_or_default().matches('\n').count();
                (end + 2).min(rest.len())
            }
            _ => {
                let end = end_of_word(rest);
                out.push((rest.get(..end).unwrap_or_default(), line));
                end
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

fn end_of_quoted(inner: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at,
            _ => {}
        }
    }
    inner.len()
}

/// `${name}` is part of a word, a `{` elsewhere is not.
fn end_of_word(rest: &str) -> usize {
    let mut before = ' ';
    let mut in_name = false;
    for (at, c) in rest.char_indices() {
        match c {
            '{' if before == '$' => in_name = true,
            '}' if in_name => in_name = false,
            ';' | '{' | '}' => return at,
            c if c.is_whitespace() => return at,
            _ => {}
        }
        before = c;
    }
    rest.len()
}

/// What a block has from those around it.
#[derive(Clone, Debug, Default)]
struct Inherited {
    /// Whether the header is taken out, by kind of pass.
    stripped: [bool; 3],
}

/// What passes requests on, and what changes their headers.
const PASSES: [(&str, &str); 3] = [
    ("proxy_pass", "proxy_set_header"),
    ("fastcgi_pass", "fastcgi_param"),
    ("uwsgi_pass", "uwsgi_param"),
];

struct Walk<'s> {
    settings: &'s Settings,
    found: Vec<SiteFault>,
}

impl Walk<'_> {
    fn block(&mut self, block: &[Directive<'_>], around: &Inherited) {
        let mut here = around.clone();
        for ((_, set), stripped) in PASSES.iter().zip(&mut here.stripped) {
            let mut own = block.iter().filter(|d| d.name() == *set).peekable();
            // Own lines replace all that is inherited.
            if own.peek().is_some() {
                *stripped = own.any(|d| self.strips(d));
            }
        }
        for d in block {
            for ((pass, _), stripped) in PASSES.iter().zip(here.stripped) {
                if d.name() == *pass && !stripped {
                    self.found.push(SiteFault::Leaks(d.place.clone()));
                }
            }
            match d.name() {
                "server" if !d.block.is_empty() && !is_guarded(&d.block) => {
                    self.found.push(SiteFault::Unguarded(d.place.clone()));
                }
                "error_log" if d.words.iter().skip(2).any(|w| w.starts_with("debug")) => {
                    self.found.push(SiteFault::Debugs(d.place.clone()));
                }
                // Servers of an upstream, of mail or of streams are none of ours.
                "upstream" | "stream" | "mail" => continue,
                _ => {}
            }
            self.block(&d.block, &here);
        }
    }

    fn strips(&self, d: &Directive<'_>) -> bool {
        let header = self.settings.header.as_str();
        let variable = self.settings.header.variable();
        let is_ours = d
            .words
            .get(1)
            .is_some_and(|w| w.eq_ignore_ascii_case(header) || w.eq_ignore_ascii_case(&variable));
        is_ours && d.words.get(2).is_some_and(|value| value.is_empty())
    }
}

/// A server that refuses what has no secret, or answers nothing at all.
fn is_guarded(block: &[Directive<'_>]) -> bool {
    block.iter().any(|d| match d.name() {
        "if" => d.words.get(1).is_some_and(|w| w.contains("$palisade_origin_ok")),
        // Nothing is served: a redirect or an empty answer for all.
        "return" => true,
        _ => false,
    })
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
