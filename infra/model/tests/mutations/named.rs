//! Named mutations: `infra/mutations/RULE.yaml` for each rule, and the planted faults.

use std::collections::BTreeSet;

use super::sources::{Outcome, checked, infra, read};

/// Names of the files of mutations: the rules that have some.
fn files() -> BTreeSet<String> {
    let entries = std::fs::read_dir(infra().join("mutations")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter_map(|n| n.strip_suffix(".yaml").map(str::to_owned)).collect()
}

#[test]
fn every_rule_has_mutations_that_trip_it_and_it_alone() {
    let mut wrong = Vec::new();
    let mut clean = BTreeSet::new();
    let mut count = 0;
    let rules = checked();
    assert!(!rules.is_empty());
    let files = files();
    for rule in &rules {
        if !files.contains(*rule) {
            wrong.push(format!("{rule} has no mutation"));
        }
    }
    for rule in files.iter().filter(|f| *f != "planted") {
        for mutation in read(&format!("mutations/{rule}.yaml")) {
            count += 1;
            let here = format!("{}: {}", mutation.at, mutation.name);
            if !clean.contains(&(mutation.env.clone(), mutation.with.clone())) {
                match mutation.judge(&mutation.baseline()) {
                    Outcome::Found(rules, _) if rules.is_empty() => {}
                    other => {
                        wrong.push(format!("{here}: not even the sources are clean: {other:?}"));
                        continue;
                    }
                }
                clean.insert((mutation.env.clone(), mutation.with.clone()));
            }
            match mutation.mutant().map(|m| mutation.judge(&m)) {
                Err(e) => wrong.push(e),
                Ok(Outcome::Broken(e)) => wrong.push(format!("{here}: cannot be rendered: {e}")),
                Ok(Outcome::Found(rules, said)) => {
                    if !rules.iter().eq([rule.as_str()].iter()) {
                        wrong.push(format!("{here}: trips {rules:?}\n{}", said.join("\n")));
                    }
                }
            }
        }
    }
    println!("{count} named mutations of {} rules", rules.len());
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn all_planted_faults_are_found() {
    let mut missed = Vec::new();
    let faults = read("mutations/planted.yaml");
    for fault in &faults {
        match fault.mutant().map(|m| fault.judge(&m)) {
            Err(e) => missed.push(e),
            Ok(Outcome::Broken(e)) => missed.push(format!("{}: {}: {e}", fault.at, fault.name)),
            Ok(Outcome::Found(rules, _)) if rules.is_empty() => {
                missed.push(format!("{}: {}: nothing found", fault.at, fault.name));
            }
            Ok(Outcome::Found(rules, _)) => println!("{}: {rules:?}", fault.name),
        }
    }
    println!("{} of {} planted faults found", faults.len() - missed.len(), faults.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
