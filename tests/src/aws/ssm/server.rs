//! The calls of SSM, over the HTTP side that all fakes share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hyper::http::request::Parts;
use palisade_peer::sigv4::Refusal;
use serde_json::{Value, json};
use tokio::time;

use super::{
    compliance::{self, Report},
    inventory::{self, Table},
    parameters,
    state::{Faults, State, Stats},
};
use crate::aws::{
    http::{Answer, ApiError, Closed, Service, error, header, lock, now_ms, reply, respond},
    signature::signer,
};

/// The service without its HTTP server. Clones are the same service.
#[derive(Clone, Debug, Default)]
pub struct Ssm {
    state: Arc<Mutex<State>>,
}

impl Ssm {
    /// Changes what goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// What arrived so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.state).stats.clone()
    }

    /// The present report of a resource.
    #[must_use]
    pub fn report(&self, resource: &str, kind: &str) -> Option<Report> {
        let key = (resource.to_owned(), kind.to_owned());
        lock(&self.state).compliance.get(&key).cloned()
    }

    /// The present inventory of an instance.
    #[must_use]
    pub fn table(&self, instance: &str, kind: &str) -> Option<Table> {
        let key = (instance.to_owned(), kind.to_owned());
        lock(&self.state).inventory.get(&key).cloned()
    }

    /// Forgets all reports and tables, as if the host had been deregistered and registered anew.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.compliance.clear();
        state.inventory.clear();
    }
}

impl Service for Ssm {
    fn refuses(&self) -> bool {
        lock(&self.state).faults.refuse
    }

    async fn answer(&self, head: &Parts, body: Bytes) -> Result<Answer, Closed> {
        if head.uri.path().starts_with("/_fake/") {
            return Ok(control(head, &body, &self.state));
        }
        let (refuse, hang, delay) = {
            let faults = &lock(&self.state).faults;
            (faults.refuse, faults.hang, faults.delay_ms)
        };
        if refuse {
            return Err(Closed);
        }
        if hang {
            std::future::pending::<()>().await;
        }
        time::sleep(Duration::from_millis(delay)).await;
        let mut state = lock(&self.state);
        let outcome = call(&mut state, head, &body);
        if let Err((_, kind, _)) = &outcome {
            *state.stats.errors.entry((*kind).to_owned()).or_default() += 1;
        } else if take_one(&mut state.faults.drop_ack) {
            return Err(Closed);
        }
        Ok(reply(outcome))
    }
}

/// One call, with the faults that are answers.
fn call(state: &mut State, head: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    state.stats.requests += 1;
    state.stats.largest_body = state.stats.largest_body.max(body.len() as u64);
    let key = signer(head, body, "ssm", now_ms() / 1000).map_err(|refusal| match refusal {
        Refusal::Missing => state.broken("MissingAuthenticationTokenException", "not signed"),
        other => state.broken("InvalidSignatureException", &format!("{other:?}")),
    })?;
    state.stats.access_keys.insert(key);
    if header(head, "content-type") != "application/x-amz-json-1.1" {
        return Err(state.broken("SerializationException", "wrong content type"));
    }
    if state.faults.denied {
        return Err((400, "AccessDeniedException", "not authorized to perform this".to_owned()));
    }
    if state.faults.expired {
        return Err((400, "ExpiredTokenException", "the token is expired".to_owned()));
    }
    if take_one(&mut state.faults.throttle) {
        return Err((400, "ThrottlingException", "Rate exceeded".to_owned()));
    }
    if take_one(&mut state.faults.error) {
        return Err((500, "InternalServerError", "internal error".to_owned()));
    }
    let op = header(head, "x-amz-target").strip_prefix("AmazonSSM.").unwrap_or("");
    let done = match op {
        "PutComplianceItems" => compliance::put(state, body),
        "ListComplianceItems" => compliance::list(state, body),
        "PutInventory" => inventory::put(state, body),
        "PutParameter" => parameters::put(state, body),
        "GetParameter" => parameters::get(state, body),
        "GetParameters" => parameters::get_many(state, body),
        _ => Err((400, "UnknownOperationException", format!("{op} is not known here"))),
    }?;
    *state.stats.done.entry(op.to_owned()).or_default() += 1;
    Ok(done)
}

/// Counts a fault down.
fn take_one(left: &mut u32) -> bool {
    let hit = *left > 0;
    *left = left.saturating_sub(1);
    hit
}

/// What tests and people ask of the fake itself.
fn control(head: &Parts, body: &[u8], state: &Mutex<State>) -> Answer {
    let mut state = lock(state);
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/_fake/ssm") => {
            let named = |(id, kind): &(String, String)| format!("{id} {kind}");
            let compliance: BTreeMap<_, _> =
                state.compliance.iter().map(|(k, r)| (named(k), r)).collect();
            let inventory: BTreeMap<_, _> =
                state.inventory.iter().map(|(k, t)| (named(k), t)).collect();
            let all = json!({
                "stats": state.stats,
                "faults": state.faults,
                "compliance": compliance,
                "inventory": inventory,
                "parameters": state.parameters,
            });
            respond(200, &all)
        }
        ("POST", "/_fake/ssm/faults") => match serde_json::from_slice::<Faults>(body) {
            Ok(f) => {
                state.faults = f;
                respond(200, &json!({}))
            }
            Err(e) => error(&(400, "Faults", e.to_string())),
        },
        _ => respond(404, &json!({ "error": "see the fake's source for its paths" })),
    }
}
