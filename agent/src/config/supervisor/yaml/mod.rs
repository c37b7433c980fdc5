//! An import as a `palisade.yaml`: readable, with what should be known beside what it is about, and read
//! back as the very processes that were imported.

mod copies;
mod program;
mod scalar;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use palisade_types::GroupName;
use program::{Remarks, program};

use super::{
    model::Remark,
    specs::{Import, Imported},
};

/// The text of a configuration file. What cannot be written is only in its remarks.
#[must_use]
pub fn yaml(import: &Import, files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
    let mut out = format!("# Made from {} by palisade import supervisor.\n", names.join(", "));
    let mut remarks = Remarks::new(&import.remarks);
    let programs = programs(import);
    let written = programs.iter().flat_map(|(_, copies)| copies);
    let sections: BTreeSet<&str> =
        written.flat_map(|p| [p.section.as_str(), &p.group_section]).collect();
    for remark in remarks.take(|r| !sections.contains(r.section.as_str())) {
        comment(&mut out, "", &remark.to_string());
    }
    out += "version: 1\n";
    if let Some(identifier) = import.identifier.as_ref().filter(|i| *i != "supervisor") {
        out += &format!("control: {{ identifier: {} }}\n", scalar::text(identifier));
    }
    if programs.is_empty() {
        return out;
    }
    out += "\nprograms:\n";
    let mut groups: BTreeMap<&GroupName, Members<'_>> = BTreeMap::new();
    for (key, copies) in &programs {
        let Some(first) = copies.first() else { continue };
        let written = program(key, copies, &mut remarks);
        out += &written.text;
        if !written.is_alone {
            let group = groups.entry(&first.spec.group).or_insert_with(|| Members {
                priority: first.spec.group_priority,
                section: &first.group_section,
                programs: Vec::new(),
            });
            group.programs.push(key);
        }
    }
    if !groups.is_empty() {
        out += "\ngroups:\n";
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|a, b| (a.1.priority, a.0).cmp(&(b.1.priority, b.0)));
    for (name, group) in groups {
        for remark in remarks.take(|r| r.section == group.section) {
            comment(&mut out, "  ", &about(remark));
        }
        let members = scalar::list(group.programs.iter().copied());
        let priority = match group.priority {
            999 => String::new(),
            other => format!(", priority: {other}"),
        };
        let name = scalar::text(name.as_str());
        out += &format!("  {name}: {{ programs: {members}{priority} }}\n");
    }
    out
}

/// Programs of a group that is to be written.
struct Members<'a> {
    priority: i32,
    section: &'a str,
    programs: Vec<&'a str>,
}

/// The processes of each program under its key, in order. Copies that are no copies of one entry become
/// programs of their own, under the names of their processes.
fn programs(import: &Import) -> Vec<(String, Vec<&Imported>)> {
    let mut by_program: Vec<(&str, Vec<&Imported>)> = Vec::new();
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    for process in import.processes.iter().filter(|p| p.can_be_written()) {
        let program = process.spec.program.as_str();
        let next = by_program.len();
        let i = *at.entry(program).or_insert(next);
        if i == next {
            by_program.push((program, Vec::new()));
        }
        if let Some((_, copies)) = by_program.get_mut(i) {
            copies.push(process);
        }
    }
    let mut keys: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    let mut apart = Vec::new();
    for (program, mut copies) in by_program {
        copies.sort_by_key(|c| c.number);
        if copies::entry(&copies).is_some() {
            keys.insert(program.to_owned());
            out.push((program.to_owned(), copies));
        } else {
            apart.extend(copies);
        }
    }
    for copy in apart {
        let mut key = copy.spec.name.to_string();
        while !keys.insert(key.clone()) {
            key.push('_');
        }
        out.push((key, vec![copy]));
    }
    out.sort_by(|a, b| {
        let order = |copies: &[&Imported]| {
            copies.first().map(|c| (c.spec.group_priority, c.spec.group.clone(), c.spec.priority))
        };
        (order(&a.1), &a.0).cmp(&(order(&b.1), &b.0))
    });
    out
}

/// A remark where its section is plain to see.
fn about(remark: &Remark) -> String {
    match remark.option.as_str() {
        "" => remark.text.clone(),
        option => format!("{option}: {}", remark.text),
    }
}

/// A longer line is broken.
const WIDTH: usize = 100;

/// A comment, in as many lines as it takes.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    let mut is_empty = true;
    for word in text.split_whitespace() {
        // What could end a comment, or break a terminal, stays out of it.
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = format!("{indent}#  ");
        }
        line.push(' ');
        line.push_str(&word);
        is_empty = false;
    }
    out.push_str(&line);
    out.push('\n');
}
