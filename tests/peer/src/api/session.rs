//! StartSession, ResumeSession, TerminateSession, DescribeSessions, GetConnectionStatus.

use std::{
    collections::BTreeMap,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{ApiError, fields};
use crate::{
    Signer, State,
    channel::{
        self,
        session::{Event, Inner, Session, Target},
    },
    config::Ping,
    lock,
    peer::Shared,
};

/// Events that wait for a session.
const EVENTS: usize = 1024;
const SSH: &str = "AWS-StartSSHSession";
const FORWARD: &str = "AWS-StartPortForwardingSession";
const REMOTE: &str = "AWS-StartPortForwardingSessionToRemoteHost";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Start {
    target: String,
    document_name: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Vec<String>>,
}

pub(super) fn start(
    shared: &Arc<Shared>,
    body: &Value,
    signer: &Signer,
) -> Result<Value, ApiError> {
    let start: Start = fields::read(body)?;
    fields::length("target", &start.target, 1, 400)?;
    let document = start.document_name.as_deref().unwrap_or("SSM-SessionManagerRunShell");
    fields::pattern("documentName", document, r"[a-zA-Z0-9_\-.:/]{3,128}")?;
    if let Some(reason) = &start.reason {
        fields::length("reason", reason, 1, 256)?;
        fields::pattern("reason", reason, ".{1,256}")?;
    }
    shared.keys.allow(signer, "ssm:StartSession", &machine_arn(shared, &start.target))?;
    let target = target(shared, document, &start.parameters)?;
    let instance = shared.instance(&start.target).filter(|i| i.ping == Ping::Online);
    let Some(instance) = instance else {
        let message = format!("{} is not connected.", start.target);
        return Err(ApiError::new("TargetNotConnected", message));
    };
    let name = signer.arn.rsplit('/').next().unwrap_or("session");
    let unique = Uuid::new_v4().simple().to_string();
    let id = format!("{name}-0{}", unique.get(..16).unwrap_or(""));
    let (events, inbox) = mpsc::channel(EVENTS);
    let token = new_token();
    let session = Arc::new(Session {
        id: id.clone(),
        owner: signer.arn.clone(),
        instance,
        document: document.to_owned(),
        reason: start.reason.unwrap_or_default(),
        target,
        events,
        inner: Mutex::new(Inner { token: Some(token.clone()), ..Inner::default() }),
    });
    lock(&shared.sessions).insert(id.clone(), session.clone());
    shared.spawn(channel::run(shared.clone(), session, inbox));
    Ok(opened(shared, &id, Some(&token)))
}

/// The instance in the words of a policy.
pub(super) fn machine_arn(shared: &Shared, id: &str) -> String {
    let (region, account) = (&shared.config.region, &shared.config.account);
    if id.starts_with("mi-") {
        format!("arn:aws:ssm:{region}:{account}:managed-instance/{id}")
    } else {
        format!("arn:aws:ec2:{region}:{account}:instance/{id}")
    }
}

fn session_arn(shared: &Shared, id: &str) -> String {
    format!("arn:aws:ssm:{}:{}:session/{id}", shared.config.region, shared.config.account)
}

fn new_token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn opened(shared: &Shared, id: &str, token: Option<&str>) -> Value {
    let region = &shared.config.region;
    json!({
        "SessionId": id,
        "TokenValue": token,
        "StreamUrl": format!(
            "wss://ssmmessages.{region}.amazonaws.com/v1/data-channel/{id}?role=publish_subscribe"
        ),
    })
}

/// Where a document leads with these parameters.
fn target(
    shared: &Shared,
    document: &str,
    parameters: &BTreeMap<String, Vec<String>>,
) -> Result<Target, ApiError> {
    let known: &[&str] = match document {
        SSH => &["portNumber"],
        FORWARD => &["portNumber", "localPortNumber"],
        REMOTE => &["host", "portNumber", "localPortNumber"],
        other => {
            let message = format!("Document with name {other} does not exist.");
            return Err(ApiError::new("InvalidDocument", message));
        }
    };
    let bad = |what: String| ApiError::new("InvalidParameters", what);
    if let Some(name) = parameters.keys().find(|n| !known.contains(&n.as_str())) {
        return Err(bad(format!("{document} has no parameter {name}")));
    }
    let number = |name: &str, default: &str, least: u16| {
        let text = fields::single(parameters, name)?.unwrap_or(default);
        let good = text.parse::<u16>().ok().filter(|p| *p >= least && !text.starts_with('+'));
        good.ok_or_else(|| bad(format!("{name} {text:?} is no port")))
    };
    let forwards = document != SSH;
    let port = number("portNumber", if forwards { "80" } else { "22" }, 1)?;
    let mut properties = json!({ "portNumber": port.to_string() });
    if forwards {
        properties["type"] = json!("LocalPortForwarding");
        properties["localPortNumber"] = json!(number("localPortNumber", "0", 0)?.to_string());
    }
    let mut host = "localhost".to_owned();
    if document == REMOTE {
        let named =
            fields::single(parameters, "host")?.ok_or_else(|| bad("host is missing".to_owned()))?;
        if !named.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:_".contains(&b))
            || named.is_empty()
        {
            return Err(bad(format!("host {named:?}")));
        }
        // The real agent notices after the handshake; here the call says so.
        if is_denied(named, &shared.config.denied_hosts) {
            return Err(bad(format!("Forwarding to IP address {named} is forbidden.")));
        }
        named.clone_into(&mut host);
        properties["host"] = json!(named);
    }
    Ok(Target { host, port, forwards, properties })
}

/// Loopback and the addresses of credentials: the agent forwards to none of them. Names of other
/// hosts are not looked up here.
fn is_denied(host: &str, more: &[String]) -> bool {
    if more.iter().any(|d| d == host) {
        return true;
    }
    let listed = |ip: &IpAddr| match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let links = ["169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23"];
            v4.is_loopback() || v4.is_unspecified() || links.contains(&v4.to_string().as_str())
        }
        IpAddr::V6(v6) => {
            let links = ["fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::23"];
            v6.is_loopback() || v6.is_unspecified() || links.contains(&v6.to_string().as_str())
        }
    };
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) => listed(&ip),
        Err(_) if host.eq_ignore_ascii_case("localhost") => true,
        // Odd spellings of an address, such as 0x7f.1, become one in the resolver.
        Err(_) if host.starts_with(|c: char| c.is_ascii_digit()) => {
            (host, 0).to_socket_addrs().is_ok_and(|mut a| a.any(|a| listed(&a.ip())))
        }
        Err(_) => false,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct One {
    session_id: String,
}

