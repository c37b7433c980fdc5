//! The services with forms and XML: DescribeInstances of EC2, and STS.

mod ec2;
mod sts;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ApiError;
use crate::{Signer, keys::Unknown, peer::Shared, server::respond};

/// The pairs of a form.
pub(super) type Form = BTreeMap<String, String>;

/// Answers a form for `service`.
pub(crate) fn answer(
    shared: &Shared,
    service: &str,
    pairs: &[(String, String)],
    signer: impl FnOnce() -> Result<Signer, Unknown>,
) -> Response<Full<Bytes>> {
    let form: Form = pairs.iter().cloned().collect();
    let action = form.get("Action").cloned().unwrap_or_default();
    let outcome = signer().map_err(|e| e.query(service)).and_then(|signer| {
        let outcome = call(shared, service, &action, &form, &signer);
        let request = Value::from_iter(form.iter().map(|(n, v)| (n.clone(), json!(v))));
        let logged = outcome.as_ref().map(|_| Value::Null).map_err(Clone::clone);
        shared.journal.add(&shared.config, service, &action, &signer, &request, &logged);
        outcome
    });
    let id = Uuid::new_v4();
    let (status, body) = match (service, outcome) {
        ("sts", Ok(result)) => (
            200,
            format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>{id}\
                 </RequestId></ResponseMetadata></{action}Response>"
            ),
        ),
        (_, Ok(result)) => (
            200,
            format!(
                "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
                 <requestId>{id}</requestId>{result}</{action}Response>"
            ),
        ),
        ("sts", Err(e)) => (
            e.status,
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>\
                 Sender</Type><Code>{}</Code><Message>{}</Message></Error><RequestId>{id}\
                 </RequestId></ErrorResponse>",
                escaped(&e.kind),
                escaped(&e.message)
            ),
        ),
        (_, Err(e)) => (
            e.status,
            format!(
                "<Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>\
                 <RequestID>{id}</RequestID></Response>",
                escaped(&e.kind),
                escaped(&e.message)
            ),
        ),
    };
    respond(status, "text/xml", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"))
}

fn call(
    shared: &Shared,
    service: &str,
    action: &str,
    form: &Form,
    signer: &Signer,
) -> Result<String, ApiError> {
    if shared.spend(0, shared.faults().throttle) {
        let kind = if service == "sts" { "Throttling" } else { "RequestLimitExceeded" };
        return Err(denied(503, kind, "Request limit exceeded."));
    }
    let version = form.get("Version").map_or("", String::as_str);
    match (service, action, version) {
        ("ec2", "DescribeInstances", "2016-11-15") => ec2::describe(shared, form, signer),
        ("sts", "GetCallerIdentity", "2011-06-15") => Ok(sts::identity(shared, signer)),
        ("sts", "GetSessionToken", "2011-06-15") => sts::session_token(shared, form, signer),
        ("sts", "AssumeRole", "2011-06-15") => sts::assume_role(shared, form, signer),
        _ => {
            let message = format!("no action {action:?} of version {version:?} in {service}");
            Err(denied(400, "InvalidAction", &message))
        }
    }
}

pub(super) fn denied(status: u16, kind: &str, message: &str) -> ApiError {
    ApiError { status, kind: kind.to_owned(), message: message.to_owned() }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Values of `Name.1`, `Name.2`..., as long as there are any.
pub(super) fn list(form: &Form, name: &str) -> Vec<String> {
    (1..).map_while(|n| form.get(&format!("{name}.{n}")).cloned()).collect()
}
