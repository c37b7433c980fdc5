//! `palisade access setup` and `remove`.

use std::process::ExitCode;

use crate::{cli::Place, exit::Failed, printer::Printer};

pub(crate) async fn setup(_place: &Place, _printer: &Printer) -> Result<ExitCode, Failed> {
    Ok(ExitCode::FAILURE)
}

pub(crate) async fn remove(_place: &Place, _printer: &Printer) -> Result<ExitCode, Failed> {
    Ok(ExitCode::FAILURE)
}
