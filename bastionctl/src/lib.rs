//! Short-lived access to Palisade hosts through SSM: what `bastionctl` is made of.
//!
//! Two halves: decisions that are pure (`cli`, `settings`, `targets::Selector`, `forward`,
//! `ssh_files`, `fleet::judge`), and edges that touch the world (`cloud`, `agent`, `way`, `verbs`).

mod access;
mod agent;
mod clock;
mod cloud;
mod dirs;
mod failed;
mod harden;
mod keys;
mod printer;
mod program;
mod settings;
mod targets;

/// The command line.
mod cli;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    harden::harden();
    let printer = printer::Printer::new(cli.common.json, cli.common.verbose);
    printer.detail(format_args!("{cli:?}"));
    ExitCode::SUCCESS
}
