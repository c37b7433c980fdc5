//! `docs/pci-dss.md` is what `infra/controls.yaml` and the rules say, and the digest of permissions is what
//! the schemas say.
#![expect(clippy::print_stdout, reason = "a test that cannot run says so")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use palisade_infra_model::{Project, controls, rules, yaml};

fn infra() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a page of the docs is a source: written for a commit"
)]
fn the_map_of_controls_is_whole_and_its_page_is_current() {
    let text = fs::read_to_string(infra().join("controls.yaml")).unwrap();
    let root = yaml::read(&"controls.yaml".into(), &text).unwrap();
    let all = rules::all();
    let map = controls::read(&root, &all).map_err(|e| e.to_string()).unwrap();
    let numbers: Vec<_> = map.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
    let page = controls::markdown(&map, &all);
    let path = infra().join("../docs/pci-dss.md");
    if std::env::var_os("PALISADE_RENEW").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/pci-dss.md is not current: PALISADE_RENEW=1 cargo test -p palisade-infra-model --test controls"
    );
}

#[test]
fn the_digest_has_the_types_of_the_templates_and_no_others() {
    let project = Project::load(&infra()).map_err(|e| e.to_string()).unwrap();
    let resources = project.templates.iter().filter_map(|t| t.root.get("Resources"));
    let types: BTreeSet<String> = resources
        .flat_map(|r| r.entries())
        .filter_map(|e| e.value.get("Type")?.as_str().map(str::to_owned))
        .filter(|t| t.starts_with("AWS::") && t != "AWS::CloudFormation::CustomResource")
        .collect();
    let text = fs::read_to_string(infra().join("permissions.json")).unwrap();
    let digest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let digested: BTreeSet<String> = digest["types"].as_object().unwrap().keys().cloned().collect();
    let renew = "python infra/tools/permissions.py";
    assert_eq!(types.difference(&digested).collect::<Vec<_>>(), [""; 0], "{renew}");
    assert_eq!(digested.difference(&types).collect::<Vec<_>>(), [""; 0], "{renew}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test asks cfn-lint's Python")]
fn the_digest_is_what_the_schemas_say() {
    let target =
        option_env!("CARGO_TARGET_DIR").map_or_else(|| infra().join("../target"), PathBuf::from);
    let tools =
        std::env::var_os("PALISADE_INFRA_TOOLS").map_or(target.join("infra-tools"), PathBuf::from);
    let python = tools.join("venv/bin/python");
    if !python.is_file() {
        println!("skipped: no {}: cfn-lint's schemas are not here", python.display());
        return;
    }
    let script = infra().join("tools/permissions.py");
    let done = std::process::Command::new(python).arg(script).arg("--check").arg(infra()).output();
    let done = done.unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if said.contains("ModuleNotFoundError") {
        println!("skipped: that Python has no cfn-lint");
        return;
    }
    assert!(done.status.success(), "{said}");
}