fn find(
    shared: &Shared,
    body: &Value,
    signer: &Signer,
    action: &str,
) -> Result<Arc<Session>, ApiError> {
    let one: One = fields::read(body)?;
    fields::length("sessionId", &one.session_id, 1, 96)?;
    shared.keys.allow(signer, action, &session_arn(shared, &one.session_id))?;
    let none = || {
        let message = format!("Session {} does not exist", one.session_id);
        ApiError::new("DoesNotExistException", message)
    };
    shared.session(&one.session_id).ok_or_else(none)
}

pub(super) fn resume(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let session = find(shared, body, signer, "ssm:ResumeSession")?;
    let faults = shared.faults();
    if !faults.resume_error.is_empty() {
        let status = if faults.resume_error == "InternalServerError" { 500 } else { 400 };
        let message = "on demand".to_owned();
        return Err(ApiError { status, kind: faults.resume_error.clone(), message });
    }
    if faults.resume_null || session.is_over() {
        return Ok(opened(shared, &session.id, None));
    }
    let token = new_token();
    lock(&session.inner).token = Some(token.clone());
    Ok(opened(shared, &session.id, Some(&token)))
}

pub(super) fn terminate(
    shared: &Arc<Shared>,
    body: &Value,
    signer: &Signer,
) -> Result<Value, ApiError> {
    let session = find(shared, body, signer, "ssm:TerminateSession")?;
    if !session.is_over() {
        let how = "TerminateSession".to_owned();
        let (session, end) = (session.clone(), Event::End { how, output: String::new() });
        shared.spawn(async move {
            // An error is a session that has ended meanwhile.
            session.events.send(end).await.unwrap_or_default();
        });
    }
    Ok(json!({ "SessionId": session.id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Describe {
    state: String,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    key: String,
    value: String,
}

pub(super) fn describe(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let describe: Describe = fields::read(body)?;
    shared.keys.allow(signer, "ssm:DescribeSessions", "*")?;
    if !matches!(describe.state.as_str(), "Active" | "History") {
        return Err(ApiError::invalid("State"));
    }
    let size = describe.max_results.unwrap_or(200);
    if !(1..=200).contains(&size) {
        return Err(ApiError::invalid("MaxResults"));
    }
    let mut all = Vec::new();
    for view in shared.views() {
        let over = matches!(view.state, State::Ended(_));
        let mut fits = over == (describe.state == "History");
        for filter in &describe.filters {
            fits &= match filter.key.as_str() {
                "Target" => view.target == filter.value,
                "Owner" => view.owner == filter.value,
                "SessionId" => view.id == filter.value,
                other => return Err(ApiError::new("InvalidFilterKey", other)),
            };
        }
        if fits {
            all.push(json!({
                "SessionId": view.id,
                "Target": view.target,
                "Owner": view.owner,
                "DocumentName": view.document,
                "Reason": view.reason,
                "Status": if over { "Terminated" } else { "Connected" },
            }));
        }
    }
    let (sessions, next) = fields::page(all, describe.next_token.as_deref(), size)?;
    Ok(json!({ "Sessions": sessions, "NextToken": next }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Status {
    target: String,
}

pub(super) fn status(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let status: Status = fields::read(body)?;
    fields::length("target", &status.target, 1, 400)?;
    let arn = machine_arn(shared, &status.target);
    shared.keys.allow(signer, "ssm:GetConnectionStatus", &arn)?;
    let online = shared.instance(&status.target).is_some_and(|i| i.ping == Ping::Online);
    let status_ = if online { "connected" } else { "notconnected" };
    Ok(json!({ "Target": status.target, "Status": status_ }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_addresses_of_credentials_are_denied_however_they_are_written() {
        for host in
            ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "169.254.169.254", "127.1"]
        {
            assert!(is_denied(host, &[]), "{host}");
        }
        assert!(is_denied("10.0.0.2", &["10.0.0.2".to_owned()]));
        assert!(!is_denied("10.0.0.9", &[]));
        assert!(!is_denied("db.internal", &[]));
    }
}
