//! Second opinions: what public tools say of the templates. Everything that they find is mended, or is in
//! a list under `infra/opinions` with the reason why it is right.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests: what fails here fails the test; tools are other people's programs"
)]

mod checkov;
mod guard;
mod lint;
mod plain;
mod planted;
mod reviewed;
#[path = "../mutations/sources.rs"]
#[expect(dead_code, reason = "not all of what tests share is used by every one")]
mod sources;
mod tools;
#[path = "../mutations/variants.rs"]
#[expect(dead_code, reason = "not all of what tests share is used by every one")]
mod variants;

use std::{collections::BTreeSet, fs, path::Path};

use palisade_infra_model::Project;
use tempfile::TempDir;

use self::{
    plain::{FAULTY, Stacks},
    reviewed::{Opinion, differences},
    tools::Tools,
    variants::{VARIANTS, Variant},
};

/// Environments as they are shipped, where no variant is one.
const SHIPPED: &[Variant] =
    &[Variant { env: "dev", with: &[] }, Variant { env: "staging", with: &[] }];

/// What a template would tell one of the tools to look away by.
const IGNORES: &[&str] = &["cfn-lint", "checkov:", "cfn_nag", "cdk_nag", "guard:", "nosec"];

fn infra() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn project() -> Project {
    Project::load(infra()).unwrap_or_else(|e| panic!("{e}"))
}

/// Every stack of every environment and variant, each distinct one once.
fn rendered() -> (TempDir, Stacks) {
    let (dir, project) = (tempfile::tempdir().unwrap(), project());
    let mut stacks = Stacks::new(dir.path());
    for variant in VARIANTS.iter().chain(SHIPPED) {
        let estate = variant.render(&project).unwrap_or_else(|e| panic!("{e}"));
        for stack in &estate.stacks {
            stacks.add(dir.path(), &project, stack, estate.is_production());
        }
    }
    (dir, stacks)
}

fn agree(list: &str, opinions: &BTreeSet<Opinion>, stacks: &Stacks) {
    let list = infra().join("opinions").join(list);
    let differences = differences(&fs::read_to_string(&list).unwrap(), opinions, stacks);
    println!("{} findings on {} stacks", opinions.len(), stacks.files.len());
    assert!(differences.is_empty(), "{}:\n{differences}", list.display());
}

#[test]
fn cfn_lint_has_nothing_to_say_about_any_template() {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(skipped) => return println!("{skipped}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let places = plain::templates(&project(), dir.path());
    let opinions = lint::opinions(&tools, dir.path(), &places);
    let (control, found): (Vec<_>, Vec<_>) = opinions.iter().partition(|o| o.file == FAULTY);
    assert!(!control.is_empty(), "the fault that is there to be found was not");
    assert!(found.is_empty(), "{found:#?}");
    println!("nothing in {} templates", places.len() - 1);
}

#[test]
fn no_template_tells_a_tool_to_look_away() {
    let mut seen = 0;
    for entry in fs::read_dir(infra().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let ignore = IGNORES.iter().find(|i| text.contains(**i));
        assert_eq!(ignore, None, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
    for file in [".cfnlintrc", ".cfnlintrc.yaml", ".cfnlintrc.yml", ".checkov.yaml", ".checkov.yml"]
    {
        for dir in infra().ancestors().take(2) {
            assert!(!dir.join(file).exists(), "{} is there", dir.join(file).display());
        }
    }
}

#[test]
fn control_towers_rules_find_only_what_was_reviewed() {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(skipped) => return println!("{skipped}"),
    };
    let (dir, stacks) = rendered();
    agree("guard.yaml", &guard::opinions(&tools, dir.path()), &stacks);
}

#[test]
fn checkov_finds_only_what_was_reviewed() {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(skipped) => return println!("{skipped}"),
    };
    let (dir, stacks) = rendered();
    agree("checkov.yaml", &checkov::opinions(&tools, dir.path()), &stacks);
}
