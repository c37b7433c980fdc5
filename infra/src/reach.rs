//! `reach`: may one thing reach another, and by which rules. The answer is printed either way; a program
//! reads `reachable` of the JSON: `direct`, `through_others` or `no`.

use palisade_infra_model::reach::{Answer, Line, reach as ask};
use serde::Serialize;

use crate::{
    cli::{Common, Reach},
    failed::{Failed, Outcome},
    find, printer,
};

/// An answer as data.
#[derive(Debug, Serialize)]
struct Row {
    env: String,
    from: String,
    to: String,
    port: Option<u16>,
    reachable: &'static str,
    direct: Vec<Hop>,
    detour: Vec<Hop>,
}

/// A line of it.
#[derive(Debug, Serialize)]
struct Hop {
    from: String,
    to: String,
    protocol: String,
    ports: Option<String>,
    steps: Vec<String>,
    stopped: Option<String>,
}

/// Answers for one environment, or for all.
///
/// # Errors
/// When the question cannot be asked.
pub(crate) fn reach(common: &Common, args: &Reach) -> Outcome<()> {
    let (to, port) = target(&args.to)?;
    let project = find::project(common)?;
    let names = match &args.env {
        Some(name) => vec![name.clone()],
        None => project.environments.keys().cloned().collect(),
    };
    let mut rows = Vec::new();
    for name in names {
        let environment = find::environment(&project, &name, common)?;
        let estate = find::estate(&project, &environment)?;
        let answer = ask(&estate, &args.from, to, port)
            .map_err(|e| Failed::usage(format!("{name}: {e}")).hint(e.hint()))?;
        if args.json {
            rows.push(row(name, answer));
        } else {
            lines(&name, &answer).into_iter().for_each(printer::line);
        }
    }
    if args.json {
        printer::json(&rows);
    }
    Ok(())
}

/// `TO` or `TO:PORT`.
fn target(words: &str) -> Outcome<(&str, Option<u16>)> {
    match words.rsplit_once(':') {
        None => Ok((words, None)),
        Some((to, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((to, Some(port))),
            Ok(_) | Err(_) => Err(Failed::usage(format!("{words}: {port} is no port"))
                .hint("TO:PORT with a port of 1-65535, as in origin:443")),
        },
    }
}

fn lines(env: &str, answer: &Answer) -> Vec<String> {
    let port = answer.port.map(|p| format!(":{p}")).unwrap_or_default();
    let yes = match reachable(answer) {
        "direct" => "yes",
        "through_others" => "not by itself, only through others",
        _ => "no",
    };
    let mut lines = vec![format!("{env}: {} -> {}{port}: {yes}", answer.from, answer.to)];
    for line in answer.direct.iter().chain(&answer.detour) {
        let ports = line.ports.as_deref().map_or("nothing", |p| p);
        lines.push(format!("  {} -> {}: {} {ports}", line.from, line.to, line.protocol));
        lines.extend(line.steps.iter().map(|step| format!("    {step}")));
        lines.extend(line.stopped.iter().map(|why| format!("    stopped: {why}")));
    }
    lines
}

/// A word for programs. A way through others is a way: whoever gates on `no` must not miss it.
fn reachable(answer: &Answer) -> &'static str {
    if answer.yes() {
        "direct"
    } else if answer.detour.is_empty() {
        "no"
    } else {
        "through_others"
    }
}

fn row(env: String, answer: Answer) -> Row {
    let hops = |lines: Vec<Line>| lines.into_iter().map(hop).collect();
    Row {
        env,
        reachable: reachable(&answer),
        from: answer.from,
        to: answer.to,
        port: answer.port,
        direct: hops(answer.direct),
        detour: hops(answer.detour),
    }
}

fn hop(line: Line) -> Hop {
    Hop {
        from: line.from,
        to: line.to,
        protocol: line.protocol,
        ports: line.ports,
        steps: line.steps,
        stopped: line.stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_port_or_none_and_never_a_wrong_one() {
        assert_eq!(target("origin").unwrap(), ("origin", None));
        assert_eq!(target("origin:443").unwrap(), ("origin", Some(443)));
        for bad in ["origin:0", "origin:70000", "origin:https", "origin:"] {
            assert_eq!(target(bad).unwrap_err().kind.code(), 2, "{bad}");
        }
    }
}
