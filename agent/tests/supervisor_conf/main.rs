//! Real `supervisord.conf` files, and one-line edits of them, against what Supervisor 4.3 itself makes of
//! each.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "allow-unwrap-in-tests covers test functions, not helpers; figures and skips are printed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use palisade_agent::{
    config::{
        check_texts,
        supervisor::{Disk, World, canonical, import, read, yaml},
    },
    supervise::ProcessSpec,
};
use serde_json::{Value, json};

fn data() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/supervisord");
    if dir.is_dir() {
        return Some(dir.canonicalize().unwrap());
    }
    println!("skipped: there is no {}", dir.display());
    None
}

/// One case: what Supervisor makes of it, and what we do.
struct Case {
    id: String,
    want: Value,
    got: Value,
}

fn cases(data: &Path, expected: &str, wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let mut all = Vec::new();
    for entry in fs::read_dir(data.join(expected)).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let want: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mode = want["mode"].as_str().unwrap();
        if wanted(if mode == "tree" { "tree" } else { &id }) {
            let got = ours(data, expected, &want);
            all.push(Case { id, want, got });
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

/// A case as an importer is given it: the host, what is around it, and the file.
fn given(data: &Path, expected: &str, want: &Value) -> (Disk, World, PathBuf) {
    let mut environment: BTreeMap<String, String> =
        serde_json::from_value(want["env"].clone()).unwrap();
    environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    environment.insert("HOME".into(), "/root".into());
    let world = World { environment, node: "oracle-host".into(), cwd: "/nowhere".into() };
    if let Some(tree) = want["tree"].as_str() {
        let host = Disk::below(Some(data.join("trees").join(tree).join("root")));
        return (host, world, PathBuf::from(want["main"].as_str().unwrap()));
    }
    let file = folder(data, expected).join(want["file"].as_str().unwrap());
    (Disk::default(), world, file)
}

fn folder(data: &Path, expected: &str) -> PathBuf {
    data.join(if expected == "expected" { "files" } else { "mutants" })
}

fn ours(data: &Path, expected: &str, want: &Value) -> Value {
    let (host, world, file) = given(data, expected, want);
    let got = canonical(&read(&[file], &host, &world));
    let text = serde_json::to_string(&got).unwrap();
    let here = folder(data, expected);
    serde_json::from_str(&text.replace(here.to_str().unwrap(), "@HERE@")).unwrap()
}

/// What differs: verdict, groups, processes; not the words of an error.
fn differences(case: &Case) -> Vec<String> {
    let (want, got) = (&case.want, &case.got);
    if want["accepted"] != got["accepted"] {
        return vec![format!(
            "Supervisor: {} {}; we: {} {}",
            want["accepted"], want["error"], got["accepted"], got["error"]
        )];
    }
    let mut out = Vec::new();
    if want["accepted"] == json!(false) {
        return out;
    }
    for key in ["groups", "supervisord", "http_servers", "included"] {
        compare(key, &want[key], &got[key], &mut out);
    }
    // Supervisor says some things once for each copy of a program.
    let once = |v: &Value| {
        let all = v["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let (want, got) = (once(want), once(got));
    if want != got {
        out.push(format!("warnings: Supervisor {want:?}, we {got:?}"));
    }
    out
}

fn compare(path: &str, want: &Value, got: &Value, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).filter(|k| *k != "argv_error") {
                let (a, b) = (
                    a.get(key).unwrap_or(&json!("<absent>")).clone(),
                    b.get(key).unwrap_or(&json!("<absent>")).clone(),
                );
                compare(&format!("{path}.{key}"), &a, &b, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: Supervisor {a}, we {b}")),
    }
}

/// Prints what differs, and the share of the cases that are equal, in percent.
fn rate(what: &str, cases: &[Case]) -> f64 {
    let mut equal = 0_u32;
    for case in cases {
        let all = differences(case);
        if all.is_empty() {
            equal += 1;
        } else {
            println!("{}\n    {}", case.id, all.join("\n    "));
        }
    }
    let all = u32::try_from(cases.len()).unwrap();
    assert!(all > 0, "no case of {what}");
    println!("{what}: {equal} of {all} equal");
    f64::from(equal) * 100.0 / f64::from(all)
}

#[test]
fn real_files_and_trees_are_read_as_by_supervisor() {
    let Some(data) = data() else { return };
    let plain = cases(&data, "expected", |mode| mode != "tree");
    assert!(rate("files", &plain) >= 99.0);
    let trees = cases(&data, "expected", |mode| mode == "tree");
    assert!(rate("trees", &trees) >= 99.0);
}

#[test]
fn every_edit_of_one_line_means_what_it_means_to_supervisor() {
    let Some(data) = data() else { return };
    let mutants = cases(&data, "expected_mutants", |_| true);
    assert!(rate("edits", &mutants) >= 95.0);
}

/// Without what stands between the two, if it is an environment.
fn without(text: &str, before: &str, after: &str) -> String {
    let parts = text.split_once(before).and_then(|(head, rest)| {
        let (_, tail) = rest.rsplit_once(after)?;
        let is_shown =
            after.ends_with("for '") && !tail.split('\'').next()?.ends_with("environment");
        (!is_shown).then_some((head, tail))
    });
    match parts {
        Some((head, tail)) if after.ends_with("for '") => {
            format!("{head}Format string for '{tail}")
        }
        Some((head, tail)) => format!("{head}pairs in section{tail}"),
        None => text.to_owned(),
    }
}

/// The words of a refusal are Supervisor's, but for the names that it lists as known, the line that follows
/// them, and the value of an environment, which may have passwords in it.
#[test]
fn a_refusal_is_in_supervisors_words() {
    let Some(data) = data() else { return };
    let mut other = Vec::new();
    let all = [cases(&data, "expected", |_| true), cases(&data, "expected_mutants", |_| true)];
    for case in all.iter().flatten().filter(|c| c.want["accepted"] == json!(false)) {
        let cut = |v: &Value| {
            let text = v["error"].as_str().unwrap_or_default();
            let text = text.split("Available names:").next().unwrap_or_default();
            let text = without(text, "pairs in value '", "' in section");
            without(&text, "Format string '", "' for '")
        };
        if cut(&case.want) != cut(&case.got) {
            other.push(format!("{}\n  {}\n  {}", case.id, cut(&case.want), cut(&case.got)));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

/// What is written as YAML is read back as the very processes that were imported, but for what a label
/// that is no good name is called.
#[test]
fn an_import_by_way_of_yaml_runs_the_same_processes() {
    let Some(data) = data() else { return };
    let mut count = 0;
    for expected in ["expected", "expected_mutants"] {
        for case in cases(&data, expected, |_| true) {
            let (host, world, file) = given(&data, expected, &case.want);
            let Ok(configs) = read(std::slice::from_ref(&file), &host, &world) else { continue };
            let import = import(&configs, &host, &world);
            let text = yaml(&import, &[file]);
            let settings = check_texts(vec![("p.yaml".into(), text.clone())].into())
                .unwrap_or_else(|e| panic!("{}: {e}\n{text}", case.id));
            let processes = settings.supervise.processes;
            let written: Vec<_> = import.processes.iter().filter(|p| p.can_be_written()).collect();
            assert_eq!(processes.len(), written.len(), "{}", case.id);
            for theirs in written {
                let ours = processes.iter().find(|p| p.name == theirs.spec.name);
                let ours = ours.unwrap_or_else(|| panic!("{}: {}", case.id, theirs.spec.name));
                let theirs = &theirs.spec;
                let alike = ProcessSpec { label: ours.label.clone(), ..theirs.clone() };
                let alike = ProcessSpec { program: ours.program.clone(), ..alike };
                assert_eq!(alike, *ours, "{}\n{text}", case.id);
                count += 1;
            }
        }
    }
    assert!(count > 500, "{count} processes");
}
