//! Where the agent's own log goes.

mod journal;

use std::{io, sync::OnceLock};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use self::journal::{Journal, Plain};
use crate::cli::{LogFormat, RunArgs};

/// Where systemd has it.
const SOCKET: &str = "/run/systemd/journal/socket";

static JOURNAL: OnceLock<Journal> = OnceLock::new();

/// Starts logging. To be called once.
pub(crate) fn start(args: &RunArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log_level)
        .with_context(|| format!("read --log-level {:?}", args.log_level))?;
    let text = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match (args.log, connected_to_journal()) {
        (LogFormat::Journald, _) | (LogFormat::Auto, true) => {
            let journal = Journal::new(SOCKET.into()).context("connect to the systemd journal")?;
            let journal: &'static Journal = JOURNAL.get_or_init(|| journal);
            let plain = tracing_subscriber::fmt::layer().event_format(Plain).with_ansi(false);
            Box::new(plain.with_writer(journal))
        }
        (LogFormat::Auto | LogFormat::Text, _) => {
            Box::new(text().with_ansi(io::IsTerminal::is_terminal(&io::stderr())))
        }
        (LogFormat::Json, _) => Box::new(text().json()),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// Sends what the journal did not take at once.
pub(crate) async fn catch_up(stop: CancellationToken) {
    match JOURNAL.get() {
        Some(journal) => journal.catch_up(stop).await,
        None => stop.cancelled().await,
    }
}

/// Whether standard error is the stream that systemd opened to the journal (`JOURNAL_STREAM`).
fn connected_to_journal() -> bool {
    use std::os::{fd::AsFd as _, unix::fs::MetadataExt as _};
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(meta) = std::fs::File::from(fd).metadata() else { return false };
    stream == format!("{}:{}", meta.dev(), meta.ino()).as_str()
}
