//! Which module may name which: one table, checked against every `crate::` in the sources.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Module, and the modules it may import. Siblings do not appear: they meet in `app.rs` only.
const MAY_USE: &[(&str, &[&str])] = &[
    ("errors", &[]),
    ("doctor", &[]),
    ("log_place", &[]),
    ("testing", &[]),
    ("clock", &[]),
    ("task", &["errors"]),
    ("events", &["errors", "clock", "task"]),
    ("firewall", &["errors", "clock", "task"]),
    ("supervise", &["errors", "clock", "task"]),
    ("logs", &["errors", "clock", "task", "testing"]),
    ("metrics", &["errors", "clock", "task"]),
    ("patch", &["errors", "clock", "task"]),
    ("access", &["errors", "clock", "task"]),
    ("origin", &["errors", "clock", "task"]),
    (
        "sys",
        &[
            "errors",
            "clock",
            "task",
            "events",
            "doctor",
            "log_place",
            "firewall",
            "supervise",
            "logs",
            "metrics",
            "patch",
            "access",
            "origin",
            "testing",
        ],
    ),
    (
        "config",
        &[
            "errors",
            "clock",
            "sys",
            "firewall",
            "supervise",
            "logs",
            "metrics",
            "patch",
            "access",
            "origin",
        ],
    ),
    (
        "control",
        &[
            "errors",
            "clock",
            "task",
            "events",
            "log_place",
            "config",
            "firewall",
            "supervise",
            "logs",
            "metrics",
            "patch",
            "access",
            "origin",
        ],
    ),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        if p.is_dir() {
            rust_files(&p, out);
        } else if p.extension().is_some_and(|x| x == "rs") {
            out.push(p);
        }
    }
}

/// Every module named after `crate::` in this line, also inside `crate::{a, b::c}`.
fn named(line: &str) -> Vec<String> {
    let ident =
        |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.push(ident(list.split_at(i).1));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
            None => found.push(ident(rest)),
        }
    }
    found
}

#[test]
fn imports_follow_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    for f in files {
        let rel = f.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let module = rel.split(['/', '.']).next().unwrap();
        if module == "lib" {
            continue;
        }
        let allowed = table.get(module).unwrap_or_else(|| panic!("{module} is not in MAY_USE"));
        // Joined over line ends, so that a `use crate::{` list is seen whole.
        let code: String = fs::read_to_string(&f)
            .unwrap()
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .map(|l| l.trim().to_owned() + " ")
            .collect();
        for target in named(&code) {
            if target != module && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{rel}: {module} -> {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn a_planted_import_would_be_seen() {
    assert_eq!(named("use crate::{errors::Chain, patch::{self, x}}; "), ["errors", "patch"]);
    assert_eq!(named("let x = crate::firewall::Plan::new();"), ["firewall"]);
}
