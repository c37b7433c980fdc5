//! `palisade run`: from the configuration to a life of the agent, and from one life to the next.
//!
//! ```text
//! configuration ─> App: build, run ─> Stopped, Broken
//!   ^                      │
//!   │                      ├── Upgrade ─> the new binary, in this process, on trial until it is ready
//!   │                      │                └── not ready: the one before takes over again
//!   └── settings of before ┴── the kernel refused it: build anew
//! ```

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow};
use palisade_agent::{
    config,
    sys::inherit::{self, NamedFds},
};
use tokio::time;

use crate::{
    app::{self, App, End, Start},
    cli::{Place, RunArgs},
    exit::{self, Failed},
    logging,
    reexec::Origin,
    rollback::{self, WayBack},
    wiring,
};

/// A part that must not fail did: systemd starts us again, and the programs are adopted.
const BROKEN: u8 = 70;
/// How long a new binary may take to be ready before the one before it takes over again.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// `palisade run`.
pub(crate) fn main(place: &Place, args: &RunArgs) -> Result<ExitCode, Failed> {
    // Before anything opens a file: the numbers that were handed on are ours to take.
    let taken = inherit::from_exec(std::env::var_os(inherit::FDS));
    logging::start(args)?;
    let mut inherited = taken.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "nothing is taken over from the binary before");
        NamedFds::new()
    });
    let origin = Origin::of_this_process()?;
    let config = std::path::absolute(&place.config).context("find the configuration")?;
    let mut not_upgraded = rollback::because();
    let mut trial = WayBack::on_trial();
    let (mut settings, config_state, mut files) = match config::read(&config) {
        Ok((settings, files)) => {
            for warning in &settings.warnings {
                tracing::warn!("{warning}");
            }
            (settings, app::current(&config), Some(files))
        }
        Err(mistakes) => {
            for mistake in mistakes.all() {
                tracing::error!("{mistake}");
            }
            if let Some(way) = trial {
                return Err(given_up(&origin, &way, anyhow!("the configuration has mistakes")));
            }
            let Some(settings) = config::last_good(&wiring::usual_safe_dir()) else {
                return Ok(ExitCode::from(exit::USAGE));
            };
            tracing::error!("starting with the last configuration that had no mistakes");
            (settings, app::stale(&config, &mistakes), None)
        }
    };
    let way_back = WayBack::new(&wiring::safe_dir(&settings.host.state_dir));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    loop {
        let start = Start {
            config: config.clone(),
            origin: origin.clone(),
            config_state: config_state.clone(),
            files: files.take(),
            way_back: way_back.clone(),
            not_upgraded,
        };
        let life = async {
            let building = App::build(start, settings, inherited);
            let app = match &trial {
                Some(_) => time::timeout(UP_WITHIN, building)
                    .await
                    .with_context(|| format!("not ready within {UP_WITHIN:?}"))
                    .flatten(),
                None => building.await,
            };
            anyhow::Ok(Box::pin(app?.run()).await)
        };
        match runtime.block_on(life) {
            Ok(End::Stopped) => return Ok(ExitCode::SUCCESS),
            Ok(End::Broken) => return Ok(ExitCode::from(BROKEN)),
            Ok(End::Upgrade(old, files)) => {
                let (e, files) = origin.become_it(&way_back, files);
                tracing::error!(error = %e, "the new binary could not be executed; going on");
                way_back.is_not_needed();
                trial = None;
                let path = origin.binary.display();
                not_upgraded = Some(format!("{path} could not be executed: {e}"));
                (settings, inherited) = (*old, files);
            }
            Err(e) => match trial {
                Some(way) => return Err(given_up(&origin, &way, e)),
                None => return Err(e.into()),
            },
        }
    }
}

/// Gives way to the binary before this one. Returns why not even that was possible.
fn given_up(origin: &Origin, way: &WayBack, e: anyhow::Error) -> Failed {
    let why = format!("{e:#}");
    tracing::error!(error = why, "this new binary does not come up; going back");
    let refused = origin.go_back(way, &why);
    tracing::error!(error = %refused, "the binary before it could not be executed");
    e.into()
}
