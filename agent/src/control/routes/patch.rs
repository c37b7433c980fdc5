//! Requests about patching.

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use palisade_types::control::{Failure, FailureKind, PatchRun};
use serde::Deserialize;

use super::{Answer, Backend, not_configured};
use crate::{
    control::Peer,
    patch::{Handle, Planned, Record, RunError, Status, When},
};

/// Runs that are told when nobody says how many.
const LAST: usize = 20;

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().patch.clone().ok_or_else(|| not_configured("patch"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status()))
}

pub(super) async fn plan(State(b): State<Backend>) -> Answer<Planned> {
    Ok(Json(handle(&b)?.plan().await.map_err(|e| Failure::new(FailureKind::Failed, e))?))
}

pub(super) async fn run(
    State(b): State<Backend>,
    peer: Extension<Peer>,
    Json(PatchRun { now }): Json<PatchRun>,
) -> Answer<Record> {
    let handle = handle(&b)?;
    let when = if now { When::Now } else { When::InWindow };
    b.events.asked("patch", "run asked for", "", if now { "now" } else { "" }, &peer.to_string());
    Ok(Json(handle.run(when, peer.to_string()).await.map_err(|e| failed(&e))?))
}

#[derive(Debug, Deserialize)]
pub(super) struct Last {
    last: Option<usize>,
}

pub(super) async fn history(
    State(b): State<Backend>,
    Query(q): Query<Last>,
) -> Answer<Vec<Record>> {
    let last = handle(&b)?.history(q.last.unwrap_or(LAST)).await;
    Ok(Json(last.map_err(|e| Failure::new(FailureKind::Failed, e))?))
}

fn failed(e: &RunError) -> Failure {
    let (kind, hint) = match e {
        RunError::Closed { .. } => {
            (FailureKind::Refused, "--now runs at once, and does not restart the host")
        }
        RunError::Running(_) => (FailureKind::Busy, "palisade patch status shows how far it is"),
        RunError::Failed(_) => (FailureKind::Failed, "runs are units of systemd: is it there?"),
        RunError::Gone(_) => (FailureKind::Busy, "the agent is stopping"),
    };
    Failure::new(kind, e.to_string()).hint(hint)
}
