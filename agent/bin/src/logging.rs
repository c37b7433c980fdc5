//! Where the agent's own log goes.

use std::io;

use anyhow::Context as _;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::cli::{LogFormat, RunArgs};

/// Starts logging. To be called once.
pub(crate) fn start(args: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log_level)
        .with_context(|| format!("read --log-level {:?}", args.log_level))?;
    let text = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match (args.log, connected_to_journal()) {
        (LogFormat::Journald, _) | (LogFormat::Auto, true) => {
            let journal = tracing_journald::layer().context("connect to the systemd journal")?;
            Box::new(journal.with_field_prefix(Some("PALISADE".to_owned())))
        }
        (LogFormat::Auto | LogFormat::Text, _) => {
            Box::new(text().with_ansi(io::IsTerminal::is_terminal(&io::stderr())))
        }
        (LogFormat::Json, _) => Box::new(text().json()),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// Whether standard error is the stream that systemd opened to the journal (`JOURNAL_STREAM`).
fn connected_to_journal() -> bool {
    use std::os::{fd::AsFd as _, unix::fs::MetadataExt as _};
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(meta) = std::fs::File::from(fd).metadata() else { return false };
    stream == format!("{}:{}", meta.dev(), meta.ino()).as_str()
}
