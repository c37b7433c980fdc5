//! C04: hosts are patched in windows, a few at a time, and it is known which are not.

use super::{Facts, How, Report, Rule};
use crate::value::Value;

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "C04",
        title: "Hosts are patched in windows, part by part and not beyond so many errors; security \
                patches are approved within a month; what is missing is reported",
        pci: &["6.3.3", "11.3.1"],
        how: How::Check(windows),
    }]
}

/// The most days until a critical patch is approved: requirement 6.3.3 gives a month to have it installed,
/// and a window comes every week.
const MOST_DAYS: i64 = 21;

fn windows(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut tasks = Vec::new();
    for (place, task) in estate.of("AWS::SSM::MaintenanceWindowTask") {
        tasks.extend(task.str("WindowId"));
        let mut say = |path: &str, what: String| {
            report.add(facts, place, path, what);
        };
        if task.get("Targets").is_none_or(|t| t.items().is_empty()) {
            say("Targets", "is done on no host".into());
        }
        for (path, what) in [
            ("MaxConcurrency", "works on all hosts at once"),
            ("MaxErrors", "goes on after errors"),
        ] {
            let limit = task.get(path).and_then(Value::scalar);
            match limit.as_deref().map(share) {
                None => say(path, format!("states no {path}")),
                Some(false) => say(path, what.into()),
                Some(true) => {}
            }
        }
    }
    let mut any = false;
    for (place, window) in estate.of("AWS::SSM::MaintenanceWindow") {
        any = true;
        let number = |path: &str| window.get(path).and_then(Value::as_int);
        if number("Cutoff").zip(number("Duration")).is_none_or(|(cut, whole)| cut >= whole) {
            report.add(facts, place, "Cutoff", "has no time left in which a task may begin");
        }
        if window.get("Enabled").and_then(Value::as_bool) == Some(false) {
            report.add(facts, place, "Enabled", "is a window that never opens");
        }
        if !tasks.contains(&window.id.as_str()) {
            report.add(facts, place, "", "is a window in which nothing is done");
        }
    }
    let baselines = baselines(facts, report);
    let hosts = estate.of("AWS::AutoScaling::AutoScalingGroup").next();
    let Some((hosts, _)) = hosts.or_else(|| estate.of("AWS::EC2::Instance").next()) else {
        return;
    };
    for (there, what) in [
        (any, "is never patched: no maintenance window is there"),
        (baselines, "has no patch baseline that says which patches are approved"),
        (
            estate.of("AWS::SSM::ResourceDataSync").next().is_some(),
            "reports what it has and misses to nobody: no resource data sync is there",
        ),
    ] {
        if !there {
            report.add(facts, hosts, "", what);
        }
    }
}

/// Whether a limit is a part and not the whole: `1`, `25%`.
fn share(limit: &str) -> bool {
    match limit.strip_suffix('%') {
        Some(percent) => percent.parse::<u32>().is_ok_and(|p| p < 100),
        None => limit.parse::<u32>().is_ok_and(|n| n <= 50),
    }
}

/// Whether there is a baseline.
fn baselines(facts: &Facts<'_>, report: &mut Report) -> bool {
    let mut any = false;
    for (place, baseline) in facts.estate.of("AWS::SSM::PatchBaseline") {
        any = true;
        let rules = baseline.get("ApprovalRules.PatchRules").map(Value::items).unwrap_or_default();
        if rules.is_empty() {
            report.add(facts, place, "ApprovalRules", "approves no patch by itself");
        }
        for (i, rule) in rules.iter().enumerate() {
            let path = format!("ApprovalRules.PatchRules.{i}");
            let days = rule.get("ApproveAfterDays").and_then(Value::as_int);
            // Debian's archive has no dates: everything is approved at once.
            let dated = baseline.str("OperatingSystem") != Some("DEBIAN");
            let by_date = rule.get("ApproveUntilDate").is_some();
            if dated && !by_date && days.is_none_or(|d| d > MOST_DAYS) {
                let what = format!("approves patches later than after {MOST_DAYS} days");
                report.add(facts, place, &path, what);
            }
            if rule.get("ComplianceLevel").is_none_or(|l| l.is("UNSPECIFIED")) {
                let what = "does not say how bad it is when these patches are missing";
                report.add(facts, place, &path, what);
            }
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    const PATCHING: &str = "
Resources:
  G: { Type: AWS::AutoScaling::AutoScalingGroup }
  W: { Type: AWS::SSM::MaintenanceWindow, Properties: { Duration: 3, Cutoff: 1 } }
  T:
    Type: AWS::SSM::MaintenanceWindowTask
    Properties: { WindowId: !Ref W, Targets: [a], MaxConcurrency: 25%, MaxErrors: '1' }
  S: { Type: AWS::SSM::ResourceDataSync }
  B:
    Type: AWS::SSM::PatchBaseline
    Properties:
      ApprovalRules: { PatchRules: [{ ApproveAfterDays: 7, ComplianceLevel: HIGH }] }
";

    #[test]
    fn patching_is_held_to_its_rule() {
        only_these(
            rules,
            "C04",
            PATCHING,
            &[
                ("MaxConcurrency: 25%", "MaxConcurrency: 100%", "7 t.T: works on all hosts"),
                ("MaxErrors: '1'", "Priority: 1", "t.T: states no MaxErrors"),
                ("Targets: [a]", "Targets: []", "on no host"),
                ("Cutoff: 1", "Cutoff: 3", "no time left"),
                ("Cutoff: 1", "Cutoff: 1, Enabled: false", "never opens"),
                ("WindowId: !Ref W", "WindowId: mw-0", "nothing is done"),
                ("AfterDays: 7", "AfterDays: 60", "later than after 21"),
                (", ComplianceLevel: HIGH", "", "how bad"),
                ("AWS::SSM::ResourceDataSync", "AWS::SSM::Parameter", "reports what it has"),
            ],
        );
        let says = found(rules(), "C04", "Resources:\n  I: { Type: AWS::EC2::Instance }\n");
        assert_eq!(says.len(), 3, "{says:?}");
    }
}
