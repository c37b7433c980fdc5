//! What GitHub runs: valid YAML, actions pinned by commit, as few permissions as can be, and only
//! commands that exist.

#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::{fs, path::Path};

use serde_json::Value;

fn workflows() -> Vec<(String, String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let parsed = serde_yaml::from_str(&text).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), text, parsed)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 2);
    found
}

fn jobs(parsed: &Value) -> impl Iterator<Item = (&String, &Value)> {
    parsed["jobs"].as_object().unwrap().iter()
}

#[test]
fn every_action_is_pinned_by_commit_and_says_its_release() {
    for (file, text, _) in workflows() {
        for line in
            text.lines().filter(|l| l.trim_start().trim_start_matches("- ").starts_with("uses:"))
        {
            let (action, release) = line.split_once(" # ").unwrap_or((line, ""));
            let commit = action.rsplit('@').next().unwrap();
            let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit && release.starts_with('v'), "{file}: {line}");
        }
    }
}

#[test]
fn permissions_are_given_job_by_job_and_every_job_ends() {
    for (file, _, parsed) in workflows() {
        let default = parsed["permissions"].as_object().unwrap();
        assert!(default.values().all(|v| v == "read"), "{file}: {default:?}");
        for (name, job) in jobs(&parsed) {
            assert!(job["timeout-minutes"].is_u64(), "{file}: {name} may run for ever");
            let writes = job["permissions"].as_object().into_iter().flatten();
            for (scope, _) in writes.filter(|(_, v)| *v == "write") {
                let known = ["id-token", "attestations", "contents"].contains(&scope.as_str());
                assert!(known && file == "release.yml", "{file}: {name} may write {scope}");
            }
        }
    }
}

#[test]
fn whatever_asks_for_a_role_or_a_secret_waits_for_the_environment() {
    for (file, _, parsed) in workflows() {
        for (name, job) in jobs(&parsed) {
            let text = job.to_string();
            if text.contains("secrets.") || text.contains("id-token") {
                assert_eq!(job["environment"], "release", "{file}: {name}");
            }
            assert!(!text.contains("AWS_SECRET_ACCESS_KEY"), "{file}: {name} has a lasting key");
        }
    }
}

#[test]
fn every_chore_that_is_called_is_one_of_xtask() {
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs");
    let chores = fs::read_to_string(main).unwrap().to_lowercase();
    let mut seen = 0;
    for (file, text, _) in workflows() {
        for call in text.split("cargo xtask ").skip(1) {
            let chore = call.split_whitespace().next().unwrap();
            assert!(chores.contains(&format!("chore::{chore}")), "{file}: cargo xtask {chore}");
            seen += 1;
        }
    }
    assert!(seen > 8);
}
