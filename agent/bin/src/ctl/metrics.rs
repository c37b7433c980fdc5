//! The verb that prints metrics.

use std::process::ExitCode;

use anyhow::Context as _;

use super::client::Client;
use crate::{exit::Failed, printer::Printer};

pub(super) async fn print(client: &Client, printer: &Printer) -> Result<ExitCode, Failed> {
    let text = client.get_bytes("/metrics").await?;
    printer.bytes(&text).context("write the metrics")?;
    Ok(ExitCode::SUCCESS)
}
