//! The facts about what holds data, against AWS's own resource schemas as cfn-lint carries them.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use palisade_infra_model::stateful::STORES;
use serde_json::Value as Json;

/// Prints `{type: {"always": [..], "perhaps": [..]}}` for the types in its arguments.
const ASK: &str = "
import json, os, sys, cfnlint
base = os.path.join(os.path.dirname(cfnlint.__file__), 'data', 'schemas')
region = json.load(open(os.path.join(base, 'providers', 'us-east-1.json')))
told = {}
for kind in sys.argv[1:]:
    schema = json.load(open(os.path.join(base, 'resources', region[kind] + '.json')))
    told[kind] = {'always': schema.get('createOnlyProperties', []),
                  'perhaps': schema.get('conditionalCreateOnlyProperties', [])}
print(json.dumps(told))
";

/// The Python that has cfn-lint, if one is installed.
fn python() -> Option<PathBuf> {
    let own = env::var_os("PALISADE_INFRA_TOOLS").map(PathBuf::from);
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let python = own.unwrap_or_else(|| target.join("infra-tools")).join("venv/bin/python");
    python.exists().then_some(python)
}

/// Paths as ours are written; a part of a whole that is listed says nothing more.
fn paths(told: &Json) -> BTreeSet<String> {
    let all: Vec<String> = told
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(|p| p.trim_start_matches("/properties/").replace('/', "."))
        .collect();
    let part = |path: &String| all.iter().any(|p| path.starts_with(&format!("{p}.")));
    all.iter().filter(|p| !part(p)).cloned().collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "asks cfn-lint's Python for its schemas")]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
fn what_replaces_a_store_is_what_its_schema_says() {
    let Some(python) = python() else {
        println!("skipped: cfn-lint is not installed (set PALISADE_INFRA_TOOLS)");
        return;
    };
    let kinds = STORES.iter().map(|s| s.kind);
    let output = Command::new(python).args(["-c", ASK]).args(kinds).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    for store in STORES {
        let ours = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(ours(store.always), paths(&told[store.kind]["always"]), "{}", store.kind);
        assert_eq!(ours(store.perhaps), paths(&told[store.kind]["perhaps"]), "{}", store.kind);
    }
}
