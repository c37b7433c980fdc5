//! Programs and groups as a list of processes to be.

use std::collections::{BTreeMap, BTreeSet};

use palisade_types::{GroupName, ProcessName, ProgramName};

use super::{
    expand::{Known as Value, expand},
    mistakes::Place,
    program_logs::LogDraft,
    programs::{DEFAULT_PRIORITY, Program, program},
    section::{Field, Section, did_you_mean},
    values::{Known, Template, absolute},
};
use crate::{
    clock::Timestamp,
    supervise::{Calendar, LogFile, LogPath, ProcessSpec, TWIN, is_twin},
};

/// The group of a program, and what it says about order.
#[derive(Clone, Debug)]
struct Group {
    name: GroupName,
    priority: Option<i32>,
}

/// What `programs` and `groups` come to.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// Every process of every program, in the order in which they start.
    pub(super) processes: Vec<ProcessSpec>,
    /// Where each program stands.
    pub(super) places: BTreeMap<ProgramName, Place>,
}

/// Reads `programs` and `groups`. `others` are programs that stand elsewhere and may be waited for.
pub(super) fn processes(top: &mut Section<'_>, others: &BTreeSet<ProgramName>) -> Programs {
    let drafts = drafts(top);
    let groups = groups(top, &drafts);
    check_after(&drafts, others);
    let mut out = Programs::default();
    let mut names: BTreeMap<ProcessName, ProgramName> = BTreeMap::new();
    for (name, (field, draft)) in &drafts {
        out.places.insert(name.clone(), field.node.place.clone());
        for process in multiply(name, field, draft, groups.get(name)) {
            match names.insert(process.name.clone(), name.clone()) {
                None => out.processes.push(process),
                Some(other) => {
                    field.wrong(format!("process {} is also one of {other}", process.name));
                }
            }
        }
    }
    out.processes.sort_by(|a, b| a.order().cmp(&b.order()));
    out
}

impl Programs {
    /// Of schedules whose last time is over: a year may be mistyped, or may just have passed.
    pub(super) fn warnings(&self, now: Timestamp) -> Vec<String> {
        let over: BTreeMap<_, _> = self
            .processes
            .iter()
            .filter_map(|p| Some((&p.program, &p.schedule.as_ref()?.when)))
            .filter(|(_, when)| when.next_after(now).is_none())
            .collect();
        let told = |(program, when): (&ProgramName, &Calendar)| {
            let place = self.places.get(program)?;
            let when = when.text();
            Some(format!(
                "{place}: programs.{program}.schedule: {when:?} is over, so it never runs again"
            ))
        };
        over.into_iter().filter_map(told).collect()
    }
}

type Drafts<'a> = BTreeMap<ProgramName, (Field<'a>, Program<'a>)>;

fn drafts<'a>(top: &mut Section<'a>) -> Drafts<'a> {
    let mut out = BTreeMap::new();
    let Some(field) = top.get("programs") else { return out };
    for (entry, field) in field.section().named() {
        match ProgramName::try_from(entry.key.clone()) {
            Ok(name) => {
                if let Some(draft) = program(&field) {
                    out.insert(name, (field, draft));
                }
            }
            Err(e) => field.wrong(e.to_string()),
        }
    }
    out
}

fn groups(top: &mut Section<'_>, drafts: &Drafts<'_>) -> BTreeMap<ProgramName, Group> {
    let mut of: BTreeMap<ProgramName, Group> = BTreeMap::new();
    let Some(field) = top.get("groups") else { return of };
    for (entry, field) in field.section().named() {
        let mut s = field.section();
        let name = GroupName::try_from(entry.key.clone());
        let name = name.map_err(|e| field.wrong(e.to_string())).ok();
        let priority = s.get("priority").and_then(|f| f.int(-1_000_000..=1_000_000));
        let members = s.need("programs").map(|f| f.items()).unwrap_or_default();
        s.finish();
        let Some(name) = name else { continue };
        for member in members {
            let Some(text) = member.text() else { continue };
            let Some((program, _)) = drafts.iter().find(|(n, _)| n.as_str() == text) else {
                let hint = did_you_mean(text, drafts.keys().map(ProgramName::as_str));
                member.wrong(format!("{text} is not among programs{hint}"));
                continue;
            };
            let group = Group { name: name.clone(), priority };
            if let Some(other) = of.insert(program.clone(), group) {
                member.wrong(format!("{program} is in group {} already", other.name));
            }
        }
    }
    of
}

/// `after` must name programs, and never lead back to where it started.
fn check_after(drafts: &Drafts<'_>, others: &BTreeSet<ProgramName>) {
    for (name, (_, draft)) in drafts {
        for (field, wanted) in &draft.after {
            if others.contains(wanted) {
                continue;
            }
            if !drafts.contains_key(wanted) {
                let hint = did_you_mean(wanted.as_str(), drafts.keys().map(ProgramName::as_str));
                field.wrong(format!("{wanted} is not among programs{hint}"));
            } else if leads_to(drafts, wanted, name) {
                field.wrong(format!("{name} and {wanted} would wait for each other"));
            }
        }
    }
}

