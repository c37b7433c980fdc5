//! Requests about the origin guard.

use axum::{Extension, Json, extract::State};
use palisade_types::control::{DropSecret, Failure, FailureKind};

use super::{Answer, Backend, not_configured};
use crate::{
    control::Peer,
    origin::{DropError, DropRefusal, Handle, Refreshed, SecretId, Status},
};

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().origin.clone().ok_or_else(|| not_configured("origin_guard"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status()))
}

pub(super) async fn refresh(State(b): State<Backend>) -> Answer<Refreshed> {
    let failed = |e: crate::origin::Gone| Failure::new(FailureKind::Failed, e.to_string());
    Ok(Json(handle(&b)?.refresh().await.map_err(failed)?))
}

pub(super) async fn drop_secret(
    State(b): State<Backend>,
    peer: Extension<Peer>,
    Json(DropSecret { id }): Json<DropSecret>,
) -> Answer<Status> {
    let handle = handle(&b)?;
    let Some(secret) = SecretId::parse(&id) else {
        // What is no id may be the secret itself: it is not repeated.
        let error = "an id is the 8 hexadecimal digits that palisade origin status shows";
        return Err(Failure::new(FailureKind::BadRequest, error).into());
    };
    b.events.asked("origin", "end of a secret asked for", id, "", &peer.to_string());
    Ok(Json(handle.drop_secret(secret).await.map_err(|e| drop_failed(&e))?))
}

fn drop_failed(e: &DropError) -> Failure {
    let (kind, hint) = match e {
        DropError::Refused(DropRefusal::Unknown(_)) => {
            (FailureKind::NotFound, "palisade origin status shows their ids")
        }
        DropError::Refused(DropRefusal::Offered(_) | DropRefusal::Last(_)) => (
            FailureKind::Refused,
            "change it where it comes from; then palisade origin refresh, and drop it",
        ),
        DropError::Gone(_) => (FailureKind::Busy, "try again in a moment"),
    };
    Failure::new(kind, e.to_string()).hint(hint)
}
