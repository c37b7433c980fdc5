//! The SSM documents of `infra/documents`: what their patterns let through is what the host takes, and
//! nothing that they let through can be more than a value.
#![expect(clippy::unwrap_used, reason = "allow-unwrap-in-tests covers test functions, not helpers")]
#![expect(clippy::disallowed_methods, reason = "tests run the documents' scripts")]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use palisade_types::grant::{GRANT_DOCUMENT, GRANT_PARAMETERS, GrantRequest};
use proptest::{prelude::*, string::string_regex};
use regex::Regex;
use serde_json::Value;

const NAMES: [&str; 5] = [
    "Palisade-GrantAccess",
    "Palisade-RevokeAccess",
    "Palisade-Status",
    "Palisade-Restart",
    "Palisade-Patch",
];

fn document(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../infra/documents");
    serde_json::from_slice(&fs::read(path.join(name).with_extension("json")).unwrap()).unwrap()
}

fn parameters(document: &Value) -> BTreeMap<String, (String, Option<String>)> {
    let all = document["parameters"].as_object().unwrap().iter();
    all.map(|(name, p)| {
        let pattern = p["allowedPattern"].as_str().unwrap().to_owned();
        (name.clone(), (pattern, p["default"].as_str().map(str::to_owned)))
    })
    .collect()
}

/// The script of a document with these values, as SSM puts them in: as text, wherever they stand.
fn script(document: &Value, values: &BTreeMap<&str, String>) -> String {
    let lines = document["mainSteps"][0]["inputs"]["runCommand"].as_array().unwrap();
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_str().unwrap());
        text.push('\n');
    }
    for (name, value) in values {
        text = text.replace(&format!("{{{{ {name} }}}}"), value);
    }
    text
}

/// What `palisade` would be given: its arguments, one a line, then its standard input.
fn run(script: &str) -> String {
    let shown =
        script.replace("/usr/bin/palisade", "/bin/sh -c 'for a; do echo \"$a\"; done; cat' -");
    let out = Command::new("/bin/sh").arg("-c").arg(shown).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn sample() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("GrantId", "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()),
        ("User", "deploy".to_owned()),
        ("Key", "AAAAC3NzaC1lZDI1NTE5AAAAIGVqNAXp4K6wkQ0RJMVLbZ4cLqyqiMh1bWwBhmQp1KuU".to_owned()),
        ("TtlSeconds", "1800".to_owned()),
        ("Only", "tunnel".to_owned()),
        ("Target", "db.internal:5432".to_owned()),
        ("Source", "session".to_owned()),
        ("Owner", "arn:aws:sts::123456789012:assumed-role/Admin/alice@example.com".to_owned()),
        ("IssuedAt", "1764000000".to_owned()),
        ("Reason", "INC-7: look (twice); a/b #1 +1 @x = y".to_owned()),
    ])
}

/// The request that the host reads when SSM runs the document with these values.
fn requested(values: &BTreeMap<&str, String>) -> Result<GrantRequest, String> {
    let said = run(&script(&document(GRANT_DOCUMENT), values));
    let json = said.strip_prefix("access\ngrant\n").unwrap();
    serde_json::from_str(json).map_err(|e| e.to_string())
}

#[test]
fn every_document_is_of_schema_2_2_and_every_parameter_has_a_pattern_that_its_default_matches() {
    for name in NAMES {
        let document = document(name);
        assert_eq!(document["schemaVersion"], "2.2", "{name}");
        let step = &document["mainSteps"][0];
        assert_eq!(step["action"], "aws:runShellScript", "{name}");
        let text = script(&document, &BTreeMap::new());
        for (parameter, (pattern, default)) in parameters(&document) {
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name} {parameter}");
            let regex = Regex::new(&pattern).unwrap();
            if let Some(default) = default {
                assert!(regex.is_match(&default), "{name} {parameter} {default:?}");
            }
            assert!(text.contains(&format!("{{{{ {parameter} }}}}")), "{name} ignores {parameter}");
            for hostile in [
                "'",
                "\"",
                "`id`",
                "$(id)",
                "${x}",
                "a\nb",
                "a;id",
                "a|id",
                "a&id",
                "a>b",
                "\\",
                "{{ User }}",
                "{{ssm:x}}",
                "a\0",
                "é",
                "a\r",
                "PALISADE_GRANT_REQUEST\n",
                "-x; id",
                "'; id; '",
            ] {
                // A reason may have a semicolon: it stands in a quoted here-document.
                let allowed =
                    parameter == "Reason" && hostile.contains(';') && !hostile.contains('\'');
                assert!(
                    allowed || !regex.is_match(hostile),
                    "{name} {parameter} admits {hostile:?}"
                );
            }
        }
        assert!(text.matches("{{ ").count() >= parameters(&document).len(), "{name}");
    }
}

