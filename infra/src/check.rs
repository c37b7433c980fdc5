//! `check`: renders environments and says which rules they break, each finding with its line and the way
//! it comes about.

use palisade_infra_model::{Finding, Project, rules};
use serde::Serialize;

use crate::{
    cli::{Check, Common},
    failed::{Failed, Outcome},
    find, printer,
};

/// A finding as data.
#[derive(Debug, Serialize)]
struct Row<'a> {
    env: &'a str,
    rule: &'a str,
    file: String,
    line: u32,
    subject: &'a str,
    what: &'a str,
    witness: &'a [String],
}

/// Checks one environment, or all.
///
/// # Errors
/// When there is a finding, or an environment cannot be rendered.
pub(crate) fn check(common: &Common, args: &Check) -> Outcome<()> {
    let project = find::project(common)?;
    let names = match &args.env {
        Some(name) => vec![name.clone()],
        None => project.environments.keys().cloned().collect(),
    };
    let mut all: Vec<(String, Vec<Finding>)> = Vec::new();
    for name in names {
        let environment = find::environment(&project, &name, common)?;
        let estate = find::estate(&project, &environment)?;
        all.push((name, rules::check(&project, &estate)));
    }
    if args.json {
        let rows: Vec<Row<'_>> = all
            .iter()
            .flat_map(|(env, findings)| findings.iter().map(|f| row(&project, env, f)))
            .collect();
        printer::json(&rows);
    }
    for (env, findings) in all.iter().filter(|_| !args.json) {
        for finding in findings {
            let path = find::path(&project, &finding.at);
            printer::line(format_args!(
                "{path}: {} {env}: {}: {}",
                finding.rule, finding.subject, finding.what
            ));
            for step in &finding.witness {
                printer::line(format_args!("    {step}"));
            }
        }
        if findings.is_empty() {
            printer::line(format_args!("{env}: all {} rules hold", rules::all().len()));
        }
    }
    for rule in rules::all() {
        if !args.json && all.iter().any(|(_, f)| f.iter().any(|f| f.rule == rule.id)) {
            printer::note(format_args!("{}: {}", rule.id, rule.title));
        }
    }
    let count: usize = all.iter().map(|(_, findings)| findings.len()).sum();
    if count == 0 {
        return Ok(());
    }
    Err(Failed::plain(format!("{count} findings")).hint("mend the lines that are named"))
}

fn row<'a>(project: &Project, env: &'a str, finding: &'a Finding) -> Row<'a> {
    Row {
        env,
        rule: finding.rule,
        file: project.dir.join(&*finding.at.file).display().to_string(),
        line: finding.at.line,
        subject: &finding.subject,
        what: &finding.what,
        witness: &finding.witness,
    }
}
