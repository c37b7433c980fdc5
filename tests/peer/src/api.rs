//! The operations of Systems Manager that the peer has, with their documented rules.

mod fields;
mod session;

use std::sync::Arc;

use serde_json::Value;

use crate::{Signer, peer::Shared};

/// An error of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Its type.
    pub kind: String,
    /// For people.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { status: 400, kind: kind.to_owned(), message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ApiError {}

const OPERATIONS: [&str; 5] = [
    "StartSession",
    "ResumeSession",
    "TerminateSession",
    "DescribeSessions",
    "GetConnectionStatus",
];

/// Whether this operation is one of the peer's.
pub(crate) fn owns(target: &str) -> bool {
    OPERATIONS.contains(&target.strip_prefix("AmazonSSM.").unwrap_or(target))
}

/// One call.
pub(crate) async fn call(
    shared: &Arc<Shared>,
    op: &str,
    body: &Value,
    signer: &Signer,
) -> Result<Value, ApiError> {
    let op = op.strip_prefix("AmazonSSM.").unwrap_or(op);
    let outcome = checked(shared, op, body, signer);
    shared.journal.add(&shared.config, "ssm", op, signer, body, &outcome);
    outcome
}

fn checked(
    shared: &Arc<Shared>,
    op: &str,
    body: &Value,
    signer: &Signer,
) -> Result<Value, ApiError> {
    let faults = shared.faults();
    if shared.spend(0, faults.throttle) {
        return Err(ApiError::new("ThrottlingException", "Rate exceeded"));
    }
    if shared.spend(1, faults.break_calls) {
        let message = "An error occurred on the server side.".to_owned();
        return Err(ApiError { status: 500, kind: "InternalServerError".to_owned(), message });
    }
    match op {
        "StartSession" => session::start(shared, body, signer),
        "ResumeSession" => session::resume(shared, body, signer),
        "TerminateSession" => session::terminate(shared, body, signer),
        "DescribeSessions" => session::describe(shared, body, signer),
        "GetConnectionStatus" => session::status(shared, body, signer),
        other => Err(ApiError::new("UnknownOperationException", format!("no {other} here"))),
    }
}
