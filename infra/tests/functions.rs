//! The Lambda functions that templates carry: their own tests pass, and each fits into a template and is
//! in one. Python runs the tests, against stateful twins of the services; nothing is installed for them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What CloudFormation takes as a function's text.
const MOST: usize = 4096;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
#[expect(clippy::disallowed_methods, reason = "Python is what runs the functions")]
#[expect(clippy::print_stdout, reason = "says why it is skipped")]
fn the_functions_own_tests_pass() {
    let run = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s", ".", "-p", "test_*.py"])
        .current_dir(folder("functions"))
        .stdin(Stdio::null())
        .output();
    let out = match run {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: python3 cannot be started: {e}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let ran = said.split("Ran ").nth(1).and_then(|rest| rest.split(' ').next());
    let ran: usize = ran.and_then(|n| n.parse().ok()).unwrap();
    let written: usize = names(&folder("functions"))
        .iter()
        .filter(|n| n.starts_with("test_"))
        .map(|n| fs::read_to_string(folder("functions").join(n)).unwrap())
        .map(|text| text.matches("    def test_").count())
        .sum();
    assert!(written > 0);
    assert_eq!(ran, written, "a test has the name of another, or is not found: {said}");
}

#[test]
fn every_function_fits_into_a_template_has_tests_and_is_deployed() {
    let templates: String = names(&folder("templates"))
        .iter()
        .map(|n| fs::read_to_string(folder("templates").join(n)).unwrap())
        .collect();
    let files = names(&folder("functions"));
    let functions: Vec<_> =
        files.iter().filter(|n| n.ends_with(".py") && !n.starts_with("test_")).collect();
    assert!(!functions.is_empty());
    for name in functions {
        let text = fs::read_to_string(folder("functions").join(name)).unwrap();
        assert!(text.len() <= MOST, "{name} has {} bytes", text.len());
        assert!(files.contains(&format!("test_{name}")), "{name} has no tests");
        assert!(templates.contains(&format!("functions/{name}")), "no template has {name}");
    }
}
