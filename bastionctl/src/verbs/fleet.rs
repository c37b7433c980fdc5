//! `exec`, `status`, `patch` and `restart`: a command on many hosts through Run Command, with one
//! result for each host.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::ssh::words;
use crate::{
    child::{self, Signals},
    cli, clock,
    cloud::{Cloud, ssm::Command},
    debts::Debt,
    failed::{Failed, Outcome},
    fleet::{Board, HostResult, exit_code, is_amount},
    run::Run,
    settings, targets,
};
use palisade_cloud::terminal::clean_lines;

/// Hosts that SSM takes in one command by their ids.
const PER_COMMAND: usize = 50;
/// Questions for output under way at a time.
const READERS: usize = 8;
const FIRST_WAIT: Duration = Duration::from_millis(150);
const LAST_WAIT: Duration = Duration::from_secs(2);
/// After the end of waiting, for hosts to hear that it is over.
const CANCEL_WAIT: Duration = Duration::from_secs(3);

/// After a signal, for all that is left to do: cancel, and read what there is.
const AFTER_SIGNAL: Duration = Duration::from_secs(10);
/// Without one, for the outputs of one command; each question is bounded by itself too.
const READ_WAIT: Duration = Duration::from_secs(300);

/// How a command on some hosts went.
struct Part {
    results: Vec<HostResult>,
    interrupted: Option<Signal>,
    /// It could not be followed to its end.
    failed: Option<Failed>,
}

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
            let cloud = run.cloud_of_all(&fleet.targets).await?;
            let hosts = targets::many(&cloud, &run.settings, &fleet.targets).await?;
            Ok((cloud, hosts))
        };
        let (cloud, hosts) = run.until_signal(signals, setup).await?;
        // Nothing is sent to a host without a line; it counts as failed all the same, in the end.
        let lost: Vec<_> =
            hosts.offline.iter().map(|i| HostResult::none(i, "Unreachable")).collect();
        let instances = hosts.online;
        let mut results: Vec<HostResult> = Vec::new();
        let mut ended = None;
        // SSM takes so many hosts at a time; the next ones follow when these have ended, so that the
        // bound on failures holds over all of them.
        for part in instances.chunks(PER_COMMAND) {
            let failed = results.iter().filter(|r| !r.is_good()).count();
            if ended.is_some() || exit_code(failed, instances.len(), &fleet.max_errors) != 0 {
                results.extend(part.iter().map(|i| HostResult::none(i, "NotStarted")));
                continue;
            }
            match self.part(run, &cloud, part, timeout, signals).await {
                Ok(done) => {
                    results.extend(done.results);
                    if let Some(signal) = done.interrupted {
                        let name = signal.as_str();
                        run.printer.note(format_args!("interrupted by {name}: cancelled"));
                        ended = Some(Ok(child::of_signal(signal)));
                    } else if let Some(failed) = done.failed {
                        ended = Some(Err(failed));
                    }
                }
                // Nothing has run anywhere, so there is nothing to print.
                Err(failed) if results.is_empty() => return Err(failed),
                Err(failed) => {
                    results.extend(part.iter().map(|i| HostResult::none(i, "NotStarted")));
                    ended = Some(Err(failed));
                }
            }
        }
        results.extend(lost);
        let failed = print(run, &results);
        ended.unwrap_or_else(|| Ok(exit_code(failed, results.len(), &fleet.max_errors)))
    }

    /// One command on up to fifty hosts.
    async fn part(
        &self,
        run: &Run,
        cloud: &Cloud,
        instances: &[String],
        timeout: Duration,
        signals: &mut Signals,
    ) -> Outcome<Part> {
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
        let (interrupted, failed) = tokio::select! {
            watched = watch(run, cloud, &id, &mut board, timeout) => (None, watched.err()),
            signal = signals.any() => (Some(signal), None),
        };
        // The command has run: whatever fails from here on, each host has its result.
        let bound = if interrupted.is_some() { AFTER_SIGNAL } else { READ_WAIT };
        let deadline = Instant::now() + bound;
        let mut owed = false;
        if !board.is_over() {
            if interrupted.is_none() && failed.is_none() {
                run.printer.note(format_args!(
                    "note: {} hosts have not ended within {}: cancelled",
                    board.open().len(),
                    palisade_types::format_duration(timeout)
                ));
            }
            let cancel = async {
                cloud.cancel_command(&id, &[]).await?;
                watch(run, cloud, &id, &mut board, CANCEL_WAIT).await
            };
            let cancelled = timeout_at(deadline, cancel).await;
            let why = match cancelled {
                Ok(Ok(())) => None,
                Ok(Err(failed)) => Some(failed.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(why) = why {
                // It is tried once more at the program's end.
                owed = true;
                run.printer.progress_done();
                run.printer.note(format_args!("note: cancel command {id}: {why}"));
            }
        }
        if !owed {
            run.debts.forget(&debt);
        }
        run.printer.progress_done();
        let results = read_all(run, cloud, &id, instances, deadline).await;
        Ok(Part { results, interrupted, failed })
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

/// Output of each host, in their order. What cannot be read in time is told as unknown.
async fn read_all(
    run: &Run,
    cloud: &Cloud,
    id: &str,
    instances: &[String],
    deadline: Instant,
) -> Vec<HostResult> {
    let mut results: Vec<_> = instances.iter().map(|i| HostResult::none(i, "Unknown")).collect();
    let (mut unread, mut why) = (instances.len(), "no answer in time".to_owned());
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
        // Readers that are late go with the set.
        match timeout_at(deadline, readers.join_next()).await {
            Ok(Some(Ok((at, Ok(read))))) => {
                if let Some(result) = results.get_mut(at) {
                    *result = read;
                    unread -= 1;
                }
            }
            Ok(Some(Ok((_, Err(error))))) => why = error.to_string(),
            Ok(Some(Err(error))) => why = error.to_string(),
            Ok(None) | Err(_) => break,
        }
    }
    if unread > 0 {
        run.printer.note(format_args!("note: {unread} hosts' results could not be read: {why}"));
    }
    results
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
