//! Requests about the firewall.

use std::net::IpAddr;

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use palisade_types::control::{Approval, Failure, FailureKind};
use serde::Deserialize;

use super::{Answer, Backend, not_configured};
use crate::{
    control::Peer,
    errors::Chain,
    firewall::{
        self, ApproveError, Explanation, Handle, Outcome, Probed, Refreshed, SourceName, Status,
        drops::Report, history::Listed,
    },
};

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().firewall.clone().ok_or_else(|| not_configured("firewall"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    let mut status = handle(&b)?.status().await.map_err(|e| failed(&e))?;
    status.safety = b.modules.borrow().safety.as_ref().map(|s| s.status().borrow().clone());
    Ok(Json(status))
}

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    ip: IpAddr,
    port: Option<u16>,
    #[serde(default)]
    probe: bool,
}

pub(super) async fn explain(
    State(b): State<Backend>,
    Query(q): Query<Question>,
) -> Answer<Explanation> {
    let mut answer = handle(&b)?.explain(q.ip, q.port).await.map_err(|e| failed(&e))?;
    let safety = b.modules.borrow().safety.clone();
    if let Some(safety) = safety {
        answer.foreign = safety.foreign().await.map_err(|e| failed(&e))?;
        if let (true, Some(port)) = (q.probe, q.port) {
            answer.probe = Some(match safety.probe(answer.ip, port).await {
                Ok(verdict) => Probed::Sent(verdict),
                Err(e) => Probed::NotSent(Chain(&e).to_string()),
            });
        }
    }
    Ok(Json(answer))
}

pub(super) async fn refresh(State(b): State<Backend>) -> Answer<Vec<Refreshed>> {
    Ok(Json(handle(&b)?.refresh().await.map_err(|e| failed(&e))?))
}

pub(super) async fn approve(
    State(b): State<Backend>,
    peer: Extension<Peer>,
    Json(Approval { source, version }): Json<Approval>,
) -> Answer<Outcome> {
    let handle = handle(&b)?;
    let name = SourceName::try_from(source.clone())
        .map_err(|e| Failure::new(FailureKind::BadRequest, e.to_string()))?;
    b.events.asked("firewall", "approval asked for", source, "", &peer.to_string());
    let approved = handle.approve(name, version, peer.to_string()).await;
    Ok(Json(approved.map_err(|e| approve_failed(&e))?))
}

/// The rules that are wanted, in the words of nft's JSON.
pub(super) async fn export(State(b): State<Backend>) -> Answer<serde_json::Value> {
    let ruleset = handle(&b)?.ruleset().await.map_err(|e| failed(&e))?;
    let text = firewall::export(&ruleset).and_then(|bytes| serde_json::from_slice(&bytes));
    Ok(Json(text.map_err(|e| failed(&e))?))
}

pub(super) async fn drops(State(b): State<Backend>) -> Answer<Report> {
    let ask = b.modules.borrow().drops.clone().ok_or_else(|| not_configured("firewall"))?;
    Ok(Json(ask.report().await.map_err(|e| failed(&e))?))
}

/// Entries that are told at most.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
pub(super) struct Last {
    last: Option<usize>,
}

pub(super) async fn history(State(b): State<Backend>, Query(q): Query<Last>) -> Answer<Listed> {
    let ask = b.modules.borrow().firewall_history.clone();
    let ask = ask.ok_or_else(|| not_configured("firewall"))?;
    let n = q.last.unwrap_or(20).min(MOST);
    Ok(Json(ask.last(n).await.map_err(|e| failed(&e))?))
}

fn approve_failed(e: &ApproveError) -> Failure {
    let kind = match e {
        ApproveError::NoSource(_) | ApproveError::NothingHeld(_) => FailureKind::NotFound,
        ApproveError::Several(_) => FailureKind::BadRequest,
        ApproveError::Refused(_) | ApproveError::OtherVersion { .. } => FailureKind::Refused,
        ApproveError::Gone(_) => FailureKind::Busy,
    };
    Failure::new(kind, e.to_string()).hint("palisade firewall status shows what is held")
}

pub(super) fn failed(e: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(FailureKind::Failed, Chain(e).to_string())
}
