//! Where the host stands, for the report: the plan of this moment and what the last run did. Pure.

use super::{
    model::{PackageItem, PackageState, Report, Verdict},
    plan::{Plan, Reason, RebootNeed, Update},
    record::Record,
};

/// The report.
#[must_use]
pub fn report(plan: &Plan, last: Option<&Record>) -> Report {
    let mut items: Vec<PackageItem> = Vec::new();
    let mut add = |item: PackageItem| {
        if !items.iter().any(|i| i.name == item.name) {
            items.push(item);
        }
    };
    let failed = last.map_or(&[][..], |r| &r.failed);
    for broken in &plan.broken {
        let said = failed.iter().find(|f| f.update.name == broken.name);
        let update = said.map(|f| f.update.clone()).unwrap_or_default();
        let why =
            said.map_or_else(|| broken.what.clone(), |f| format!("{}: {}", broken.what, f.why));
        let update = Update { name: broken.name.clone(), from: None, ..update };
        add(item(&update, PackageState::Failed, why));
    }
    for update in plan.updates.iter().filter(|u| u.from.is_some()) {
        match failed.iter().find(|f| f.update.name == update.name && f.update.to == update.to) {
            Some(f) => add(item(update, PackageState::Failed, f.why.clone())),
            None => add(item(update, PackageState::Missing, "waits for a run".to_owned())),
        }
    }
    for kept in &plan.kept_back {
        let state = match kept.why {
            Reason::Hold { .. } | Reason::Marked => PackageState::Held,
            Reason::Limit { .. } | Reason::Obstacle { .. } => PackageState::Missing,
        };
        add(item(&kept.update, state, kept.why.to_string()));
    }
    for update in last.iter().flat_map(|r| &r.installed) {
        let (state, why) = match waits_for_restart(update, &plan.reboot) {
            true => (PackageState::InstalledPendingReboot, plan.reboot.reasons.join("; ")),
            false => (PackageState::Installed, String::new()),
        };
        add(item(&Update { from: Some(update.to.clone()), ..update.clone() }, state, why));
    }
    // Patched on the disk is not patched while a service that should run the new code does not.
    for bad in last.iter().flat_map(|r| &r.services).filter(|o| o.is_bad()) {
        let update = Update { name: bad.name.clone(), ..Update::default() };
        add(item(&update, PackageState::Failed, bad.to_string()));
    }
    if !plan.reboot.reasons.is_empty() {
        for name in &plan.reboot.packages {
            let update = Update { name: name.clone(), ..Update::default() };
            let why = plan.reboot.reasons.join("; ");
            add(item(&update, PackageState::InstalledPendingReboot, why));
        }
    }
    let verdict = match &plan.verdict {
        Verdict::Compliant if items.iter().any(|i| !i.state.is_compliant()) => {
            Verdict::NonCompliant
        }
        verdict => verdict.clone(),
    };
    Report {
        at: plan.at,
        run: last.map(|r| r.id.clone()),
        verdict,
        items,
        release: plan.release.clone(),
        lists_age_s: plan.lists_age_s(),
    }
}

fn item(update: &Update, state: PackageState, why: String) -> PackageItem {
    PackageItem {
        name: update.name.clone(),
        installed: update.from.clone(),
        available: Some(update.to.clone()).filter(|v| !v.is_empty()),
        state,
        severity: update.severity,
        cves: update.cves.clone(),
        why,
    }
}

/// Whether a restart is needed for this package: where nobody says for which, it is needed for all.
fn waits_for_restart(update: &Update, need: &RebootNeed) -> bool {
    let named = need.packages.is_empty() || need.packages.contains(&update.name);
    !need.reasons.is_empty() && named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        patch::{
            model::Verdict,
            plan::{Broken, KeptBack},
            record::{FailedPackage, Trigger},
        },
    };

    fn update(name: &str) -> Update {
        Update { name: name.into(), from: Some("1".into()), to: "2".into(), ..Update::default() }
    }

    fn plan() -> Plan {
        Plan {
            at: Timestamp::from_secs(9),
            updates: vec![
                update("missing"),
                update("tried"),
                Update { from: None, ..update("dep") },
            ],
            kept_back: vec![
                KeptBack { update: update("held"), why: Reason::Marked },
                KeptBack { update: update("stuck"), why: Reason::Obstacle { what: "x".into() } },
            ],
            broken: vec![Broken { name: "brk".into(), what: "half-configured".into() }],
            reboot: RebootNeed { reasons: vec!["kernel".into()], packages: vec!["krn".into()] },
            sources: vec![],
            release: Some("2023.6".into()),
            verdict: Verdict::NonCompliant,
        }
    }

    #[test]
    fn every_package_that_is_not_as_it_should_be_is_there_once_with_its_state_and_reason() {
        let mut last = Record::new(Trigger::Window, "", Timestamp::from_secs(1), None);
        last.installed = vec![update("krn"), update("plain")];
        let fail = |n: &str| FailedPackage { update: update(n), why: "exit status 3".into() };
        last.failed = vec![fail("brk"), fail("tried")];
        let r = report(&plan(), Some(&last));
        let got: Vec<_> =
            r.items.iter().map(|i| (i.name.as_str(), i.state, i.why.as_str())).collect();
        assert_eq!(
            got,
            [
                ("brk", PackageState::Failed, "half-configured: exit status 3"),
                ("missing", PackageState::Missing, "waits for a run"),
                ("tried", PackageState::Failed, "exit status 3"),
                ("held", PackageState::Held, "held on the host (apt-mark hold)"),
                ("stuck", PackageState::Missing, "kept back: x"),
                ("krn", PackageState::InstalledPendingReboot, "kernel"),
                ("plain", PackageState::Installed, ""),
            ]
        );
        assert_eq!(r.items[5].installed.as_deref(), Some("2"));
        assert_eq!(
            (r.run.as_deref(), r.release.as_deref()),
            (Some("19700101T000001000Z"), Some("2023.6"))
        );
    }

    #[test]
    fn a_restart_that_is_waited_for_is_told_without_a_run_too() {
        let r = report(&plan(), None);
        assert!(r.items.iter().any(|i| i.name == "krn" && !i.state.is_compliant()));
    }
}
