//! Why a process that is wanted is not started: what it waits for failed, and whose failure that is.

use std::collections::BTreeMap;

use palisade_types::{ProcessName, ProgramName};

use super::{
    Host,
    reconcile::{self, Progress},
    slot::Slot,
};

/// For each program that waits in vain, and each that failed: what to say of it.
pub(super) fn in_vain<H: Host>(
    slots: &BTreeMap<ProcessName, Slot<H>>,
) -> BTreeMap<ProgramName, String> {
    let is_failed = |s: &&Slot<H>| s.progress() == Progress::Failed;
    let mut said: BTreeMap<ProgramName, String> = slots
        .values()
        .filter(is_failed)
        .map(|s| {
            let why = s.error.as_deref().unwrap_or("it did not end well");
            (s.spec.program.clone(), format!("failed: {why}"))
        })
        .collect();
    if said.is_empty() {
        return said;
    }
    let all: Vec<_> = slots.values().map(|s| (s.spec.as_ref(), s.progress())).collect();
    let stuck = reconcile::stuck(&all);
    // Each round says it of one more at least, or ends.
    loop {
        let more = all.iter().find_map(|(spec, _)| {
            let is_open = stuck.contains(&spec.program) && !said.contains_key(&spec.program);
            let (on, why) =
                spec.after.iter().filter(|_| is_open).find_map(|a| said.get_key_value(a))?;
            Some((spec.program.clone(), format!("waits for {on}, which {why}")))
        });
        let Some((program, why)) = more else { return said };
        said.insert(program, why);
    }
}

/// Why this process waits in vain, if it does.
pub(super) fn why<H: Host>(
    slots: &BTreeMap<ProcessName, Slot<H>>,
    name: &ProcessName,
) -> Option<String> {
    let slot = slots.get(name).filter(|s| s.progress() == Progress::Held)?;
    in_vain(slots).remove(&slot.spec.program)
}
