//! `palisade check`.

use std::process::ExitCode;

use palisade_agent::config;

use crate::{cli::Place, exit, exit::Failed, printer::Printer};

/// Prints every mistake, one a line; exit code 2 if there is any.
pub(crate) fn check(place: &Place, printer: &Printer) -> Result<ExitCode, Failed> {
    match config::load(&place.config) {
        Ok(settings) => {
            for warning in &settings.warnings {
                printer.line(format_args!("warning: {warning}"));
            }
            let n = settings.supervise.processes.len();
            let plural = if n == 1 { "" } else { "es" };
            printer.line(format_args!("{}: ok, {n} process{plural}", place.config.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            printer.line(&mistakes);
            let n = mistakes.all().len();
            let plural = if n == 1 { "" } else { "s" };
            printer.note(format_args!("error: {n} mistake{plural} in the configuration"));
            Ok(ExitCode::from(exit::USAGE))
        }
    }
}
