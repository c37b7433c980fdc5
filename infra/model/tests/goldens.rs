//! What is deployed is what was reviewed: `infra/rendered/ENV.json` is each environment with every
//! function carried out. A change of templates shows there, and one that would replace what holds data
//! does not get in.
//!
//! `PALISADE_RENEW=1 cargo test -p palisade-infra-model --test goldens` writes them anew;
//! `PALISADE_RENEW=replace` does so even where data would be lost.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test, and what is skipped says why"
)]

use std::{fs, path::PathBuf};

use palisade_infra_model::{
    Estate, Project, Value,
    diagram::{Format, diagram},
    golden::golden,
    render, stateful,
};

fn infra() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn project() -> Project {
    Project::load(&infra()).map_err(|e| e.to_string()).unwrap()
}

fn rendered(project: &Project, env: &str, with: &[(&str, &str)]) -> Estate {
    let mut env = project.environments[env].clone();
    for (name, value) in with {
        let value = Value::text(&env.at, *value);
        env.parameters.insert((*name).to_owned(), value);
    }
    render(project, &env).map_err(|e| format!("{} {with:?}:\n{e}", env.name)).unwrap()
}

/// What the files are to be written for: nothing, what keeps data, or everything.
fn renew() -> Option<String> {
    std::env::var("PALISADE_RENEW").ok()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a golden is a source: written for a commit")]
fn what_was_reviewed_is_what_is_rendered() {
    let project = project();
    for env in project.environments.keys() {
        let now = golden(&rendered(&project, env, &[]));
        let path = infra().join(format!("rendered/{env}.json"));
        if let Some(what) = renew() {
            assert!(
                what == "replace" || lost(&project, env).is_empty(),
                "{env}: data would be lost"
            );
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &now).unwrap();
        }
        let reviewed = fs::read_to_string(&path).unwrap_or_default();
        let differs = now.lines().zip(reviewed.lines()).position(|(a, b)| a != b);
        assert!(
            now == reviewed,
            "{env}: rendered/{env}.json is not what is rendered, from line {} on; look at the \
             difference, then: PALISADE_RENEW=1 cargo test -p palisade-infra-model --test goldens",
            differs.map_or(reviewed.lines().count(), |line| line) + 1
        );
    }
}

#[test]
fn no_change_replaces_what_holds_data() {
    if renew().is_some() {
        println!("skipped: the files are being written anew; the test that writes them asks this");
        return;
    }
    let project = project();
    for env in project.environments.keys() {
        assert_eq!(lost(&project, env), Vec::<String>::new(), "{env}");
    }
}

/// What a change from the reviewed to the present environment would lose.
fn lost(project: &Project, env: &str) -> Vec<String> {
    let path = infra().join(format!("rendered/{env}.json"));
    // A new environment has nothing to lose.
    let Ok(reviewed) = fs::read_to_string(&path) else { return Vec::new() };
    let reviewed = serde_json::from_str(&reviewed).unwrap();
    let lost = stateful::replacements(&reviewed, &rendered(project, env, &[]));
    lost.iter().map(ToString::to_string).collect()
}

#[test]
fn a_change_that_replaces_what_holds_data_is_seen() {
    let mut project = project();
    let reviewed = serde_json::from_str(&golden(&rendered(&project, "prod", &[]))).unwrap();
    let at = "Resources.Cluster.Properties.StorageEncrypted";
    let no = palisade_infra_model::project::Edit::Set(Value::text(
        &project.templates[0].root.at.clone(),
        "false",
    ));
    assert!(project.edit("templates/database.yaml", at, no));
    let lost = stateful::replacements(&reviewed, &rendered(&project, "prod", &[]));
    assert!(lost.iter().any(|f| f.subject == "database.Cluster"), "{lost:?}");
}

#[test]
fn every_variant_of_every_environment_renders() {
    let project = project();
    let mut count = 0;
    for env in project.environments.keys() {
        for kind in ["ec2", "ecs"] {
            for alb in ["internal", "internet-facing"] {
                for bastion in ["none", "ssm", "public"] {
                    for options in ["true", "false"] {
                        let with = [
                            ("OriginKind", kind),
                            ("AppPort", if kind == "ecs" { "8080" } else { "80" }),
                            ("AlbExposure", alb),
                            ("BastionMode", bastion),
                            ("AuditBaseline", options),
                            ("NewRelic", options),
                            // A public bastion without admins is refused.
                            ("NewRelicAccountId", "1234567"),
                            (
                                "NewRelicSecretArn",
                                "arn:aws:secretsmanager:eu-west-1:111122223333:secret:new-relic-a1b2c3",
                            ),
                            ("AdminCidr1", "203.0.113.0/28"),
                        ];
                        assert!(rendered(&project, env, &with).all().count() > 100);
                        count += 1;
                    }
                }
            }
        }
    }
    assert_eq!(count, 24 * project.environments.len());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a picture is a source: written for a commit")]
fn pictures_in_the_documentation_are_of_what_is_rendered() {
    let estate = rendered(&project(), "prod", &[]);
    for (file, format) in [("infra.svg", Format::Svg), ("security-groups.md", Format::Groups)] {
        let now = diagram(&estate, format);
        let path = infra().join("../docs").join(file);
        if renew().is_some() {
            fs::write(&path, &now).unwrap();
        }
        let shown = fs::read_to_string(&path).unwrap_or_default();
        let how = "PALISADE_RENEW=1 cargo test -p palisade-infra-model --test goldens";
        assert!(now == shown, "docs/{file} shows something else; look at it, then: {how}");
    }
}

#[test]
fn every_template_is_in_the_list_of_stacks() {
    let project = project();
    for entry in fs::read_dir(infra().join("templates")).unwrap() {
        let name = format!("templates/{}", entry.unwrap().file_name().to_str().unwrap());
        assert!(project.template(&name).is_some(), "{name} is no stack's");
    }
}
