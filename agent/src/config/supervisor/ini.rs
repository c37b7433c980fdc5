//! The text of a `supervisord.conf` as Python's `RawConfigParser` reads it for Supervisor, with the line
//! of everything.
//!
//! What is read twice is merged and the later value wins; a line that is indented deeper than the option
//! above it goes on with that option's value, whatever it looks like.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    super::mistakes::Place,
    python::{is_space, repr, strip},
};

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: String,
    pub(super) place: Place,
}

/// One section: its options by their lower-case names.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: String,
    /// Where it is opened first.
    pub(super) place: Place,
    pub(super) options: BTreeMap<String, Entry>,
}

/// All sections of all files that were read, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Ini {
    sections: Vec<Section>,
    at: BTreeMap<String, usize>,
    /// `[DEFAULT]`, which stands behind every section.
    pub(super) defaults: BTreeMap<String, Entry>,
}

/// Why a file is no such text, in Python's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: u64,
    pub(super) text: String,
}

/// The characters that begin a comment, at the start of a line or after white space.
const COMMENT: [char; 2] = [';', '#'];

/// Where a line's comment begins. Python looks at the first `;` and the first `#`, then at the second of
/// each, and stops at the first round that finds one: so this is not always the leftmost.
fn comment_start(line: &str) -> Option<usize> {
    if strip(line).starts_with(COMMENT) {
        return Some(0);
    }
    let occurrences = |prefix| {
        line.match_indices::<char>(prefix).map(|(at, _)| {
            let before = line.get(..at).unwrap_or_default();
            before.chars().next_back().is_none_or(is_space).then_some(at)
        })
    };
    let mut rounds = COMMENT.map(|c| occurrences(c).fuse());
    loop {
        let found = rounds.each_mut().map(Iterator::next);
        if found.iter().all(Option::is_none) {
            return None;
        }
        if let Some(at) = found.into_iter().flatten().flatten().min() {
            return Some(at);
        }
    }
}

/// Who goes on being written to.
enum Current {
    Nothing,
    Defaults,
    Section(usize),
}

/// A value that is being read, line by line.
struct Open {
    option: String,
    lines: Vec<String>,
    line: u64,
}

impl Ini {
    /// Every section but `[DEFAULT]`.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// A section by its name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.at.get(name).and_then(|i| self.sections.get(*i))
    }

    /// An option of a section, or the default that stands behind it.
    pub(super) fn entry(&self, section: &str, option: &str) -> Option<&Entry> {
        let own = self.section(section).and_then(|s| s.options.get(option));
        own.or_else(|| self.defaults.get(option))
    }

    /// Where an option stands; the section's first line if it stands nowhere.
    pub(super) fn place(&self, section: &str, option: &str) -> Option<Place> {
        let entry = self.entry(section, option).map(|e| e.place.clone());
        entry.or_else(|| self.section(section).map(|s| s.place.clone()))
    }

    /// Writes the folder of a file over `%(here)s`, everywhere where it still stands.
    pub(super) fn expand_here(&mut self, here: &str) {
        const HERE: &str = "%(here)s";
        for section in &mut self.sections {
            for (option, default) in &self.defaults {
                if default.value.contains(HERE) && !section.options.contains_key(option) {
                    section.options.insert(option.clone(), default.clone());
                }
            }
            for entry in section.options.values_mut() {
                if entry.value.contains(HERE) {
                    entry.value = entry.value.replace(HERE, here);
                }
            }
        }
    }

    /// Reads one more file.
    ///
    /// # Errors
    /// The first line before any section, or every line that is neither section nor option.
    pub(super) fn read(&mut self, file: &Path, text: &str) -> Result<(), Unreadable> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let name = Rc::new(file.to_owned());
        let mut current = Current::Nothing;
        let mut open: Option<Open> = None;
        let mut indent = 0;
        let mut wrong: Option<Unreadable> = None;
        for (line, number) in text.split_inclusive('\n').zip(1_u64..) {
            let comment = comment_start(line);
            let value = strip(line.get(..comment.unwrap_or(line.len())).unwrap_or_default());
            if value.is_empty() {
                if comment.is_none()
                    && let Some(open) = &mut open
                {
                    open.lines.push(String::new());
                }
                continue;
            }
            let depth = line.chars().position(|c| !is_space(c)).unwrap_or(0);
            if depth > indent
                && let Some(open) = &mut open
            {
                open.lines.push(value.to_owned());
                continue;
            }
            indent = depth;
            if let Some(header) = header(value) {
                self.close(&current, open.take(), &name);
                let place = Place { file: Rc::clone(&name), line: number };
                current = self.open(header, place);
                continue;
            }
            if matches!(current, Current::Nothing) {
                let file = repr(&file.to_string_lossy());
                let text = format!(
                    "File contains no section headers.\nfile: {file}, line: {number}\n{}",
                    repr(line)
                );
                return Err(Unreadable { line: number, text });
            }
            match option(value) {
                Some((option, value)) if !option.is_empty() => {
                    self.close(&current, open.take(), &name);
                    open = Some(Open { option, lines: vec![value.to_owned()], line: number });
                }
                _ => {
                    // With nothing before the delimiter there is no option to go on with.
                    if value.starts_with(['=', ':']) {
                        self.close(&current, open.take(), &name);
                    }
                    let wrong = wrong.get_or_insert_with(|| Unreadable {
                        line: number,
                        text: format!(
                            "Source contains parsing errors: {}",
                            repr(&file.to_string_lossy())
                        ),
                    });
                    wrong.text += &format!("\n\t[line {number:2}]: {}", repr(line));
                }
            }
        }
        self.close(&current, open, &name);
        wrong.map_or(Ok(()), Err)
    }

    fn open(&mut self, header: &str, place: Place) -> Current {
        if header == "DEFAULT" && !self.at.contains_key(header) {
            return Current::Defaults;
        }
        let next = self.sections.len();
        let at = *self.at.entry(header.to_owned()).or_insert(next);
        if at == next {
            let (name, options) = (header.to_owned(), BTreeMap::new());
            self.sections.push(Section { name, place, options });
        }
        Current::Section(at)
    }

    fn close(&mut self, current: &Current, open: Option<Open>, file: &Rc<PathBuf>) {
        let Some(Open { option, lines, line }) = open else { return };
        let options = match current {
            Current::Nothing => return,
            Current::Defaults => &mut self.defaults,
            Current::Section(at) => match self.sections.get_mut(*at) {
                Some(section) => &mut section.options,
                None => return,
            },
        };
        let value = lines.join("\n").trim_end_matches(is_space).to_owned();
        let place = Place { file: Rc::clone(file), line };
        options.insert(option, Entry { value, place });
    }
}

