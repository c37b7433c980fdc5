//! Requests about the agent as a whole.

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use palisade_types::control::Updated;
use serde::Deserialize;

use super::{
    Answer, Backend, Overview,
    programs::{WithUsage, ended},
};
use crate::{control::Peer, events::Event};

pub(super) async fn status(
    State(b): State<Backend>,
    Query(q): Query<WithUsage>,
) -> Answer<Overview> {
    let usage = if q.usage { Some(b.supervise.usage().await.map_err(ended)?) } else { None };
    let modules = b.modules.borrow().clone();
    let mut agent = b.app.status();
    agent
        .degraded
        .extend(modules.troubles.iter().map(|(module, what)| format!("{module}: {what}")));
    Ok(Json(Overview {
        agent,
        programs: b.supervise.status().borrow().clone(),
        firewall: modules.firewall.map(|h| h.watch().borrow().clone()),
        origin: modules.origin.map(|h| h.status()),
        logs: modules.logs.map(|h| h.status()),
        patch: modules.patch.map(|h| h.status()),
        access: modules.access.map(|h| h.status()),
        usage: usage.map(|u| u.as_ref().clone()),
    }))
}

#[derive(Debug, Deserialize)]
pub(super) struct Last {
    #[serde(default = "twenty")]
    last: usize,
}

fn twenty() -> usize {
    20
}

pub(super) async fn events(State(b): State<Backend>, Query(q): Query<Last>) -> Json<Vec<Event>> {
    Json(b.events.recent(q.last).await)
}

pub(super) async fn update(State(b): State<Backend>, peer: Extension<Peer>) -> Answer<Updated> {
    Ok(Json(b.app.update(peer.to_string()).await?))
}

pub(super) async fn upgrade(State(b): State<Backend>, peer: Extension<Peer>) -> Answer<()> {
    Ok(Json(b.app.upgrade(peer.to_string()).await?))
}
