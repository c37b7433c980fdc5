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
    firewall::{Explanation, Handle, Plan, Refreshed, Status},
};

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().firewall.clone().ok_or_else(|| not_configured("firewall"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status()))
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
) -> Answer<Vec<Refreshed>> {
    let handle = handle(&b)?;
    b.events.asked("firewall", "approval asked for", source.as_str(), "", &peer.to_string());
    Ok(Json(handle.approve(&source).await.map_err(|e| failed(&e))?))
}

fn failed(e: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(FailureKind::Failed, Chain(e).to_string())
}
