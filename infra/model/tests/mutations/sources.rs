//! The project's own sources, and mutants of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use palisade_infra_model::{
    At, Mistakes, Project, Value,
    project::Edit,
    render,
    rules::{self, How},
};

/// `infra/`.
pub(crate) fn infra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The sources as they are, read once.
pub(crate) fn project() -> &'static Project {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    PROJECT.get_or_init(|| Project::load(&infra()).unwrap_or_else(|e| panic!("{e}")))
}

/// Rules that `check` looks at.
pub(crate) fn checked() -> BTreeSet<&'static str> {
    let looked_at = |how: How| matches!(how, How::Check(_));
    rules::all().into_iter().filter(|r| looked_at(r.how)).map(|r| r.id).collect()
}

/// One edit of one file.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) file: String,
    pub(crate) path: String,
    pub(crate) edit: Edit,
}

/// A change of the sources.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) env: String,
    /// Parameters of the environment that it needs.
    pub(crate) with: Vec<(String, String)>,
    pub(crate) changes: Vec<Change>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The templates can no longer be rendered.
    Broken(Mistakes),
    /// Rules that it trips, with what they say.
    Found(BTreeSet<&'static str>, Vec<String>),
}

impl Mutation {
    /// The environment that it is about, unchanged.
    pub(crate) fn baseline(&self) -> Project {
        let mut project = project().clone();
        for (name, value) in &self.with {
            assert!(project.set_parameter(&self.env, name, value), "{}: {}", self.at, self.env);
        }
        project
    }

    /// The sources with it, if its places exist.
    pub(crate) fn mutant(&self) -> Result<Project, String> {
        let mut project = self.baseline();
        for Change { file, path, edit } in &self.changes {
            if !project.edit(file, path, edit.clone()) {
                return Err(format!("{}: {}: nothing at {path} in {file}", self.at, self.name));
            }
        }
        Ok(project)
    }

    /// What the rules say of sources.
    pub(crate) fn judge(&self, project: &Project) -> Outcome {
        let env = project.environments.get(&self.env);
        let env = env.unwrap_or_else(|| panic!("{}: no environment {}", self.at, self.env));
        match render(project, env) {
            Err(e) => Outcome::Broken(e),
            Ok(estate) => {
                let found = rules::check(project, &estate);
                let said = found.iter().map(ToString::to_string).collect();
                Outcome::Found(found.iter().map(|f| f.rule).collect(), said)
            }
        }
    }
}

/// The mutations of a file.
pub(crate) fn read(file: &str) -> Vec<Mutation> {
    let text = std::fs::read_to_string(infra().join(file)).unwrap();
    let root =
        palisade_infra_model::yaml::read(&file.into(), &text).unwrap_or_else(|e| panic!("{e}"));
    assert!(!root.items().is_empty(), "{file} is no list of mutations");
    root.items().iter().map(mutation).collect()
}

fn mutation(value: &Value) -> Mutation {
    let at = &value.at;
    let text = |v: &Value, key: &str| {
        let found = v.get(key).and_then(Value::scalar);
        found.unwrap_or_else(|| panic!("{}: no `{key}`", v.at))
    };
    let with = value.get("with").map(Value::entries).unwrap_or_default();
    let change = |v: &Value| Change {
        file: text(v, "file"),
        path: text(v, "at"),
        edit: match v.get("to") {
            Some(to) => Edit::Set(to.clone()),
            None if v.get("remove").and_then(Value::as_bool) == Some(true) => Edit::Remove,
            None => panic!("{at}: an edit wants `to` or `remove: true`"),
        },
    };
    Mutation {
        name: text(value, "name"),
        at: at.clone(),
        env: value.get("env").and_then(Value::scalar).unwrap_or_else(|| "prod".into()),
        with: with.iter().map(|e| (e.key.clone(), e.value.scalar().unwrap_or_default())).collect(),
        changes: value
            .get("edits")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .map(change)
            .collect(),
    }
}
