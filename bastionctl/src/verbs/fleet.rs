//! `exec`, `status`, `patch` and `restart`: a command on many hosts through Run Command, with one
//! result for each host.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::ssh::words;
use crate::{
    child::{self, Signals},
    cli, clock,
    cloud::{Cloud, ssm::Command},
    debts::Debt,
    failed::{Failed, Outcome},
    fleet::{Board, HostResult, exit_code, is_amount},
    printer::clean_lines,
    run::Run,
    settings, targets,
};

/// Hosts that SSM takes in one command by their ids.
const PER_COMMAND: usize = 50;
/// Questions for output under way at a time.
const READERS: usize = 8;
const FIRST_WAIT: Duration = Duration::from_millis(150);
const LAST_WAIT: Duration = Duration::from_secs(2);
/// After the end of waiting, for hosts to hear that it is over.
const CANCEL_WAIT: Duration = Duration::from_secs(3);

/// What to run, and on whom.
struct Job<'a> {
    document: &'a str,
    parameters: Vec<(&'a str, Vec<String>)>,
    fleet: &'a cli::Fleet,
}

pub(crate) async fn exec(run: &Run, args: cli::Exec, signals: &mut Signals) -> Outcome<u8> {
    let line = words(&args.command)?;
    let timeout = settings::duration("--timeout", &args.fleet.timeout)?;
    let parameters = vec![
        ("commands", vec![line]),
        ("executionTimeout", vec![timeout.as_secs().clamp(1, 172_800).to_string()]),
    ];
    let job = Job { document: "AWS-RunShellScript", parameters, fleet: &args.fleet };
    job.run(run, signals).await
}

pub(crate) async fn status(run: &Run, args: cli::Status, signals: &mut Signals) -> Outcome<u8> {
    let what = match args.what {
        cli::What::Status => "status",
        cli::What::Access => "access",
        cli::What::Patch => "patch",
        cli::What::Firewall => "firewall",
        cli::What::Logs => "logs",
    };
    let parameters = vec![("What", vec![what.to_owned()])];
    Job { document: "Palisade-Status", parameters, fleet: &args.fleet }.run(run, signals).await
}

pub(crate) async fn patch(run: &Run, args: cli::Patch, signals: &mut Signals) -> Outcome<u8> {
    let mode = match args.mode {
        cli::PatchMode::Plan => "plan",
        cli::PatchMode::Run => "run",
        cli::PatchMode::Status => "status",
    };
    let parameters = vec![("Mode", vec![mode.to_owned()])];
    Job { document: "Palisade-Patch", parameters, fleet: &args.fleet }.run(run, signals).await
}

pub(crate) async fn restart(run: &Run, args: cli::Restart, signals: &mut Signals) -> Outcome<u8> {
    let rolling = if args.rolling { "true" } else { "false" };
    let parameters =
        vec![("Name", vec![args.program.clone()]), ("Rolling", vec![rolling.to_owned()])];
    Job { document: "Palisade-Restart", parameters, fleet: &args.fleet }.run(run, signals).await
}

