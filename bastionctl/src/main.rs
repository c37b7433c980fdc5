//! `bastionctl`: so far it prints its help and nothing else. Grants on the host come first.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use cli::Cli;

fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    // Without a command there is nothing to do, and that is wrong usage.
    match Cli::command().print_help() {
        Ok(()) => ExitCode::from(2),
        Err(_) => ExitCode::FAILURE,
    }
}
