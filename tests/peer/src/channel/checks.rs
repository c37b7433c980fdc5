//! What a client's messages must be. Pure; each rule that is broken is named.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    frame::{FIN, Frame, SYN, kind, payload},
    reliable::AckPayload,
};

/// A day in milliseconds: how far a message's date may be off.
const DAY_MS: u64 = 86_400_000;

/// Checks an acknowledgement: number and id of what has arrived.
pub(super) fn ack(frame: &Frame) -> Result<(i64, Uuid), String> {
    if frame.flags != SYN | FIN || frame.seq != 0 || frame.payload_type != 0 {
        return Err(format!(
            "acknowledgement with flags {}, sequence number {}, payload type {}",
            frame.flags, frame.seq, frame.payload_type
        ));
    }
    let ack: AckPayload = serde_json::from_slice(&frame.payload)
        .map_err(|e| format!("payload of an acknowledgement: {e}"))?;
    if ack.acknowledged_message_type != kind::OUTPUT {
        return Err(format!("acknowledges a message of type {}", ack.acknowledged_message_type));
    }
    if !ack.is_sequential_message {
        return Err("acknowledges a message that is not sequential".to_owned());
    }
    let text = &ack.acknowledged_message_id;
    let id = Uuid::parse_str(text).map_err(|e| format!("acknowledged id {text:?}: {e}"))?;
    if id.to_string() != *text {
        return Err(format!("acknowledged id {text:?} is not in lower case with hyphens"));
    }
    Ok((ack.acknowledged_message_sequence_number, id))
}

/// Checks a message with data, its place in the sequence apart.
pub(super) fn input(frame: &Frame, now_ms: u64) -> Result<(), String> {
    let seq = frame.seq;
    if frame.flags & !(SYN | FIN) != 0 {
        return Err(format!("message {seq} has flags {}", frame.flags));
    }
    if frame.created.abs_diff(now_ms) > DAY_MS {
        return Err(format!("message {seq} was created at {}", frame.created));
    }
    if frame.id.is_nil() {
        return Err(format!("message {seq} has no id"));
    }
    let known = [
        payload::OUTPUT,
        payload::SIZE,
        payload::HANDSHAKE_RESPONSE,
        payload::ENC_RESPONSE,
        payload::FLAG,
    ];
    if !known.contains(&frame.payload_type) {
        return Err(format!("message {seq} has payload type {}", frame.payload_type));
    }
    if frame.payload.is_empty() {
        return Err(format!("message {seq} is empty"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Response {
    client_version: String,
    processed_client_actions: Vec<Processed>,
    #[serde(default)]
    errors: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Processed {
    action_type: String,
    action_status: i64,
    #[serde(default)]
    action_result: Value,
    #[serde(default)]
    error: String,
}

/// What a handshake response says.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) client_version: String,
    /// Why the session cannot go on.
    pub(super) refused: Option<String>,
    /// Rules that it breaks.
    pub(super) wrong: Vec<String>,
}

/// Checks the response to a request of `actions`.
pub(super) fn response(payload: &Bytes, actions: &[String], least: &str) -> Answer {
    let mut answer = Answer::default();
    let response: Response = match serde_json::from_slice(payload) {
        Ok(response) => response,
        Err(e) => {
            answer.wrong.push(format!("handshake response: {e}"));
            answer.refused = Some("the response cannot be read".to_owned());
            return answer;
        }
    };
    answer.client_version = response.client_version;
    if !at_least(&answer.client_version, least) {
        answer.wrong.push(format!("client version {}, below {least}", answer.client_version));
    }
    let said = &response.processed_client_actions;
    if said.len() != actions.len() {
        answer.wrong.push(format!("{} actions answered of {}", said.len(), actions.len()));
    }
    for name in actions {
        let Some(action) = said.iter().find(|a| a.action_type == *name) else {
            answer.wrong.push(format!("action {name} is not answered"));
            answer.refused = Some(format!("action {name} is not answered"));
            continue;
        };
        let status = action.action_status;
        let known = matches!(name.as_str(), "SessionType" | "KMSEncryption");
        if !(1..=3).contains(&status) || (!known && status != 3) {
            answer.wrong.push(format!("action {name} is answered with status {status}"));
        }
        if status != 1 {
            answer.refused = Some(format!("action {name}: status {status} {}", action.error));
        } else if name == "KMSEncryption" && !action.action_result.is_object() {
            answer.wrong.push("encryption is answered without a key".to_owned());
        }
    }
    if response.errors.is_some_and(|e| e.is_empty() && answer.refused.is_some()) && said.is_empty()
    {
        answer.wrong.push("a refusal without errors".to_owned());
    }
    answer
}

/// Whether dotted version `a` is `b` or later; text that is no version is none.
pub(super) fn at_least(a: &str, b: &str) -> bool {
    let numbers = |v: &str| -> Option<Vec<u64>> { v.split('.').map(|p| p.parse().ok()).collect() };
    match (numbers(a), numbers(b)) {
        (Some(mut a), Some(mut b)) => {
            let most = a.len().max(b.len());
            a.resize(most, 0);
            b.resize(most, 0);
            a >= b
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("1.2.1000.0", "1.2.764.0"));
        assert!(at_least("1.1.70", "1.1.70.0"));
        assert!(!at_least("1.2.99", "1.2.764.0"));
        assert!(!at_least("new", "1.0"));
    }

    #[test]
    fn an_unknown_action_must_be_answered_as_unsupported() {
        let actions = ["SessionType".to_owned(), "Levitation".to_owned()];
        let text = |status: i64| {
            Bytes::from(format!(
                r#"{{"ClientVersion":"1.2.764.0","ProcessedClientActions":[
                {{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}},
                {{"ActionType":"Levitation","ActionStatus":{status},"ActionResult":3,"Error":""}}],
                "Errors":[]}}"#
            ))
        };
        let good = response(&text(3), &actions, "1.2.764.0");
        assert!(good.wrong.is_empty() && good.refused.is_some());
        let plugin = response(&text(0), &actions, "1.2.764.0");
        assert_eq!(plugin.wrong, ["action Levitation is answered with status 0"]);
    }
}
