//! Requests about log shipping.

use std::time::Duration;

use axum::{Json, extract::State};
use palisade_types::control::{Failure, FailureKind, Flush};

use super::{Answer, Backend, not_configured};
use crate::{
    errors::Chain,
    logs::{Handle, Status},
};

/// A flush does not hold a connection longer than this.
const MAX_FLUSH: Duration = Duration::from_secs(600);

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().logs.clone().ok_or_else(|| not_configured("logs"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status()))
}

pub(super) async fn flush(
    State(b): State<Backend>,
    Json(Flush { timeout_ms }): Json<Flush>,
) -> Answer<Status> {
    let handle = handle(&b)?;
    let within = Duration::from_millis(timeout_ms).min(MAX_FLUSH);
    handle.flush(within).await.map_err(|e| {
        Failure::new(FailureKind::Failed, Chain(&e).to_string())
            .hint("what waits is kept on disk; palisade logs status shows why it is not shipped")
    })?;
    Ok(Json(handle.status()))
}