#[test]
fn the_grant_documents_parameters_are_those_that_the_laptop_sends() {
    let have = parameters(&document(GRANT_DOCUMENT));
    let want: BTreeMap<String, String> =
        GRANT_PARAMETERS.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned())).collect();
    let patterns: BTreeMap<String, String> =
        have.iter().map(|(n, (p, _))| (n.clone(), p.clone())).collect();
    assert_eq!(patterns, want);
    let request = requested(&sample()).unwrap();
    let sent: BTreeMap<&str, String> = request.parameters().into_iter().collect();
    assert_eq!(sent, sample());
}

#[test]
fn a_request_by_the_documents_defaults_is_one() {
    let mut values = sample();
    for (name, (_, default)) in parameters(&document(GRANT_DOCUMENT)) {
        if let (Some(default), Some(value)) = (default, values.get_mut(name.as_str())) {
            *value = default;
        }
    }
    let request = requested(&values).unwrap();
    assert_eq!(request.ttl.seconds(), 1800);
    assert_eq!((request.target, request.reason.as_str()), (None, ""));
}

#[test]
fn the_other_documents_run_what_they_say() {
    let said = |name: &str, values: &[(&'static str, &str)]| {
        let values = values.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        run(&script(&document(name), &values)).replace('\n', " ").trim().to_owned()
    };
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    assert_eq!(
        said("Palisade-RevokeAccess", &[("GrantId", id)]),
        format!("access revoke {id} --json")
    );
    for (what, words) in [
        ("status", "status"),
        ("access", "access list --json"),
        ("patch", "patch status"),
        ("firewall", "firewall status"),
        ("logs", "logs status"),
    ] {
        assert_eq!(said("Palisade-Status", &[("What", what)]), words);
    }
    let restart = |name, rolling| said("Palisade-Restart", &[("Name", name), ("Rolling", rolling)]);
    assert_eq!(restart("app:*", "true"), "restart --rolling app:*");
    assert_eq!(restart("web", "false"), "restart web");
    for (mode, words) in
        [("plan", "patch plan"), ("run", "patch run --no-wait"), ("status", "patch status")]
    {
        assert_eq!(said("Palisade-Patch", &[("Mode", mode)]), words);
    }
}

/// Any text of a parameter's pattern.
fn text_of(name: &str) -> BoxedStrategy<String> {
    let (pattern, _) = parameters(&document(GRANT_DOCUMENT)).remove(name).unwrap();
    // The generator knows no anchors; every pattern is of a whole text.
    let bare = match pattern.strip_prefix("^$|") {
        Some(rest) => rest.trim_start_matches('^').trim_end_matches('$').to_owned(),
        None => pattern.trim_start_matches('^').trim_end_matches('$').to_owned(),
    };
    string_regex(&bare).unwrap().boxed()
}

proptest! {
    // Each case starts a shell.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_patterns_admit_arrives_as_it_is(
        id in text_of("GrantId"),
        user in text_of("User"),
        owner in text_of("Owner"),
        reason in text_of("Reason"),
        issued in text_of("IssuedAt"),
    ) {
        let mut values = sample();
        values.insert("GrantId", id.clone());
        values.insert("User", user.clone());
        values.insert("Owner", owner.clone());
        values.insert("Reason", reason.clone());
        values.insert("IssuedAt", issued.clone());
        let request = requested(&values);
        prop_assert!(request.is_ok(), "{:?}", request);
        let request = request.unwrap();
        prop_assert_eq!(request.id.as_str(), id);
        prop_assert_eq!(request.user.as_str(), user);
        prop_assert_eq!(request.owner.as_str(), owner);
        prop_assert_eq!(request.reason.as_str(), reason);
        prop_assert_eq!(request.issued_at.to_string(), issued);
    }

    #[test]
    fn what_a_pattern_admits_and_the_host_does_not_is_refused_and_no_more(
        ttl in text_of("TtlSeconds"),
        target in text_of("Target"),
        source in text_of("Source"),
        key in text_of("Key"),
    ) {
        // Ranges of numbers, addresses and base64's last bits are more than a pattern can say.
        let mut values = sample();
        values.insert("TtlSeconds", ttl);
        values.insert("Target", target);
        values.insert("Source", source);
        values.insert("Key", key);
        if let Ok(request) = requested(&values) {
            let sent: BTreeMap<&str, String> = request.parameters().into_iter().collect();
            prop_assert_eq!(sent, values);
        }
    }
}
