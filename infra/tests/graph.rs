//! The whole graph against ministack: made, left alone, changed and deleted, and what the services then
//! say of it compared with the model. Types that ministack does not know are projected out by a list that
//! can only become shorter.

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{Lab, emulator, projection};
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
    assert_eq!(projection::left_out(), refused, "infra/tests/projection.txt: {said}");
}

#[test]
fn the_whole_graph_is_made_left_alone_and_deleted() {
    let Some(emulator) = emulator::start() else { return };
    let lab = Lab::empty(&emulator.endpoint());
    let estate = projection::write(infra(), &lab.file(""), "prod", &[]);
    let made = lab.expect(0, &["apply", "prod", "--yes"]);
    let all = estate.stacks.len();
    assert!(made.out.contains(&format!("applied: {all} of {all} stacks changed")), "{}", made.out);
}
