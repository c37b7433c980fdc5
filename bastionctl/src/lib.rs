//! Short-lived access to Palisade hosts through SSM: what `bastionctl` is made of.
//!
//! Decisions are pure: `cli`, `settings`, `targets::Selector`, `ssh_files`, `agent::wire`. Edges touch
//! the world: `cloud`, `way`, `child`, `verbs`. Whatever a run made in the cloud is among its `debts`
//! until it is settled, on every way out.

mod access;
mod agent;
mod child;
mod cli;
mod cloud;
mod debts;
mod dirs;
mod failed;
mod fdpass;
mod fleet;
mod forward;
mod harden;
mod keeper;
mod keys;
mod printer;
mod program;
mod run;
mod settings;
mod ssh_files;
mod stripes;
mod targets;
mod verbs;
mod way;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use palisade_cloud::clock;
use tokio::runtime::Builder;

use crate::{
    child::Signals,
    cli::{Cli, Verb},
    failed::{Failed, Outcome},
    printer::Printer,
    run::Run,
};

/// Runs the program. Only its `main` is compiled with its `version`: another one takes no time.
#[must_use]
pub fn main(version: &'static str) -> ExitCode {
    let words = Cli::command().version(version).get_matches();
    let cli = Cli::from_arg_matches(&words).unwrap_or_else(|wrong| wrong.exit());
    harden::harden();
    let printer = Printer::new(cli.common.json, cli.common.verbose);
    match work(cli, printer) {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            printer.progress_done();
            printer.failure(&failed);
            ExitCode::from(failed.kind.code())
        }
    }
}

fn work(cli: Cli, printer: Printer) -> Outcome<u8> {
    // Before any runtime: ssh waits for it.
    if let Verb::InternalFd(args) = &cli.verb {
        return match fdpass::pass(&args.socket) {
            Ok(()) => Ok(0),
            Err(e) => Err(Failed::because("pass a connection to ssh", &e)),
        };
    }
    // One thread: bytes are moved, nothing is computed.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failed::because("start", &e))?;
    let run = Run::new(cli.common, printer)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| Failed::because("take signals", &e))?;
        let outcome = verbs::dispatch(&run, cli.verb, &mut signals).await;
        run.settle().await;
        run.at("done");
        outcome
    });
    // A read of standard input may be under way in a thread; nobody waits for what it gets.
    runtime.shutdown_background();
    outcome
}
