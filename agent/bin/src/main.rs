//! `palisade`: the host agent (`palisade run`) and its local command line.

mod access_wiring;
mod app;
mod check;
mod cli;
mod ctl;
mod doctor;
mod exit;
mod firewall_load;
mod import;
mod keys;
mod life;
mod logging;
mod modules;
mod place;
mod printer;
mod reexec;
mod rollback;
mod signals;
mod ssh_setup;
mod supervisor_socket;
mod systemd;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, ImportVerb, Verb};
use exit::Failed;
use printer::Printer;

fn main() -> ExitCode {
    // sshd waits for it, twice a login: nothing that it does not need is loaded first.
    if let Some(code) = keys::main() {
        return code;
    }
    let cli = Cli::parse();
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
        Verb::Client(verb) => ctl::run(&cli.place, verb, printer),
    }
}
