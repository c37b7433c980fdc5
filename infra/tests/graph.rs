//! The whole graph against ministack: made, left alone, changed and deleted, and what the services then
//! say of it compared with the model. Types that ministack does not know are projected out by a list that
//! can only become shorter.

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{Lab, emulator, projection, readback};
use palisade_infra_model::Project;

fn infra() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_list_of_what_ministack_does_not_know_is_exact() {
    let Some(emulator) = emulator::start() else { return };
    let project = Project::load(infra()).unwrap();
    let mut used = BTreeSet::new();
    for template in &project.templates {
        let json = template.root.to_json();
        for resource in json["Resources"].as_object().unwrap().values() {
            used.insert(resource["Type"].as_str().unwrap().to_owned());
        }
    }
    let resources: serde_json::Map<String, serde_json::Value> = used
        .iter()
        .enumerate()
        .map(|(i, kind)| (format!("R{i}"), serde_json::json!({"Type": kind})))
        .collect();
    let template = serde_json::json!({"Resources": resources}).to_string();
    let said = emulator.refusal_of_template(&template);
    let refused: Vec<String> = said
        .split(['[', ']'])
        .nth(1)
        .unwrap_or_default()
        .split(", ")
        .filter(|kind| !kind.is_empty())
        .map(str::to_owned)
        .collect();
    let listed = projection::left_out();
    let new: Vec<_> = refused.iter().filter(|kind| !listed.contains(kind)).collect();
    let known: Vec<_> = listed.iter().filter(|kind| !refused.contains(kind)).collect();
    assert!(new.is_empty(), "infra/tests/projection.txt lacks {new:?}");
    assert!(known.is_empty(), "infra/tests/projection.txt has {known:?}, which ministack knows");
    assert!(listed.is_sorted());
}

#[test]
fn the_whole_graph_is_made_left_alone_changed_and_deleted() {
    let Some(emulator) = emulator::start() else { return };
    let lab = Lab::empty(&emulator.endpoint());
    // Everything there is, in one environment.
    let key = emulator.json(
        "secretsmanager",
        "eu-west-1",
        "secretsmanager.CreateSecret",
        r#"{"Name": "newrelic", "SecretString": "licence"}"#,
    );
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let newrelic = [
        ("NewRelic", "true"),
        ("NewRelicAccountId", "1234567"),
        ("NewRelicSecretArn", key["ARN"].as_str().unwrap()),
    ];
    let estate = projection::write(infra(), &lab.file(""), "prod", &newrelic);
    let all = estate.stacks.len();
    let made = lab.expect(0, &["apply", "prod", "--yes"]);
    assert!(made.out.contains(&format!("applied: {all} of {all} stacks changed")), "{}", made.out);
    readback::compare(&emulator, &estate);

    let again = lab.expect(0, &["apply", "prod", "--yes"]);
    assert!(again.out.contains("\nnothing to change\n"), "{}", again.out);
    assert!(again.out.contains(&format!("applied: 0 of {all} stacks changed")), "{}", again.out);

    lab.edit(
        "params/prod.yaml",
        "\"MonthlyBudgetUsd\": \"2500\"",
        "\"MonthlyBudgetUsd\": \"2600\"",
    );
    lab.edit("params/prod.yaml", "\"SshPort\": \"2222\"", "\"SshPort\": \"2223\"");
    let plan = lab.expect(0, &["plan", "prod"]);
    assert!(plan.out.contains("palisade-prod-bastion in eu-west-1: is changed"), "{}", plan.out);
    let changed = lab.expect(0, &["apply", "prod", "--yes"]);
    assert!(!changed.out.contains("applied: 0 of"), "{}", changed.out);
    assert!(lab.expect(0, &["plan", "prod"]).out.contains("\nnothing to change\n"));

    let refused = lab.expect(5, &["destroy", "prod", "--yes"]);
    assert!(refused.err.contains("database: it is protected against deletion"), "{}", refused.err);
    let stacks: Vec<&str> = estate.stacks.iter().map(|s| s.name.as_str()).collect();
    let every = stacks.join(",");
    let gone = lab.expect(
        0,
        &[
            "destroy",
            "prod",
            "--yes",
            "--allow-data-loss",
            &every,
            "--disable-termination-protection",
        ],
    );
    assert!(gone.out.contains(&format!("destroyed: {all} stacks")), "{}", gone.out);
    assert_eq!(lab.expect(0, &["destroy", "prod", "--yes"]).out, "nothing to destroy\n");
}
