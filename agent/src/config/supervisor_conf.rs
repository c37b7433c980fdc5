//! `supervisor_conf`: programs straight from Supervisor's own files, beside those of `programs`.

use std::collections::BTreeSet;

use palisade_types::{GroupName, ProcessName, ProgramName};

use super::{
    mistakes::Notebook,
    processes::Programs,
    section::Section,
    supervisor::{Host, Import, Refusal, World, import, read_to_run},
};
use crate::{clock::Timestamp, supervise::ProcessSpec};

/// What is around the files of palisade.
pub(super) struct Surroundings<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) world: &'a World,
    pub(super) now: Timestamp,
}

/// What Supervisor's files come to.
#[derive(Debug, Default)]
pub(super) struct Imported {
    import: Import,
}

/// Reads the files that `supervisor_conf` names; a mistake in one of them has its place there.
pub(super) fn read(top: &mut Section<'_>, around: &Surroundings<'_>, notes: &Notebook) -> Imported {
    let Some(field) = top.get("supervisor_conf") else { return Imported::default() };
    let mut files = Vec::new();
    for item in field.items() {
        let Some(path) = item.abs_path() else { continue };
        if let Err(e) = around.host.read(&path) {
            item.wrong(format!("{} cannot be read: {e}", path.display()));
        } else {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Imported::default();
    }
    match read_to_run(&files, around.host, around.world) {
        Ok(configs) => Imported { import: import(&configs, around.host, around.world) },
        Err(Refusal { place, key, text, .. }) => {
            notes.note(&place, &key, text);
            Imported::default()
        }
    }
}

impl Imported {
    /// What Supervisor's tools are told that the supervisor is called.
    pub(super) fn identifier(&self) -> Option<String> {
        self.import.identifier.clone()
    }

    /// The programs, for those that wait for one of them.
    pub(super) fn programs(&self) -> BTreeSet<ProgramName> {
        self.import.processes.iter().map(|p| p.spec.program.clone()).collect()
    }

    /// What should be known of the files, each with its place.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.import.remarks.iter().map(ToString::to_string).collect()
    }

    /// All processes of both, in order. A name that both have is a mistake that names both places.
    pub(super) fn beside(&self, ours: Programs, notes: &Notebook) -> Vec<ProcessSpec> {
        let Programs { mut processes, places } = ours;
        let place = |program: &ProgramName| {
            places.get(program).map_or_else(String::new, |p| format!(" at {p}"))
        };
        for theirs in &self.import.processes {
            let clash = processes.iter().find_map(|our| clash(our, &theirs.spec).map(|c| (our, c)));
            match clash {
                None => {}
                Some((our, what)) => notes.note(
                    &theirs.place,
                    &theirs.section,
                    format!(
                        "{what} is also one of programs.{}{}; rename one of the two",
                        our.program,
                        place(&our.program)
                    ),
                ),
            }
        }
        processes.extend(self.import.processes.iter().map(|p| p.spec.clone()));
        processes.sort_by(|a, b| a.order().cmp(&b.order()));
        processes
    }
}

/// The name that two processes must not share.
fn clash(a: &ProcessSpec, b: &ProcessSpec) -> Option<String> {
    let of = |kind: &str, name: &str| Some(format!("{kind} {name}"));
    let (process, program, group): (&ProcessName, &ProgramName, &GroupName) =
        (&b.name, &b.program, &b.group);
    if a.name == *process {
        of("process", process.as_str())
    } else if a.program == *program {
        of("program", program.as_str())
    } else if a.group == *group {
        of("group", group.as_str())
    } else {
        None
    }
}
