//! The operations of Systems Manager that the peer has, with their documented rules.

pub(crate) mod command;
mod fields;
mod instances;
mod invocations;
pub(crate) mod query;
mod session;
mod targets;

use std::sync::Arc;

pub(crate) use command::Command;
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

const OPERATIONS: [&str; 12] = [
    "StartSession",
    "ResumeSession",
    "TerminateSession",
    "DescribeSessions",
    "GetConnectionStatus",
    "DescribeInstanceInformation",
    "SendCommand",
    "ListCommands",
    "ListCommandInvocations",
    "GetCommandInvocation",
    "CancelCommand",
    "ListTagsForResource",
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
        "DescribeInstanceInformation" => instances::describe(shared, body, signer),
        "ListTagsForResource" => instances::tags(shared, body, signer),
        "SendCommand" => command::send(shared, body, signer),
        "CancelCommand" => command::cancel(shared, body, signer),
        "ListCommands" => invocations::commands(shared, body, signer),
        "ListCommandInvocations" => invocations::list(shared, body, signer),
        "GetCommandInvocation" => invocations::get(shared, body, signer),
        other => Err(ApiError::new("UnknownOperationException", format!("no {other} here"))),
    }
}
