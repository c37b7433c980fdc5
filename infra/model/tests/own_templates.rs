//! The project's own templates keep every rule in every environment and variant, and answer `reach`.

#![expect(clippy::panic, reason = "tests: what fails here fails the test")]

use std::path::Path;

use palisade_infra_model::{Estate, Project, reach, render, rules};

fn own() -> Project {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Project::load(&dir).unwrap_or_else(|e| panic!("{e}"))
}

const KINDS: [&[(&str, &str)]; 2] =
    [&[("OriginKind", "ec2")], &[("OriginKind", "ecs"), ("AppPort", "8080")]];
const EXPOSURES: [&str; 2] = ["internal", "internet-facing"];
const BASTIONS: [&str; 3] = ["none", "ssm", "public"];

/// Every environment in every variant.
fn variants(mut visit: impl FnMut(&str, &Project, &Estate)) {
    let base = own();
    for env in base.environments.keys() {
        for kind in KINDS {
            for exposure in EXPOSURES {
                for bastion in BASTIONS {
                    let mut project = base.clone();
                    let all = kind.iter().copied().chain([
                        ("AlbExposure", exposure),
                        ("BastionMode", bastion),
                        ("AdminCidr1", "203.0.113.0/28"),
                    ]);
                    let mut name = env.clone();
                    for (parameter, value) in all {
                        project.set_parameter(env, parameter, value);
                        name.push_str(&format!(" {parameter}={value}"));
                    }
                    let estate = render(&project, &project.environments[env])
                        .unwrap_or_else(|e| panic!("{name}:\n{e}"));
                    visit(&name, &project, &estate);
                }
            }
        }
    }
}

#[test]
fn every_variant_keeps_every_rule() {
    let mut count = 0;
    variants(|name, project, estate| {
        let found = rules::check(project, estate);
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{name}:\n{}", text.join("\n"));
        count += 1;
    });
    assert!(count >= 3 * 2 * 2 * 3, "{count}");
}

#[test]
fn requests_reach_the_origin_by_cloudfront_and_the_load_balancer_alone() {
    variants(|name, _, estate| {
        let ask = |from, to, port| {
            reach::reach(estate, from, to, port).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let answer = ask("internet", "origin", None);
        assert!(!answer.yes(), "{name}:\n{answer}");
        let way: Vec<_> = answer.detour.iter().map(|line| line.to.as_str()).collect();
        let [first, second, last] = way.as_slice() else { panic!("{name}: {way:?}") };
        assert_eq!((*first, *second), ("cloudfront", "load-balancer.LoadBalancer"), "{name}");
        assert!(last.starts_with("origin-"), "{name}: {last}");
        for (from, to, port, yes) in [
            ("internet", "load-balancer", None, false),
            ("cloudfront", "load-balancer", Some(443), true),
            ("cloudfront", "origin", None, false),
            ("origin", "aurora", Some(3306), true),
            ("origin", "redis", Some(6379), true),
            ("load-balancer", "aurora", None, false),
            ("internet", "aurora", None, false),
            ("aurora", "internet", None, false),
        ] {
            let answer = ask(from, to, port);
            assert_eq!(answer.yes(), yes, "{name}:\n{answer}");
        }
    });
}
