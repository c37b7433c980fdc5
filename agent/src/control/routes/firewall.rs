//! Requests about the firewall.

use std::net::IpAddr;

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use palisade_types::control::{Failure, FailureKind, Source};
use serde::Deserialize;

use super::{Answer, Backend, not_configured};
use crate::{
    control::Peer,
    errors::Chain,
    firewall::{ApproveError, Explanation, Handle, Outcome, Plan, Refreshed, SourceName, Status},
};

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().firewall.clone().ok_or_else(|| not_configured("firewall"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status().await.map_err(|e| failed(&e))?))
}

pub(super) async fn plan(State(b): State<Backend>) -> Answer<Plan> {
    Ok(Json(handle(&b)?.plan().await.map_err(|e| failed(&e))?))
}

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    ip: IpAddr,
    port: Option<u16>,
}

pub(super) async fn explain(
    State(b): State<Backend>,
    Query(q): Query<Question>,
) -> Answer<Explanation> {
    Ok(Json(handle(&b)?.explain(q.ip, q.port).await.map_err(|e| failed(&e))?))
}

pub(super) async fn refresh(State(b): State<Backend>) -> Answer<Vec<Refreshed>> {
    Ok(Json(handle(&b)?.refresh().await.map_err(|e| failed(&e))?))
}

pub(super) async fn approve(
    State(b): State<Backend>,
    peer: Extension<Peer>,
    Json(Source { source }): Json<Source>,
) -> Answer<Outcome> {
    let handle = handle(&b)?;
    let name = SourceName::try_from(source.clone())
        .map_err(|e| Failure::new(FailureKind::BadRequest, e.to_string()))?;
    b.events.asked("firewall", "approval asked for", source, "", &peer.to_string());
    Ok(Json(handle.approve(name).await.map_err(|e| approve_failed(&e))?))
}

fn approve_failed(e: &ApproveError) -> Failure {
    let kind = match e {
        ApproveError::NoSource(_) | ApproveError::NothingHeld(_) => FailureKind::NotFound,
        ApproveError::Refused(_) => FailureKind::Refused,
        ApproveError::Gone(_) => FailureKind::Busy,
    };
    Failure::new(kind, e.to_string()).hint("palisade firewall status shows what is held")
}

fn failed(e: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(FailureKind::Failed, Chain(e).to_string())
}
