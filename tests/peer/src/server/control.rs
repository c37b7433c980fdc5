//! Requests of tests to the peer itself, below `/_peer/`. They are not signed.

use std::sync::Arc;

use bytes::Bytes;
use http::request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, json_status};
use crate::{
    Cut,
    channel::{
        faults::{Faults, Hostile},
        session::Event,
    },
    peer::Shared,
};

/// Something done to one session, or to all that live.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    cut: Option<Cut>,
    #[serde(default)]
    hostile: Option<Hostile>,
    #[serde(default)]
    pause: Option<bool>,
    #[serde(default)]
    end: Option<String>,
}

/// Answers one.
pub(super) fn answer(shared: &Arc<Shared>, head: &request::Parts, body: &Bytes) -> Answer {
    let (status, value) = match (head.method.as_str(), head.uri.path()) {
        ("GET", "/_peer/sessions") => (200, json!(shared.views())),
        ("GET", "/_peer/violations") => (200, json!(shared.violations())),
        ("GET", "/_peer/journal") => (200, json!(shared.journal.all())),
        ("GET", "/_peer/faults") => (200, json!(*shared.faults())),
        ("POST", "/_peer/faults") => faults(shared, body),
        ("POST", "/_peer/do") => deed(shared, body),
        ("POST", "/_peer/forgive") => {
            shared.forgive();
            (200, json!({}))
        }
        (method, path) => (404, json!({ "message": format!("no {method} {path}") })),
    };
    json_status(status, &value)
}

/// Fields that are not given stay as they are.
fn faults(shared: &Shared, body: &Bytes) -> (u16, Value) {
    let mut now = json!(*shared.faults());
    let changed = serde_json::from_slice::<Value>(body)
        .map(|change| merge(&mut now, change))
        .and_then(|()| serde_json::from_value::<Faults>(now));
    match changed {
        Ok(faults) => {
            shared.set_faults(faults);
            (200, json!(*shared.faults()))
        }
        Err(e) => (400, json!({ "message": e.to_string() })),
    }
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (name, value) in change {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn deed(shared: &Shared, body: &Bytes) -> (u16, Value) {
    let deed: Deed = match serde_json::from_slice(body) {
        Ok(deed) => deed,
        Err(e) => return (400, json!({ "message": e.to_string() })),
    };
    let all = || shared.views().into_iter().map(|v| v.id).collect();
    let sessions: Vec<String> = deed.session.map_or_else(all, |one| vec![one]);
    let mut done = 0;
    for id in &sessions {
        let mut count = |happened: bool| done += u32::from(happened);
        if let Some(how) = deed.cut {
            count(shared.cut(id, how));
        }
        if let Some(what) = &deed.hostile {
            count(shared.tell(id, Event::Hostile(what.clone())));
        }
        if let Some(on) = deed.pause {
            count(shared.tell(id, Event::Pause(on)));
        }
        if let Some(output) = &deed.end {
            let how = "ended by the service".to_owned();
            count(shared.tell(id, Event::End { how, output: output.clone() }));
        }
    }
    (200, json!({ "done": done }))
}
