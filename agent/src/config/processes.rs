//! Programs and groups as a list of processes to be.

use std::collections::{BTreeMap, BTreeSet};

use palisade_types::{GroupName, ProcessName, ProgramName};

use super::{
    expand::{Known as Value, expand},
    program_logs::LogDraft,
    programs::{DEFAULT_PRIORITY, Program, program},
    section::{Field, Section, did_you_mean},
    values::{Known, Template, absolute},
};
use crate::supervise::{LogFile, LogPath, ProcessSpec};

/// The group of a program, and what it says about order.
#[derive(Clone, Debug)]
struct Group {
    name: GroupName,
    priority: Option<i32>,
}

/// Every process of every program, lowest priority first.
pub(super) fn processes(top: &mut Section<'_>) -> Vec<ProcessSpec> {
    let drafts = drafts(top);
    let groups = groups(top, &drafts);
    check_after(&drafts);
    let mut all: Vec<ProcessSpec> = Vec::new();
    let mut names: BTreeMap<ProcessName, ProgramName> = BTreeMap::new();
    for (name, (field, draft)) in &drafts {
        for process in multiply(name, field, draft, groups.get(name)) {
            match names.insert(process.name.clone(), name.clone()) {
                None => all.push(process),
                Some(other) => {
                    field.wrong(format!("process {} is also one of {other}", process.name));
                }
            }
        }
    }
    all.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    all
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
fn check_after(drafts: &Drafts<'_>) {
    for (name, (_, draft)) in drafts {
        for (field, wanted) in &draft.after {
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
    let group_priority = group.and_then(|g| g.priority);
    let priority = draft.priority.or(group_priority).unwrap_or(DEFAULT_PRIORITY);
    let numbers = draft.numprocs_start..draft.numprocs_start.saturating_add(draft.numprocs);
    let one = |number| {
        let known: Known = BTreeMap::from([
            ("program_name", Value::Text(name.to_string())),
            ("group_name", Value::Text(group_name.to_string())),
            ("process_num", Value::Number(number)),
            ("numprocs", Value::Number(draft.numprocs)),
        ]);
        process(name, field, draft, &group_name, priority, &known)
    };
    numbers.filter_map(one).collect()
}

fn process(
    program: &ProgramName,
    field: &Field<'_>,
    draft: &Program<'_>,
    group: &GroupName,
    priority: i32,
    known: &Known,
) -> Option<ProcessSpec> {
    let default =
        if draft.numprocs > 1 { "%(program_name)s_%(process_num)02d" } else { "%(program_name)s" };
    let name = match &draft.process_name {
        Some(template) => fill(template, known)?,
        None => expand(default, known).map_err(|e| field.wrong(e)).ok()?,
    };
    let name = ProcessName::try_from(name).map_err(|e| field.wrong(e.to_string())).ok()?;
    let mut environment = BTreeMap::new();
    for (key, value) in &draft.environment {
        environment.insert(key.clone(), fill(value, known)?);
    }
    let directory = match &draft.directory {
        Some(t) => Some(fill(t, known).and_then(|text| absolute(&t.field, text))?),
        None => None,
    };
    let argv = draft.command.iter().map(|w| fill(w, known)).collect::<Option<_>>()?;
    Some(ProcessSpec {
        priority,
        directory,
        user: draft.user.clone(),
        environment,
        umask: draft.umask,
        autostart: draft.autostart,
        autorestart: draft.autorestart,
        startsecs: draft.startsecs,
        startretries: draft.startretries,
        exitcodes: draft.exitcodes.clone(),
        stopsignal: draft.stopsignal,
        stopwaitsecs: draft.stopwaitsecs,
        stopasgroup: draft.stopasgroup,
        killasgroup: draft.killasgroup,
        sockets: draft.sockets.clone(),
        ready: draft.ready.clone(),
        stdout: log_file(&draft.stdout, known)?,
        stderr: log_file(&draft.stderr, known)?,
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
    match draft {
        LogDraft::Fixed(file) => Some(file.clone()),
        LogDraft::At { path, maxbytes, backups } => {
            let at = fill(path, known).and_then(|text| absolute(&path.field, text))?;
            let (path, maxbytes, backups) = (LogPath::At(at), *maxbytes, *backups);
            Some(LogFile { path, maxbytes, backups, ..LogFile::default() })
        }
    }
}

fn fill(template: &Template<'_>, known: &Known) -> Option<String> {
    expand(&template.text, known).map_err(|e| template.field.wrong(e)).ok()
}