fn leads_to(drafts: &Drafts<'_>, from: &ProgramName, to: &ProgramName) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name)
            && let Some((_, draft)) = drafts.get(name)
        {
            open.extend(draft.after.iter().map(|(_, n)| n));
        }
    }
    false
}

fn multiply(
    name: &ProgramName,
    field: &Field<'_>,
    draft: &Program<'_>,
    group: Option<&Group>,
) -> Vec<ProcessSpec> {
    let own = || GroupName::try_from(name.as_str().to_owned()).ok();
    let Some(group_name) = group.map(|g| g.name.clone()).or_else(own) else { return Vec::new() };
    // A program without a group is one of its own, with its priority.
    let group_priority = match group {
        Some(group) => group.priority.unwrap_or(DEFAULT_PRIORITY),
        None => draft.priority.unwrap_or_else(|| draft.kind.group_priority()),
    };
    let numbers = draft.numprocs_start..draft.numprocs_start.saturating_add(draft.numprocs);
    let one = |number| {
        let known: Known = BTreeMap::from([
            ("program_name", Value::Text(name.to_string())),
            ("group_name", Value::Text(group_name.to_string())),
            ("process_num", Value::Number(number)),
            ("numprocs", Value::Number(draft.numprocs)),
        ]);
        process(name, field, draft, (&group_name, group_priority), &known)
    };
    numbers.filter_map(one).collect()
}

fn process(
    program: &ProgramName,
    field: &Field<'_>,
    draft: &Program<'_>,
    (group, group_priority): (&GroupName, i32),
    known: &Known,
) -> Option<ProcessSpec> {
    let default =
        if draft.numprocs > 1 { "%(program_name)s_%(process_num)02d" } else { "%(program_name)s" };
    let name = match &draft.process_name {
        Some(template) => fill(template, known)?,
        None => expand(default, known).map_err(|e| field.wrong(e)).ok()?,
    };
    let name = ProcessName::try_from(name).map_err(|e| field.wrong(e.to_string())).ok()?;
    if is_twin(&name) {
        field.wrong(format!("process {name}: the agent itself uses names that end in {TWIN}"));
    }
    let mut environment = BTreeMap::new();
    for (key, value) in &draft.environment {
        environment.insert(key.clone(), fill(value, known)?);
    }
    let directory = match &draft.directory {
        Some(t) => Some(fill(t, known).and_then(|text| absolute(&t.field, text))?),
        None => None,
    };
    let argv = draft.command.iter().map(|w| fill(w, known)).collect::<Option<_>>()?;
    let mut stderr = log_file(&draft.stderr, known)?;
    if draft.redirect_stderr {
        // There is nothing that could come into it.
        stderr.path = LogPath::None;
    }
    let serverurl = match &draft.kind.serverurl {
        Some(t) => Some(fill(t, known)?).filter(|url| url != "AUTO"),
        None => None,
    };
    Some(ProcessSpec {
        kind: draft.kind.kind.clone(),
        stdin: draft.kind.stdin.clone(),
        serverurl,
        group_priority,
        priority: draft.priority.unwrap_or(DEFAULT_PRIORITY),
        directory,
        user: draft.user.clone(),
        environment,
        umask: draft.umask,
        autostart: draft.autostart,
        autorestart: draft.autorestart,
        startsecs: draft.startsecs,
        startretries: draft.startretries,
        exitcodes: draft.exitcodes.clone(),
        stopsignal: draft.upkeep.stop.map_or(draft.stopsignal, |s| s.signal),
        stopwaitsecs: draft.upkeep.stop.map_or(draft.stopwaitsecs, |s| s.wait),
        stopasgroup: draft.stopasgroup,
        killasgroup: draft.killasgroup,
        sockets: draft.sockets.clone(),
        ready: draft.ready.clone(),
        stdout: log_file(&draft.stdout, known)?,
        stderr,
        redirect_stderr: draft.redirect_stderr,
        limits: draft.limits,
        health: draft.upkeep.health.clone(),
        reload: draft.upkeep.reload,
        rolling: draft.upkeep.rolling,
        stop_then: draft.upkeep.stop_then.clone(),
        upkeep: draft.upkeep.upkeep,
        schedule: draft.errand.schedule.clone(),
        oneshot: draft.errand.oneshot,
        hooks: draft.errand.hooks(known, fill)?,
        after: draft.after.iter().map(|(_, n)| n.clone()).collect(),
        ..ProcessSpec::new(name, program.clone(), group.clone(), argv)
    })
}

fn log_file(draft: &LogDraft<'_>, known: &Known) -> Option<LogFile> {
    let mut file = draft.file.clone();
    if let Some(at) = &draft.at {
        file.path = LogPath::At(fill(at, known).and_then(|text| absolute(&at.field, text))?);
    }
    Some(file)
}

fn fill(template: &Template<'_>, known: &Known) -> Option<String> {
    expand(&template.text, known).map_err(|e| template.field.wrong(e)).ok()
}
