//! The planted faults, shown to the public tools and to our own rules in the same run. A tool has found a
//! fault if it says something that it did not say of the same sources without it. The table is part of
//! docs/infra.md, which must say what was measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    thread,
};

use palisade_infra_model::{Estate, Finding, Project, Stack, render, rules};

use super::{
    checkov, guard, infra, lint,
    plain::{self, Places, Shown, Stacks},
    reviewed::Opinion,
    sources::{Mutation, read},
    tools::Tools,
};

const PAGE: &str = "docs/infra.md";
const BEGIN: &str = "<!-- measured: planted faults -->\n";
const END: &str = "<!-- end -->";

/// One fault, or the sources without it, as files of both directories.
struct Case {
    project: Project,
    estate: Estate,
}

impl Case {
    fn new(mutation: &Mutation, project: Project) -> Self {
        let env = &project.environments[&mutation.env];
        let estate = render(&project, env).unwrap_or_else(|e| panic!("{}: {e}", mutation.name));
        Self { project, estate }
    }

    /// What our rules say.
    fn findings(&self) -> BTreeSet<Finding> {
        rules::check(&self.project, &self.estate).into_iter().collect()
    }

    /// Each stack's template and what it is rendered to.
    fn bodies(&self) -> Vec<(&Stack, [String; 2])> {
        let of = |stack: &Stack| {
            [self.project.templates[stack.template].body(), plain::body(stack).to_string()]
        };
        self.estate.stacks.iter().map(|stack| (stack, of(stack))).collect()
    }
}

/// What all cases are written to, each file once, and of a case only what the fault changes; what the
/// tools say of a case is what they say of its files.
struct Shelf<'a> {
    raw: &'a Path,
    places: Places,
    /// The file that has a template.
    raws: BTreeMap<String, String>,
    rendered: &'a Path,
    stacks: Stacks,
}

/// The files of one case: templates, and stacks.
struct Files {
    raw: BTreeSet<String>,
    rendered: BTreeSet<String>,
}

impl Shelf<'_> {
    /// Writes the stacks that another case has not the same.
    fn add(&mut self, case: &Case, other: &Case) -> Files {
        let others = other.bodies();
        let (mut raw, mut rendered) = (BTreeSet::new(), BTreeSet::new());
        for (stack, bodies) in case.bodies() {
            if others.iter().any(|(o, b)| o.name == stack.name && *b == bodies) {
                continue;
            }
            let template = plain::stem(&case.project.templates[stack.template].file);
            let [source, _] = bodies;
            let name = format!("{template}~{}", self.places.len());
            let name = self.raws.entry(source.clone()).or_insert(name);
            fs::write(self.raw.join(format!("{name}.json")), source).unwrap();
            self.places.entry(name.clone()).or_default().insert(stack.region.clone());
            raw.insert(name.clone());
            let shown = Shown::new(&case.project, stack, case.estate.is_production());
            rendered.insert(self.stacks.write(self.rendered, shown, &plain::body(stack)));
        }
        Files { raw, rendered }
    }
}

/// What is said of some files, without where that is.
fn of(opinions: &BTreeSet<Opinion>, files: &BTreeSet<String>) -> BTreeSet<String> {
    let here = opinions.iter().filter(|o| files.contains(&o.file));
    here.map(|o| format!("{} {}", o.rule, o.logical)).collect()
}

/// Ids of rules that are new, for a cell of the table.
fn new(before: &BTreeSet<String>, after: &BTreeSet<String>) -> BTreeSet<String> {
    let added = after.difference(before).filter_map(|t| t.split(' ').next());
    added.map(str::to_owned).collect()
}

#[test]
fn public_tools_miss_planted_faults_that_our_rules_find() {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(skipped) => return println!("{skipped}"),
    };
    let (raw, rendered) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stacks = Stacks::new(rendered.path());
    let mut shelf = Shelf {
        raw: raw.path(),
        places: Places::new(),
        raws: BTreeMap::new(),
        rendered: rendered.path(),
        stacks,
    };
    let mut cases = Vec::new();
    for fault in read("mutations/planted.yaml") {
        let before = Case::new(&fault, fault.baseline());
        let after = Case::new(&fault, fault.mutant().unwrap_or_else(|e| panic!("{e}")));
        let files = (shelf.add(&before, &after), shelf.add(&after, &before));
        let found = after.findings();
        let own: BTreeSet<_> = found.difference(&before.findings()).map(|f| f.rule).collect();
        cases.push((fault.name, files, own));
    }
    let (linted, guarded, checked) = thread::scope(|scope| {
        let linted = scope.spawn(|| lint::opinions(&tools, shelf.raw, &shelf.places));
        let guarded = scope.spawn(|| guard::opinions(&tools, shelf.rendered));
        let checked = checkov::opinions(&tools, shelf.rendered);
        (linted.join().unwrap(), guarded.join().unwrap(), checked)
    });
    let mut table = String::from(
        "| fault | cfn-lint | cfn-guard, Control Tower | checkov | palisade-infra |\n|---|---|---|---|---|\n",
    );
    let mut found = [0; 4];
    let mut union = 0;
    for (name, (before, after), own) in &cases {
        let by_tools = [
            new(&of(&linted, &before.raw), &of(&linted, &after.raw)),
            new(&of(&guarded, &before.rendered), &of(&guarded, &after.rendered)),
            new(&of(&checked, &before.rendered), &of(&checked, &after.rendered)),
        ];
        union += usize::from(by_tools.iter().any(|t| !t.is_empty()));
        let own = own.iter().map(|r| (*r).to_owned()).collect();
        let cells = by_tools.into_iter().chain([own]);
        write!(table, "| {name} |").unwrap();
        for (cell, count) in cells.zip(&mut found) {
            *count += usize::from(!cell.is_empty());
            let ids: Vec<_> = cell.iter().map(String::as_str).collect();
            write!(table, " {} |", if ids.is_empty() { "-".into() } else { ids.join(", ") })
                .unwrap();
        }
        table.push('\n');
    }
    let [lint, guard, checkov, own] = found;
    writeln!(table, "| **found, of {}** | {lint} | {guard} | {checkov} | **{own}** |", cases.len())
        .unwrap();
    writeln!(table, "\nThe three public tools together find {union}.").unwrap();
    println!("{table}");
    assert_eq!(own, cases.len(), "rules miss planted faults:\n{table}");
    let page = fs::read_to_string(infra().parent().unwrap().join(PAGE)).unwrap();
    let written = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    assert_eq!(written.map(|(w, _)| w.trim()), Some(table.trim()), "{PAGE} says otherwise");
}
