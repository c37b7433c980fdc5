//! Requests about access. Only root may grant and revoke: who may use the control socket for programs
//! is not meant to be able to log in as anybody.

use axum::{Extension, Json, body::Bytes, extract::State};
use palisade_types::{
    control::{Failure, FailureKind, Revoke},
    grant::{GrantReply, GrantRequest, GrantRow, MAX_REQUEST, Revoked},
};

use super::{Answer, Backend, not_configured};
use crate::{
    access::{GrantError, Handle, RevokeError, Status, plain},
    control::Peer,
    errors::Chain,
};

fn handle(b: &Backend) -> Result<Handle, Failure> {
    b.modules.borrow().access.clone().ok_or_else(|| not_configured("access"))
}

fn root_only(peer: Peer) -> Result<(), Failure> {
    if peer.is_root() {
        return Ok(());
    }
    let error = format!("access is granted and revoked by root only, not by {peer}");
    Err(Failure::new(FailureKind::Refused, error).hint("run as root, or by the SSM document"))
}

pub(super) async fn status(State(b): State<Backend>) -> Answer<Status> {
    Ok(Json(handle(&b)?.status()))
}

pub(super) async fn list(State(b): State<Backend>) -> Answer<Vec<GrantRow>> {
    Ok(Json(handle(&b)?.status().grants))
}

pub(super) async fn grant(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer<GrantReply> {
    root_only(peer)?;
    let handle = handle(&b)?;
    let request = match read(&body) {
        Ok(request) => request,
        Err(why) => {
            handle.unreadable(why.clone(), peer.to_string()).await;
            return Err(Failure::new(FailureKind::BadRequest, format!("grant request: {why}"))
                .hint("docs/ops/access.md shows one; bastionctl makes them")
                .into());
        }
    };
    Ok(Json(handle.grant(request, peer.to_string()).await.map_err(|e| failed(&e))?))
}

fn read(body: &[u8]) -> Result<GrantRequest, String> {
    if body.len() > MAX_REQUEST {
        return Err(format!("it has more than {MAX_REQUEST} bytes"));
    }
    serde_json::from_slice(body).map_err(|e| plain(&e.to_string()))
}

pub(super) async fn revoke(
    State(b): State<Backend>,
    Extension(peer): Extension<Peer>,
    Json(Revoke { id }): Json<Revoke>,
) -> Answer<Revoked> {
    root_only(peer)?;
    let revoked = handle(&b)?.revoke(id, peer.to_string()).await.map_err(|e| {
        let kind = match e {
            RevokeError::Unknown(_) => FailureKind::NotFound,
            RevokeError::Gone => FailureKind::Busy,
        };
        Failure::new(kind, e.to_string()).hint("palisade access list shows the live ones")
    })?;
    Ok(Json(revoked))
}

fn failed(e: &GrantError) -> Failure {
    let (kind, hint) = match e {
        GrantError::Refused(refusal) => (FailureKind::Refused, refusal.hint()),
        GrantError::LookUp(_) => (FailureKind::Failed, "does the host's user database answer?"),
        GrantError::Journal(_) => (FailureKind::Failed, "is there room below /run?"),
        GrantError::Gone => (FailureKind::Busy, "the agent is stopping; ask again"),
    };
    Failure::new(kind, format!("not granted: {}", Chain(e))).hint(hint)
}
