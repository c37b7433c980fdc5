//! Telling others where the host stands: again until it is taken, and not twice the same.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    compliance, inventory,
    model::Report,
    ports::{Again, Compliance, ComplianceError},
    status::{Status, Told},
};
use crate::{clock::WallClock, errors::Chain};

/// Rest after the first failed try; doubled with each further one.
const FIRST_REST: Duration = Duration::from_secs(2);
/// Longest rest. Tries go on with it: the latest report is always worth telling.
const LONGEST_REST: Duration = Duration::from_secs(900);
/// What was taken is told anew after this: the host may have been registered afresh, and inventory
/// is kept for thirty days only.
const TELL_ANEW: Duration = Duration::from_secs(24 * 3600);

/// Tells `cloud` of every new report of `instance`, until told to stop.
pub async fn run(
    mut status: watch::Receiver<Status>,
    cloud: impl Compliance,
    instance: String,
    clock: impl WallClock,
    told: watch::Sender<Told>,
    stop: CancellationToken,
) {
    let mut taken = Taken::default();
    let mut tries = 0_u32;
    loop {
        let report = status.borrow_and_update().report.clone();
        let mut rest = None;
        if let Some(report) = &report {
            // Losing it half-way loses nothing: each upload is the whole list.
            let result = tokio::select! {
                result = tell(report, &cloud, &instance, &mut taken) => result,
                () = stop.cancelled() => return,
            };
            match result {
                Ok(()) => {
                    tries = 0;
                    told.send_replace(Told::UpToDate { at: clock.now() });
                }
                Err(e) => {
                    tries = tries.saturating_add(1);
                    let error = words(&e);
                    tracing::warn!(%error, tries, "where the host stands could not be told");
                    match e.again {
                        Again::Never => drop(told.send_replace(Told::Refused { error })),
                        Again::Later => {
                            rest = Some(backoff(tries));
                            told.send_replace(Told::Waiting { error: Some(error), tries });
                        }
                    }
                }
            }
        }
        let changed = async {
            // Much of a status changes without a new report.
            status.wait_for(|s| s.report.is_some() && s.report != report).await.map(drop)
        };
        let again = async {
            match rest {
                Some(rest) => time::sleep(rest).await,
                None => std::future::pending().await,
            }
        };
        // Each arm only waits; the status keeps what came meanwhile.
        tokio::select! {
            changed = changed => if changed.is_err() { return stop.cancelled().await },
            () = again => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Hashes of what was taken last.
#[derive(Debug, Default)]
struct Taken {
    /// Since when it is remembered.
    since: Option<Instant>,
    compliance: Option<String>,
    inventory: Option<String>,
}

async fn tell(
    report: &Report,
    cloud: &impl Compliance,
    instance: &str,
    taken: &mut Taken,
) -> Result<(), ComplianceError> {
    if taken.since.is_none_or(|since| since.elapsed() >= TELL_ANEW) {
        *taken = Taken { since: Some(Instant::now()), ..Taken::default() };
    }
    let upload = compliance(report, instance);
    if taken.compliance.as_ref() != Some(&upload.hash) {
        cloud.put(&upload).await?;
        taken.compliance = Some(upload.hash);
    }
    let upload = inventory(report, instance);
    if taken.inventory.as_ref() != Some(&upload.hash) {
        cloud.put_inventory(&upload).await?;
        taken.inventory = Some(upload.hash);
    }
    Ok(())
}

fn words(e: &ComplianceError) -> String {
    match &e.hint {
        Some(hint) => format!("{}; {hint}", Chain(e)),
        None => Chain(e).to_string(),
    }
}

fn backoff(tries: u32) -> Duration {
    FIRST_REST
        .saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(16)))
        .min(LONGEST_REST)
}

#[cfg(test)]
mod tests;
