//! D08: secrets change. A secret has a schedule of 90 days at most, whose function Secrets Manager may call;
//! the master's password of a database is RDS's own, which changes it every seven days. A secret that
//! somebody outside gives out (a licence key) cannot be changed by us: its template says so, in
//! `Metadata: { Palisade: { RotatedBy: who } }`, and holds no value of it.

use std::collections::HashMap;

use super::{Facts, Report};
use crate::{
    estate::{Place, Resource},
    policy::matches,
    value::Value,
};

const SECRET: &str = "AWS::SecretsManager::Secret";
const FUNCTION: &str = "AWS::Lambda::Function";
/// The most days between two changes.
const MAX_DAYS: i64 = 90;

pub(super) fn rotate(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    let mut schedules: HashMap<Place, Vec<(Place, &Resource)>> = HashMap::new();
    for (place, schedule) in estate.of("AWS::SecretsManager::RotationSchedule") {
        let secret = schedule.str("SecretId").and_then(|id| estate.find_of(SECRET, id));
        match secret {
            Some((secret, _)) => schedules.entry(secret).or_default().push((place, schedule)),
            None => {
                report.add(facts, place, "SecretId", "it changes no secret of this environment");
            }
        }
    }
    for (place, secret) in estate.of(SECRET) {
        let own = schedules.get(&place).map(Vec::as_slice).unwrap_or_default();
        if own.is_empty() && !by_others(secret) {
            report.add(facts, place, "", "nothing ever changes this secret");
        }
        for (schedule_place, schedule) in own {
            one(facts, *schedule_place, schedule, report);
        }
    }
    for kind in ["AWS::RDS::DBCluster", "AWS::RDS::DBInstance"] {
        for (place, database) in estate.of(kind) {
            master(facts, place, database, report);
        }
    }
}

/// Whether the secret is given out by somebody else, and not made here.
fn by_others(secret: &Resource) -> bool {
    let metadata = secret.extra.iter().find(|(name, _)| name == "Metadata");
    let who = metadata.and_then(|(_, m)| m.path("Palisade.RotatedBy")).and_then(Value::as_str);
    who.is_some_and(|w| !w.is_empty()) && secret.get("GenerateSecretString").is_none()
}

fn one(facts: &Facts<'_>, place: Place, schedule: &Resource, report: &mut Report) {
    let days = schedule.get("RotationRules.AutomaticallyAfterDays").and_then(Value::as_int);
    let expression = schedule.str("RotationRules.ScheduleExpression");
    match days.or_else(|| expression.and_then(longest)) {
        Some(days) if days <= MAX_DAYS => {}
        Some(days) => {
            let what = format!("it changes every {days} days; {MAX_DAYS} is the most");
            report.add(facts, place, "RotationRules", what);
        }
        None => {
            report.add(facts, place, "RotationRules", "nothing says how often it changes");
        }
    }
    let path = "RotationLambdaARN";
    let Some(arn) = schedule.str(path) else {
        // RDS and others bring a function of their own.
        if schedule.get("HostedRotationLambda").is_none() {
            report.add(facts, place, path, "no function changes it");
        }
        return;
    };
    let Some((function, _)) = facts.estate.find_of(FUNCTION, arn) else {
        report.add(facts, place, path, format!("{arn} is no function of this environment"));
        return;
    };
    let called = |p: &Resource| {
        let whom = p.str("FunctionName").unwrap_or_default();
        p.str("Principal") == Some("secretsmanager.amazonaws.com")
            && p.str("Action").is_some_and(|a| matches(a, "lambda:InvokeFunction"))
            && facts.estate.find_of(FUNCTION, whom).is_some_and(|(f, _)| f == function)
    };
    if !facts.estate.of("AWS::Lambda::Permission").any(|(_, p)| called(p)) {
        report.add(facts, place, path, "Secrets Manager may not call its function");
    }
}

/// The most days between two runs of a schedule; nothing if it cannot be told.
fn longest(expression: &str) -> Option<i64> {
    if let Some(rate) = expression.strip_prefix("rate(") {
        let (number, unit) = rate.strip_suffix(')')?.trim().split_once(' ')?;
        let number: i64 = number.parse().ok()?;
        return match unit.trim() {
            "day" | "days" => Some(number),
            "hour" | "hours" => Some(number.div_euclid(24).max(1)),
            _ => None,
        };
    }
    // minutes, hours, day of month, month, day of week, year
    let fields: Vec<&str> =
        expression.strip_prefix("cron(")?.strip_suffix(')')?.split(' ').collect();
    let [_, _, _, month, _, _] = fields.as_slice() else { return None };
    match *month {
        "*" => Some(31),
        every => {
            let step: i64 = every.split_once('/')?.1.parse().ok()?;
            Some(step.checked_mul(31)?.min(366))
        }
    }
}

/// A database's master.
fn master(facts: &Facts<'_>, place: Place, database: &Resource, report: &mut Report) {
    // One that is made of another, or belongs to a cluster, has that one's.
    let own = database.get("MasterUsername").is_some();
    if own && !database.yes("ManageMasterUserPassword") {
        let path = "ManageMasterUserPassword";
        report.add(facts, place, path, "nothing ever changes the master's password");
    }
}

#[cfg(test)]
mod tests {
    use super::longest;

    #[test]
    fn schedules_say_how_long_the_longest_wait_is() {
        for (schedule, days) in [
            ("rate(30 days)", Some(30)),
            ("rate(1 day)", Some(1)),
            ("rate(12 hours)", Some(1)),
            ("cron(0 3 1 * ? *)", Some(31)),
            ("cron(0 3 1 */3 ? *)", Some(93)),
            ("cron(0 3 1 JAN ? *)", None),
            ("sometimes", None),
        ] {
            assert_eq!(longest(schedule), days, "{schedule}");
        }
    }
}
