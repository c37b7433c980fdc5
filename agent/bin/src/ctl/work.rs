//! `palisade patch work`: one run of patches, as a process of its own.

use std::process::ExitCode;

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    config,
    errors::Chain,
    patch::{self, Journal as _, Left, Parts, Phase},
    sys::{
        children::Children,
        patch::{DiskJournal, HostPower, HostServices, Manager},
    },
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{agent_programs::AgentPrograms, client::Client};
use crate::{
    cli::{LogFormat, Place, RunArgs},
    exit::{self, Failed},
    logging,
};

/// Carries on the run of this name from where the journal says it is.
pub(super) async fn work(place: &Place, client: Client, id: &str) -> Result<ExitCode, Failed> {
    logging::start(&RunArgs { log: LogFormat::Auto, log_level: "info".to_owned() })?;
    let settings = match config::load(&place.config) {
        Ok(settings) => settings,
        Err(mistakes) => {
            tracing::error!("the configuration has mistakes: {mistakes}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let settings = settings.patch.context("the configuration has no patch section")?;
    let journal = DiskJournal::new(&settings.state_dir);
    let record = journal.load().context("read the journal of patch runs")?;
    let record = record.filter(|r| r.id == id && r.phase != Phase::Done);
    let Some(record) = record else {
        let what = format!("no run {id} waits in the journal; palisade patch run starts one");
        return Err(anyhow::Error::msg(what).into());
    };
    let stop = CancellationToken::new();
    let mut asked = signal(SignalKind::terminate()).context("listen to signals")?;
    let children = Children::default();
    let mut parts = Parts {
        packages: Manager::of_this_host(&children, &settings),
        services: HostServices::new(children.clone(), AgentPrograms(client)),
        power: HostPower::new(children),
        journal,
        clock: SystemClock,
    };
    let run = patch::run(record, &settings, &mut parts, &stop);
    let mut run = std::pin::pin!(run);
    let left = tokio::select! {
        left = &mut run => left,
        // Nobody is cut off in the middle of an installation: the run ends where that is safe.
        _ = asked.recv() => {
            stop.cancel();
            run.await
        }
    };
    match left {
        Ok(Left::Over | Left::Restarting | Left::Stopped) => Ok(ExitCode::SUCCESS),
        Err(e) => {
            tracing::error!(error = %Chain(&e), "the run ends: it cannot be written down");
            Ok(ExitCode::FAILURE)
        }
    }
}
