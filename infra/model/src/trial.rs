//! Small projects for tests: files in, an estate or findings out.

use std::{fs, path::Path};

use crate::{
    Estate, Finding, Project, render,
    rules::{Rule, findings},
};

const PARAMS: &str = "project: pal\nenv: prod\nregion: eu-west-1\naccount: '111122223333'\n";

/// A directory with these files, and the environment `prod` if they bring none. Parameters that the
/// environment gives are `parameters`, as YAML: `{ Production: 'true' }`.
#[expect(clippy::disallowed_methods, reason = "files of a test, in a directory of its own")]
pub(crate) fn project(files: &[(&str, &str)], parameters: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let params = format!("{PARAMS}parameters: {parameters}\n");
    for (name, text) in [("params/prod.yaml", params.as_str())].iter().chain(files) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// The project and its environment `prod`, rendered.
pub(crate) fn rendered(dir: &Path) -> (Project, Estate) {
    let project = Project::load(dir).unwrap_or_else(|e| panic!("{e}"));
    let estate = render(&project, &project.environments["prod"]).unwrap_or_else(|e| panic!("{e}"));
    (project, estate)
}

/// What some rules find in one template, `templates/t.yaml`, that is stack `t` of the home region.
pub(crate) fn found(rules: &[Rule], template: &str, parameters: &str) -> Vec<Finding> {
    found_in(
        rules,
        &[
            ("stacks.yaml", "stacks: [{ name: t, template: t.yaml }]"),
            ("templates/t.yaml", template),
        ],
        parameters,
    )
}

/// What some rules find in a project.
pub(crate) fn found_in(rules: &[Rule], files: &[(&str, &str)], parameters: &str) -> Vec<Finding> {
    let dir = project(files, parameters);
    let (project, estate) = rendered(dir.path());
    findings(rules, &project, &estate)
}

/// Ids of the rules that found something, each once.
pub(crate) fn ids(findings: &[Finding]) -> Vec<&'static str> {
    let mut ids: Vec<_> = findings.iter().map(|f| f.rule).collect();
    ids.dedup();
    ids
}
