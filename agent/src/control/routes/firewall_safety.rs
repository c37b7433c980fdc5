//! Requests to change the firewall's settings without locking anybody out.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use palisade_types::control::{Failure, FailureKind, FirewallApply};

use super::{Answer, Backend, firewall::failed, not_configured};
use crate::{
    control::Peer,
    firewall::safety::{Applied, ApplyRequest, Proposal, Refused, SafetyHandle, Tested},
};

/// The shortest and the longest trial.
const CONFIRM: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

fn handle(b: &Backend) -> Result<SafetyHandle, Failure> {
    b.modules.borrow().safety.clone().ok_or_else(|| not_configured("firewall"))
}

pub(super) async fn plan(State(b): State<Backend>, peer: Extension<Peer>) -> Answer<Proposal> {
    let safety = handle(&b)?;
    let settings = b.app.firewall_settings().await?;
    Ok(Json(safety.plan(settings, peer.pid()).await.map_err(|e| refused(&e))?))
}

pub(super) async fn apply(
    State(b): State<Backend>,
    peer: Extension<Peer>,
    Json(FirewallApply { confirm_ms, force }): Json<FirewallApply>,
) -> Answer<Applied> {
    let safety = handle(&b)?;
    let confirm = confirm_ms.map(Duration::from_millis);
    if confirm.is_some_and(|d| !CONFIRM.contains(&d)) {
        let error = "the time to confirm must be 1s to 1h";
        return Err(Failure::new(FailureKind::BadRequest, error).into());
    }
    let settings = b.app.firewall_settings().await?;
    let by = peer.to_string();
    let how = match (confirm, force) {
        (Some(d), false) => format!("rolled back after {d:?} unless confirmed"),
        (Some(d), true) => format!("by force, rolled back after {d:?} unless confirmed"),
        (None, true) => "by force".to_owned(),
        (None, false) => String::new(),
    };
    let request = ApplyRequest { settings, confirm, force, asker: peer.pid(), by: by.clone() };
    let came = safety.apply(request).await;
    let what = if came.is_ok() { "settings applied" } else { "settings refused" };
    b.events.asked("firewall", what, "", how, &by);
    Ok(Json(came.map_err(|e| refused(&e))?))
}

pub(super) async fn confirm(State(b): State<Backend>, peer: Extension<Peer>) -> Answer<()> {
    handle(&b)?.confirm().await.map_err(|e| refused(&e))?;
    b.events.asked("firewall", "settings confirmed", "", "", &peer.to_string());
    Ok(Json(()))
}

pub(super) async fn rollback(State(b): State<Backend>, peer: Extension<Peer>) -> Answer<()> {
    handle(&b)?.rollback(peer.to_string()).await.map_err(|e| refused(&e))?;
    b.events.asked("firewall", "settings rolled back", "", "", &peer.to_string());
    Ok(Json(()))
}

pub(super) async fn test(State(b): State<Backend>) -> Answer<Tested> {
    let safety = handle(&b)?;
    let settings = b.app.firewall_settings().await?;
    Ok(Json(safety.test(settings).await.map_err(|e| refused(&e))?))
}

fn refused(e: &Refused) -> Failure {
    let (kind, hint) = match e {
        Refused::Unsafe(_) => (
            FailureKind::Refused,
            "see palisade firewall plan; with --force it is applied all the same, best with \
             --confirm 60s",
        ),
        Refused::OnTrial => {
            (FailureKind::Refused, "palisade firewall confirm or palisade firewall rollback first")
        }
        Refused::NoTrial => {
            (FailureKind::NotFound, "palisade firewall status shows what is in force")
        }
        Refused::Failed(_) => {
            (FailureKind::Failed, "the settings before are in force; see palisade firewall status")
        }
        Refused::Gone(gone) => return failed(gone),
    };
    Failure::new(kind, e.to_string()).hint(hint)
}