/// `[header]`, up to the last `]`; what follows it says nothing.
fn header(value: &str) -> Option<&str> {
    let (header, _) = value.strip_prefix('[')?.rsplit_once(']')?;
    (!header.is_empty()).then_some(header)
}

/// `option = value` or `option: value`, whichever delimiter comes first.
fn option(value: &str) -> Option<(String, &str)> {
    let (option, value) = value.split_once(['=', ':'])?;
    Some((option.trim_end_matches(is_space).to_lowercase(), strip(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ini, Unreadable> {
        let mut ini = Ini::default();
        ini.read(Path::new("f"), text).map(|()| ini)
    }

    fn shown(text: &str) -> String {
        let ini = read(text).unwrap();
        let one = |s: &Section| {
            let options: Vec<_> = s
                .options
                .iter()
                .map(|(k, e)| format!("{k}={}", e.value.escape_default()))
                .collect();
            format!("[{}]{}", s.name, options.join(","))
        };
        ini.sections().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_file_is_taken_apart_as_by_python() {
        for (text, want) in [
            ("[a]\nKEY = v ; c\nb:c=d\r\n", "[a]b=c=d,key=v"),
            ("[a]\nx=1;2 #3\ny=1\t# c", "[a]x=1;2,y=1"),
            // A comment inside a value is dropped, a blank line kept, a section header swallowed.
            ("[a]\nx=1\n 2\n# c\n ; d\n\n  [b]\n\n", "[a]x=1\\n2\\n\\n[b]"),
            ("[a]\nx=1\n[b]\ny=2\n[a]\nx=3\nz=4", "[a]x=3,z=4 [b]y=2"),
            ("[a]\n  x=1\n  y=2\n z=3", "[a]x=1,y=2,z=3"),
            ("[a] tail\n[b]]\n[ c ]", "[a] [b]] [ c ]"),
            ("[a]\nx==y\nz =", "[a]x==y,z="),
            ("; only\n# comments\n\n", ""),
            ("[a]\n\u{a0}x\u{a0}=\u{2003}1\u{1f}", "[a]x=1"),
        ] {
            assert_eq!(shown(text), want, "{text:?}");
        }
    }

    /// `;` is looked at before `#` round by round: the first `#` here is no comment, and in that round the
    /// `;` is one.
    #[test]
    fn the_comment_that_python_finds_first_need_not_be_the_leftmost() {
        assert_eq!(shown("[a]\nx=a#b #c ;d"), "[a]x=a#b #c");
    }

    #[test]
    fn defaults_stand_behind_every_section() {
        let ini = read("[DEFAULT]\nuser=u\n[a]\nx=1\n[b]\nuser=v\n").unwrap();
        let of = |s, o| ini.entry(s, o).map(|e| e.value.as_str());
        assert_eq!((of("a", "user"), of("b", "user"), of("a", "z")), (Some("u"), Some("v"), None));
        assert_eq!(ini.sections().len(), 2);
    }

    #[test]
    fn here_is_the_folder_of_the_file_that_was_read_last() {
        let mut ini = read("[DEFAULT]\nd=%(here)s\n[a]\nx=%(here)s/x").unwrap();
        ini.expand_here("/one");
        ini.read(Path::new("g"), "[b]\ny=%(here)s/y").unwrap();
        ini.expand_here("/two");
        let of = |s, o| ini.entry(s, o).map(|e| e.value.as_str());
        assert_eq!((of("a", "x"), of("a", "d")), (Some("/one/x"), Some("/one")));
        assert_eq!((of("b", "y"), of("b", "d")), (Some("/two/y"), Some("/two")));
    }

    #[test]
    fn every_line_that_is_nothing_is_told() {
        let e = read("[a]\nx\ny=1\n{% if %}\n= 3\n").unwrap_err();
        assert_eq!(e.line, 2);
        assert_eq!(
            e.text,
            "Source contains parsing errors: 'f'\n\t[line  2]: 'x\\n'\n\t[line  4]: '{% if %}\\n'\n\t\
             [line  5]: '= 3\\n'"
        );
        let e = read("\u{feff}[a]\nx=1").unwrap_err();
        assert_eq!(
            e.text,
            "File contains no section headers.\nfile: 'f', line: 1\n'\\ufeff[a]\\n'"
        );
    }
}
