//! What Supervisor would run, as processes that Palisade runs.
//!
//! Nothing that Supervisor can do is left out without a remark, and a value that Palisade has no room for
//! becomes the nearest one that it has, with a remark too.

use std::collections::{BTreeMap, BTreeSet};

use palisade_types::{GroupName, ProcessName, ProgramName};

use super::{
    Host, World, advice,
    maker::Maker,
    model::{Config, Group, Int, Process, Remark},
    names,
};
use crate::{
    config::Place,
    supervise::{ListenAddr, ProcessSpec, SharedSocket, Stdin, is_twin},
};

/// A process with where it comes from.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What Palisade is to run.
    pub spec: ProcessSpec,
    /// Its section.
    pub place: Place,
    /// The name of its section, as `program:web`.
    pub section: String,
    /// Its number among the copies that its section stands for.
    pub(crate) number: Int,
    /// The section that makes its group: its own, or one that lists it.
    pub(crate) group_section: String,
    /// Which of the configurations it is of.
    pub(crate) config: usize,
}

impl Imported {
    /// What Supervisor's tools call it where its file is run, as `group:process`.
    pub(crate) fn old_name(&self) -> String {
        let group = self.group_section.split_once(':').map_or("", |(_, name)| name.trim());
        format!("{group}:{}", self.spec.label)
    }

    /// What they call it where a `palisade.yaml` is run.
    pub(crate) fn new_name(&self) -> String {
        format!("{}:{}", self.spec.group, self.spec.name)
    }

    /// Whether a `palisade.yaml` can say it: not what has no command, or a socket that is nowhere. That
    /// can only be run from the file it is in, where its start fails in its time, as in Supervisor.
    #[must_use]
    pub fn can_be_written(&self) -> bool {
        let is_nowhere = matches!(
            &self.spec.stdin,
            Stdin::Socket(SharedSocket { listen: ListenAddr::Nowhere { .. }, .. })
        );
        self.spec.argv.first().is_some_and(|c| !c.is_empty()) && !is_nowhere
    }
}

/// All that was imported.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// In Supervisor's order.
    pub processes: Vec<Imported>,
    /// In the order of the files.
    pub remarks: Vec<Remark>,
    /// Files that were to be included and could not be read.
    pub unread: Vec<String>,
    /// What the first whole file calls its supervisor.
    pub identifier: Option<String>,
}

/// A process that Supervisor would have; `group` counts those that there are.
struct Wanted<'a> {
    config: &'a Config,
    /// The number of that.
    at: usize,
    group: usize,
    process: &'a Process,
}

/// Everything that these files would have run.
#[must_use]
pub fn import(configs: &[Config], host: &dyn Host, world: &World) -> Import {
    let mut remarks: Vec<Remark> = configs.iter().flat_map(|c| c.remarks.clone()).collect();
    let (groups, wanted) = wanted(configs, &mut remarks);
    let group_pairs: Vec<_> = groups.iter().map(|g| (g.name.as_str(), g.name.as_str())).collect();
    let group_names = names::unique(&group_pairs, |n| n.parse::<GroupName>().is_ok());
    let group_of = |w: &Wanted<'_>| group_pairs.get(w.group).map_or("", |(name, _)| name);
    let pairs: Vec<_> = wanted.iter().map(|w| (group_of(w), w.process.name.as_str())).collect();
    let process_names =
        names::unique(&pairs, |n| n.parse().is_ok_and(|n: ProcessName| !is_twin(&n)));
    let program_names = program_names(&wanted, &group_of);
    let mut processes = Vec::new();
    for ((w, name), program) in wanted.iter().zip(process_names).zip(program_names) {
        let Some((group, group_name)) = groups.get(w.group).zip(group_names.get(w.group)) else {
            continue;
        };
        let maker =
            Maker { config: w.config, number: w.at, group, process: w.process, host, world };
        if let Some(spec) = maker.spec([&name, &program, group_name], &mut remarks) {
            processes.push(Imported {
                spec,
                place: w.config.place(&w.process.section, ""),
                section: w.process.section.clone(),
                number: w.process.number,
                group_section: group.section.clone(),
                config: w.at,
            });
        }
    }
    processes.sort_by(|a, b| a.spec.order().cmp(&b.spec.order()));
    for config in configs {
        advice::advise(config, host, &mut remarks);
    }
    let unread = configs.iter().flat_map(|c| c.unread.clone()).collect();
    let whole = configs.iter().find(|c| c.has_main);
    let identifier = whole.map(|c| c.supervisord.identifier.clone());
    Import { processes, remarks: in_order(remarks), unread, identifier }
}

/// In the order of the files, and each once.
pub(super) fn in_order(mut remarks: Vec<Remark>) -> Vec<Remark> {
    remarks.sort_by(|a, b| {
        let key = |r: &Remark| (r.place.file.clone(), r.place.line, r.option.clone());
        key(a).cmp(&key(b))
    });
    let mut seen = BTreeSet::new();
    remarks.retain(|r| seen.insert((r.place.file.clone(), r.place.line, r.text.clone())));
    remarks
}

/// The groups and processes that Supervisor really has: of two groups of one name it starts the first
/// only, and of two processes of one name in a group the last one.
fn wanted<'a>(
    configs: &'a [Config],
    remarks: &mut Vec<Remark>,
) -> (Vec<&'a Group>, Vec<Wanted<'a>>) {
    let mut groups = Vec::new();
    let mut out: Vec<Wanted<'a>> = Vec::new();
    // Of supervisors that are beside each other, each may have a group of the same name.
    let mut elsewhere: BTreeMap<&str, &str> = BTreeMap::new();
    for (number, config) in configs.iter().enumerate() {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for group in &config.groups {
            if !names.insert(&group.name) {
                let text = format!(
                    "there are two groups named {:?}; Supervisor starts the first of them only, and so \
                     does palisade",
                    group.name
                );
                remarks.push(config.about(&group.section, "", text));
                continue;
            }
            match elsewhere.get(group.name.as_str()) {
                Some(other) if *other != config.main => {
                    let text = format!(
                        "{other} has a group {:?} too; both are run, as by two supervisors",
                        group.name
                    );
                    remarks.push(config.about(&group.section, "", text));
                }
                _ => _ = elsewhere.insert(&group.name, &config.main),
            }
            let mut at: BTreeMap<&str, usize> = BTreeMap::new();
            for process in &group.processes {
                let w = Wanted { config, at: number, group: groups.len(), process };
                match at.get(process.name.as_str()).and_then(|i| out.get_mut(*i)) {
                    None => {
                        at.insert(&process.name, out.len());
                        out.push(w);
                    }
                    Some(before) => {
                        let text = format!(
                            "group {:?} has two processes named {:?}; Supervisor starts the last of \
                             them only, and so does palisade",
                            group.name, process.name
                        );
                        remarks.push(config.about(&process.section, "process_name", text));
                        *before = w;
                    }
                }
            }
            groups.push(group);
        }
    }
    (groups, out)
}

/// A good name for each section, in each group that it is in.
fn program_names<'a>(
    wanted: &'a [Wanted<'_>],
    group_of: &dyn Fn(&Wanted<'_>) -> &'a str,
) -> Vec<String> {
    let mut at: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut index = Vec::new();
    for w in wanted {
        let next = pairs.len();
        let i = *at.entry((w.group, &w.process.section)).or_insert(next);
        if i == next {
            pairs.push((group_of(w), &w.process.program));
        }
        index.push(i);
    }
    let names = names::unique(&pairs, |n| n.parse::<ProgramName>().is_ok());
    index.into_iter().map(|i| names.get(i).cloned().unwrap_or_default()).collect()
}
