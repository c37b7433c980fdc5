//! What is wrong with a configuration: all of it at once, each with its place and its cure.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Rc<PathBuf>,
    /// Line, counted from 1; 0 where the file as a whole is meant.
    pub line: u64,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn whole(file: &Path) -> Self {
        Self { file: Rc::new(file.to_owned()), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// The key, as `programs.web.stopsignal`; empty for a file that is no YAML at all.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Everything that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes, in the order of the files.
    #[must_use]
    pub fn all(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Mistake> for Mistakes {
    fn from(m: Mistake) -> Self {
        Self(vec![m])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{m}")?;
        }
        Ok(())
    }
}

/// Where readers of sections put what they find wrong, while they read on.
#[derive(Clone, Debug, Default)]
pub(super) struct Notebook(Rc<RefCell<Vec<Mistake>>>);

impl Notebook {
    pub(super) fn note(&self, place: &Place, key: &str, what: impl Into<String>) {
        self.0.borrow_mut().push(Mistake {
            place: place.clone(),
            key: key.to_owned(),
            what: what.into(),
        });
    }

    /// The value, unless something was wrong.
    pub(super) fn unless_mistaken<T>(self, value: T) -> Result<T, Mistakes> {
        let mut all = self.0.take();
        if all.is_empty() {
            return Ok(value);
        }
        all.sort_by(|a, b| {
            (&a.place.file, a.place.line, &a.key).cmp(&(&b.place.file, b.place.line, &b.key))
        });
        all.dedup();
        Err(Mistakes(all))
    }
}
