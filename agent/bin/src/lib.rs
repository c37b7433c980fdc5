//! `palisade`: the host agent (`palisade run`) and its local command line.

mod access_wiring;
mod app;
mod check;
mod cli;
mod ctl;
mod doctor;
mod exit;
mod firewall_load;
mod firewall_safety;
mod firewall_wiring;
mod guardian;
mod import;
mod keys;
mod life;
mod logging;
mod logs_wiring;
mod metrics_wiring;
mod modules;
mod origin_wiring;
mod own_events;
mod place;
mod printer;
mod reexec;
mod rollback;
mod signals;
mod ssh_setup;
mod supervisor_socket;
mod systemd;
mod version;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use cli::{Cli, ClientVerb, FirewallVerb, ImportVerb, Verb};
use exit::Failed;
use printer::Printer;

/// The whole program, which calls itself `version`.
#[must_use]
pub fn main(version: &'static str) -> ExitCode {
    // sshd waits for it, twice a login: nothing that it does not need is loaded first.
    if let Some(code) = keys::main() {
        return code;
    }
    version::set(version);
    let words = Cli::command().version(version).get_matches();
    let cli = Cli::from_arg_matches(&words).unwrap_or_else(|wrong| wrong.exit());
    let printer = Printer::new();
    match dispatch(cli, &printer) {
        Ok(code) => code,
        Err(failed) => {
            printer.failure(&failed);
            failed.code()
        }
    }
}

fn dispatch(cli: Cli, printer: &Printer) -> Result<ExitCode, Failed> {
    match cli.verb {
        Verb::Run(args) => life::main(&cli.place, &args),
        Verb::AuthorizedKeys(_) => {
            Err(Failed::Usage("authorized-keys must be the first word, as sshd has it".to_owned()))
        }
        Verb::Check => check::check(&cli.place, printer),
        Verb::Doctor(json) => doctor::run(&cli.place, json, printer),
        Verb::Import(ImportVerb::Supervisor(args)) => import::supervisor(&args, printer),
        Verb::Client(ClientVerb::Firewall(FirewallVerb::Guardian)) => guardian::guardian(printer),
        Verb::Client(ClientVerb::Firewall(FirewallVerb::Scratch)) => guardian::scratch(printer),
        Verb::Client(verb) => ctl::run(&cli.place, verb, printer),
    }
}
