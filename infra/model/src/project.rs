//! The sources: `stacks.yaml`, `params/*.yaml`, `templates/*.yaml`, and the documents and functions that
//! templates include. Invariant: everything is read once and checked for its shape before anything is
//! rendered.

mod edit;
mod environment;
mod inline;
mod stacks;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use edit::Edit;
pub use environment::Environment;
pub use stacks::{Region, StackEntry};

use crate::{
    mistake::{Mistake, Mistakes},
    value::{At, Value},
    yaml,
};

/// The largest source file.
const MAX_FILE: u64 = 4 << 20;
/// The region of CloudFront's own resources.
pub const GLOBAL_REGION: &str = "us-east-1";

/// All sources.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where they are.
    pub dir: PathBuf,
    /// As `stacks.yaml` lists them.
    pub stacks: Vec<StackEntry>,
    /// Each once, however many stacks are made of it.
    pub templates: Vec<Template>,
    /// By name.
    pub environments: BTreeMap<String, Environment>,
}

/// A template, with documents and functions put in.
#[derive(Clone, Debug)]
pub struct Template {
    /// `templates/network.yaml`.
    pub file: Arc<str>,
    /// The whole.
    pub root: Value,
}

/// Longest template that CloudFormation takes in a request, in bytes; a longer one needs a bucket first.
pub const MAX_BODY: usize = 51_200;

impl Template {
    /// As CloudFormation takes it: JSON without blanks and without comments.
    #[must_use]
    pub fn body(&self) -> String {
        self.root.to_json().to_string()
    }

    /// The line at which a resource of this name begins.
    #[must_use]
    pub fn line_of(&self, logical: &str) -> Option<&At> {
        self.root.get("Resources")?.entry(logical).map(|e| &e.at)
    }
}

impl Project {
    /// Reads everything below a directory.
    ///
    /// # Errors
    /// All mistakes of shape that were found.
    pub fn load(dir: &Path) -> Result<Self, Mistakes> {
        let file: Arc<str> = "stacks.yaml".into();
        let list = read_yaml(dir, &file)?;
        let stacks = stacks::read(&list)?;
        let mut mistakes = Mistakes::default();
        let mut templates: Vec<Template> = Vec::new();
        for stack in &stacks {
            if templates.iter().any(|t| t.file == stack.template) {
                continue;
            }
            match read_yaml(dir, &stack.template).and_then(|root| inline::put_in(dir, root)) {
                Ok(root) => templates.push(Template { file: stack.template.clone(), root }),
                Err(e) => mistakes.0.extend(e.0),
            }
        }
        let mut environments = BTreeMap::new();
        for name in names(&dir.join("params"))? {
            let file: Arc<str> = format!("params/{name}.yaml").into();
            match read_yaml(dir, &file).and_then(|root| environment::read(&name, &root)) {
                Ok(environment) => {
                    environments.insert(name, environment);
                }
                Err(e) => mistakes.0.extend(e.0),
            }
        }
        mistakes.or(Self { dir: dir.to_owned(), stacks, templates, environments })
    }

    /// The position of a template by its file.
    #[must_use]
    pub fn template(&self, file: &str) -> Option<usize> {
        self.templates.iter().position(|t| &*t.file == file)
    }
}

/// Names of the `.yaml` files of a directory, without the ending, sorted.
fn names(dir: &Path) -> Result<Vec<String>, Mistakes> {
    let at = At::new(&dir.display().to_string().into(), 1);
    let bad = |e: std::io::Error| Mistakes::from(Mistake::new(&at, format!("cannot be read: {e}")));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(bad)? {
        let name = entry.map_err(bad)?.file_name();
        if let Some(name) = name.to_str().and_then(|n| n.strip_suffix(".yaml")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read_yaml(dir: &Path, file: &Arc<str>) -> Result<Value, Mistakes> {
    yaml::read(file, &read_text(dir, file, &At::new(file, 1))?)
}

/// A file of the project; one outside of it is refused.
fn read_text(dir: &Path, file: &str, at: &At) -> Result<String, Mistakes> {
    let path = Path::new(file);
    let inside = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !inside {
        return Err(Mistake::new(at, format!("{file} is not a path below the project")).into());
    }
    let path = dir.join(path);
    let bad =
        |what: String| Mistakes::from(Mistake::new(at, format!("{}: {what}", path.display())));
    let size = fs::metadata(&path).map_err(|e| bad(e.to_string()))?.len();
    if size > MAX_FILE {
        return Err(bad(format!("{size} bytes; the most is {MAX_FILE}")));
    }
    fs::read_to_string(&path).map_err(|e| bad(e.to_string()))
}
