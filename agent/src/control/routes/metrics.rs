//! What the agent counts, as Prometheus reads it.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use palisade_types::control::{Failure, FailureKind};

use super::{Backend, Failed, not_configured};
use crate::{errors::Chain, metrics};

pub(super) async fn text(State(b): State<Backend>) -> Result<Response, Failed> {
    let handle = b.modules.borrow().metrics.clone().ok_or_else(|| not_configured("metrics"))?;
    let text = handle.text().await.map_err(|e| {
        Failure::new(FailureKind::Busy, Chain(&e).to_string())
            .hint("it is being started again; ask again in a moment")
    })?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