impl Job<'_> {
    async fn run(&self, run: &Run, signals: &mut Signals) -> Outcome<u8> {
        let fleet = self.fleet;
        let timeout = settings::duration("--timeout", &fleet.timeout)?;
        for (option, text, least) in
            [("--concurrency", &fleet.concurrency, 1), ("--max-errors", &fleet.max_errors, 0)]
        {
            if !is_amount(text, least) {
                let rule =
                    format!("{option} {text}: a number of at least {least}, or a percentage");
                return Err(Failed::usage(rule));
            }
        }
        let setup = async {
            let cloud = run.cloud().await?;
            let instances = targets::many(&cloud, &run.settings, &fleet.targets).await?;
            Ok((cloud, instances))
        };
        let (cloud, instances) = run.until_signal(signals, setup).await?;
        let mut results = Vec::new();
        // SSM takes so many hosts at a time; the next ones follow when these have ended, so that the
        // bound on failures holds over all of them.
        for part in instances.chunks(PER_COMMAND) {
            let failed = results.iter().filter(|r: &&HostResult| !r.is_good()).count();
            if exit_code(failed, instances.len(), &fleet.max_errors) != 0 {
                results.extend(part.iter().map(|i| not_started(i)));
                continue;
            }
            let (done, interrupted) = self.part(run, &cloud, part, timeout, signals).await?;
            results.extend(done);
            if let Some(signal) = interrupted {
                print(run, &results);
                run.printer.note(format_args!("interrupted by {}: cancelled", signal.as_str()));
                return Ok(child::of_signal(signal));
            }
        }
        let failed = print(run, &results);
        Ok(exit_code(failed, results.len(), &fleet.max_errors))
    }

    /// One command on up to fifty hosts.
    async fn part(
        &self,
        run: &Run,
        cloud: &Cloud,
        instances: &[String],
        timeout: Duration,
        signals: &mut Signals,
    ) -> Outcome<(Vec<HostResult>, Option<nix::sys::signal::Signal>)> {
        let command = Command {
            document: self.document,
            parameters: &self.parameters,
            instances,
            comment: "bastionctl",
            delivery_s: u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).min(2_592_000),
            concurrency: Some(&self.fleet.concurrency),
            max_errors: Some(&self.fleet.max_errors),
        };
        let id = cloud.send_command(&command).await?;
        let debt = Debt::Command { id: id.clone(), instance: None };
        run.debts.add(cloud, debt.clone());
        run.printer.detail(format_args!("command {id} to {} hosts", instances.len()));
        let mut board = Board::new(instances);
        // Losing the watcher's arm loses nothing: the board is asked for again below.
        let interrupted = tokio::select! {
            watched = watch(run, cloud, &id, &mut board, timeout) => { watched?; None }
            signal = signals.any() => Some(signal),
        };
        if !board.is_over() {
            if interrupted.is_none() {
                run.printer.note(format_args!(
                    "note: {} hosts have not ended within {}: cancelled",
                    board.open().len(),
                    palisade_types::format_duration(timeout)
                ));
            }
            cloud.cancel_command(&id, &[]).await?;
            let bound = watch(run, cloud, &id, &mut board, CANCEL_WAIT);
            bound.await?;
        }
        run.debts.forget(&debt);
        run.printer.progress_done();
        let results = read_all(cloud, &id, instances).await?;
        Ok((results, interrupted))
    }
}

/// Follows a command until all its hosts have ended or the time is over.
async fn watch(
    run: &Run,
    cloud: &Cloud,
    id: &str,
    board: &mut Board,
    at_most: Duration,
) -> Outcome<()> {
    let deadline = Instant::now() + at_most;
    let mut pause = FIRST_WAIT;
    loop {
        board.update(&cloud.invocations(id).await?);
        run.printer.progress(board.line());
        if board.is_over() || Instant::now() >= deadline {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(clock::jitter(pause).min(left)).await;
        pause = (pause * 3 / 2).min(LAST_WAIT);
    }
}

/// Output of each host, in their order.
async fn read_all(cloud: &Cloud, id: &str, instances: &[String]) -> Outcome<Vec<HostResult>> {
    let mut results = Vec::new();
    let mut waiting = instances.iter().enumerate();
    let mut readers = JoinSet::new();
    loop {
        while readers.len() < READERS {
            let Some((at, instance)) = waiting.next() else { break };
            let (cloud, id, instance) = (cloud.clone(), id.to_owned(), instance.clone());
            readers.spawn(async move {
                let read = cloud.invocation(&id, &instance).await;
                (at, read.map(|ended| HostResult::of(&instance, ended)))
            });
        }
        match readers.join_next().await {
            Some(Ok((at, read))) => results.push((at, read?)),
            Some(Err(e)) => return Err(Failed::because("read a host's output", &e)),
            None => break,
        }
    }
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

fn not_started(instance: &str) -> HostResult {
    let mut result = HostResult::of(instance, None);
    "NotStarted".clone_into(&mut result.status);
    result
}

/// Prints every host's result, and returns how many are not good.
fn print(run: &Run, results: &[HostResult]) -> usize {
    let bad: Vec<_> = results.iter().filter(|r| !r.is_good()).collect();
    if run.printer.is_json() {
        run.printer.json(&results);
        return bad.len();
    }
    for result in results {
        let HostResult { instance, status, exit_code, .. } = result;
        let code = if *exit_code > 0 { format!(", exit code {exit_code}") } else { String::new() };
        run.printer.line(format_args!("== {instance}: {status}{code}"));
        for text in [&result.stdout, &result.stderr] {
            let text = clean_lines(text);
            if !text.trim().is_empty() {
                run.printer.line(text.trim_end());
            }
        }
        if result.truncated {
            run.printer.line("... cut by SSM: it keeps the first 24,000 characters of output and 8,000 of errors");
        }
    }
    let good = results.len() - bad.len();
    run.printer.note(format_args!("{good} of {} hosts succeeded", results.len()));
    if !bad.is_empty() {
        let list = bad.iter().take(20).map(|r| format!("{} ({})", r.instance, r.status));
        let more = if bad.len() > 20 { ", ..." } else { "" };
        let list = list.collect::<Vec<_>>().join(", ");
        run.printer.note(format_args!("not: {list}{more}"));
    }
    bad.len()
}
