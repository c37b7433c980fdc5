//! `bastionctl`: so far it prints its help and nothing else. Grants on the host come first.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Short-lived SSH, SFTP and tunnels to Palisade hosts through SSM.
///
/// This version of bastionctl prints this help only: it has no commands yet.
#[derive(Debug, Parser)]
#[command(name = "bastionctl", version, max_term_width = 100)]
struct Cli {}

fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    // Without a command there is nothing to do, and that is wrong usage.
    match Cli::command().print_help() {
        Ok(()) => ExitCode::from(2),
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_that_there_are_no_commands() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("it has no commands yet"), "{help}");
    }
}
