//! Reading one map of the configuration key by key, noting every mistake with its place.
//!
//! The keys that were asked for are the keys that exist: whatever is left when the reader is done
//! is unknown, and the nearest asked-for key is offered in its place.

use std::{collections::BTreeSet, str::FromStr};

use super::{
    mistakes::{Notebook, Place},
    raw::{Entry, Node, Value},
};

/// A map that is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    place: Place,
    entries: &'a [Entry],
    asked: BTreeSet<&'static str>,
    notes: Notebook,
}

/// A value that was found under a key.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// Full key, as `programs.web.user`.
    pub(super) path: String,
    /// Its value.
    pub(super) node: &'a Node,
    notes: Notebook,
}

impl<'a> Section<'a> {
    /// The map at `node`; what is no map is noted and read as an empty one.
    pub(super) fn new(path: impl Into<String>, node: &'a Node, notes: &Notebook) -> Self {
        let path = path.into();
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                notes.note(&node.place, &path, format!("must be a map, not {}", other.kind()));
                &[]
            }
        };
        let (place, notes) = (node.place.clone(), notes.clone());
        Self { path, place, entries, asked: BTreeSet::new(), notes }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value under a key, if it is there and not null.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.asked.insert(key);
        let entry = self.entries.iter().find(|e| e.key == key)?;
        if matches!(entry.node.value, Value::Null) {
            return None;
        }
        Some(Field { path: self.key(key), node: &entry.node, notes: self.notes.clone() })
    }

    /// The value under a key that must be there.
    pub(super) fn need(&mut self, key: &'static str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.notes.note(&self.place, &self.key(key), "is required");
        }
        found
    }

    /// Every entry, for maps whose keys are names.
    pub(super) fn named(&mut self) -> impl Iterator<Item = (&'a Entry, Field<'a>)> + use<'a> {
        let (path, notes, entries) = (self.path.clone(), self.notes.clone(), self.entries);
        self.entries = &[];
        entries.iter().map(move |e| {
            let field =
                Field { path: format!("{path}.{}", e.key), node: &e.node, notes: notes.clone() };
            (e, field)
        })
    }

    /// Notes something about the map as a whole.
    pub(super) fn wrong(&self, what: impl Into<String>) {
        self.notes.note(&self.place, &self.path, what);
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for entry in self.entries {
            if self.asked.contains(entry.key.as_str()) {
                continue;
            }
            let what =
                format!("unknown key{}", did_you_mean(&entry.key, self.asked.iter().copied()));
            self.notes.note(&entry.place, &self.key(&entry.key), what);
        }
    }
}

/// `; did you mean X?`, or nothing if no candidate is near.
pub(super) fn did_you_mean<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> String {
    among
        .map(|c| (strsim::jaro_winkler(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(near, _)| *near > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, c)| format!("; did you mean {c}?"))
}

impl<'a> Field<'a> {
    /// Notes what is wrong with this value.
    pub(super) fn wrong(&self, what: impl Into<String>) {
        self.notes.note(&self.node.place, &self.path, what);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.wrong(format!("must be {what}, not {}", self.node.value.kind()));
        None
    }

    /// The value as a section.
    pub(super) fn section(&self) -> Section<'a> {
        Section::new(self.path.clone(), self.node, &self.notes)
    }

    /// Text. A number or a truth value is not taken for text, since YAML may have changed it.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(t) => Some(t),
            Value::Int(_) | Value::Float | Value::Bool(_) => {
                self.wrong("must be text; put it in quotes");
                None
            }
            Value::Null | Value::List(_) | Value::Map(_) => self.expected("text"),
        }
    }

    /// Text, or a whole number or truth value written out.
    pub(super) fn word(&self) -> Option<String> {
        match &self.node.value {
            Value::Int(i) => Some(i.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => self.text().map(str::to_owned),
        }
    }

    /// True or false.
    pub(super) fn bool(&self) -> Option<bool> {
        match self.node.value {
            Value::Bool(b) => Some(b),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number in a range.
    pub(super) fn int<T: TryFrom<i64>>(&self, range: std::ops::RangeInclusive<i64>) -> Option<T> {
        let Value::Int(i) = self.node.value else { return self.expected("a whole number") };
        let fits = range.contains(&i).then(|| T::try_from(i).ok()).flatten();
        if fits.is_none() {
            self.wrong(format!("{i} must be {} to {}", range.start(), range.end()));
        }
        fits
    }

    /// A value that reads itself from text, or from a whole number written out.
    pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(&self) -> Option<T> {
        let word = self.word()?;
        word.parse().map_err(|e: T::Err| self.wrong(e.to_string())).ok()
    }

    /// One of a few words.
    pub(super) fn one_of<T: Clone>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let word = self.word()?;
        if let Some((_, value)) = choices.iter().find(|(w, _)| *w == word) {
            return Some(value.clone());
        }
        let words: Vec<_> = choices.iter().map(|(w, _)| *w).collect();
        let hint = did_you_mean(&word, words.iter().copied());
        self.wrong(format!("{word:?} must be one of {}{hint}", words.join(", ")));
        None
    }

    /// `5%` or `0.5%`, in thousandths.
    pub(super) fn permille(&self) -> Option<u32> {
        let text = self.text()?;
        let parsed = text.strip_suffix('%').and_then(|number| {
            let (whole, tenth) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
            let (whole, tenth): (u32, u32) = (whole.parse().ok()?, tenth.parse().ok()?);
            (whole <= 100 && tenth <= 9).then_some(whole * 10 + tenth).filter(|p| *p <= 1000)
        });
        if parsed.is_none() {
            self.wrong(format!(
                "{text:?} must be a percentage with at most one decimal, such as 5%"
            ));
        }
        parsed
    }

    /// The items of a list; a single value is a list of one.
    pub(super) fn items(&self) -> Vec<Self> {
        let item = |(i, node)| Self {
            path: format!("{}[{i}]", self.path),
            node,
            notes: self.notes.clone(),
        };
        match &self.node.value {
            Value::List(nodes) => nodes.iter().enumerate().map(item).collect(),
            _ => vec![self.clone()],
        }
    }

    /// An absolute path.
    pub(super) fn abs_path(&self) -> Option<std::path::PathBuf> {
        let path = std::path::PathBuf::from(self.text()?);
        if path.is_absolute() {
            return Some(path);
        }
        self.wrong(format!("{:?} must be an absolute path", path.display().to_string()));
        None
    }
}
