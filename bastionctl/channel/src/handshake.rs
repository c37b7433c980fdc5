//! What agent and client tell each other before the first byte of data.
//!
//! The agent asks for actions and ends the session if one of them does not succeed; so a client that
//! cannot do one says so with the right status, and the session ends with a reason.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{text::printable, version::Version};

/// What the client says it is. Not vanity: the agent multiplexes from 1.1.70 on, drops its own
/// multiplexer's keep-alive after 1.2.331.0, and 1.2.764.0 is the least that AWS supports.
pub const CLIENT_VERSION: &str = "1.2.764.0";

/// Requests are short; one that is longer than this is hostile.
const MOST_BYTES: usize = 64 << 10;
const MOST_ACTIONS: usize = 16;

/// How the bytes of a port session are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bytes of one TCP connection, whose end is the session's end.
    Basic,
    /// The bytes of one TCP connection after another: port forwards of agents up to 3.0.196.0.
    Sequential,
    /// Many connections in one session.
    Mux {
        /// Whether the agent expects signs of life from the multiplexer.
        keep_alive: bool,
    },
}

/// What the request led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The agent's version.
    pub agent: Version,
    /// The payload to send back.
    pub response: Bytes,
    /// The layout of what follows, or why nothing will.
    pub outcome: Result<Mode, Unsupported>,
}

/// Why a session cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// The request cannot be read.
    #[error("the agent's handshake cannot be read: {0}")]
    Unreadable(String),
    /// The session's traffic is to be encrypted by a KMS key.
    #[error("the session asks for KMS encryption, which port sessions do not have")]
    Kms,
    /// A shell or something else.
    #[error("the session is of type {0:?}; this client serves Port sessions")]
    SessionType(String),
    /// An action from the future.
    #[error("the agent asks for {0:?}, which this client does not know")]
    Action(String),
}

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "AgentVersion", default)]
    agent: String,
    #[serde(rename = "RequestedClientActions", default)]
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "ActionType")]
    kind: String,
    #[serde(rename = "ActionParameters", default)]
    parameters: Value,
}

#[derive(Deserialize)]
struct SessionType {
    #[serde(rename = "SessionType", default)]
    kind: String,
    #[serde(rename = "Properties", default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

#[derive(Serialize)]
struct Response<'a> {
    #[serde(rename = "ClientVersion")]
    client: &'a str,
    #[serde(rename = "ProcessedClientActions")]
    actions: Vec<Processed>,
    #[serde(rename = "Errors")]
    errors: Vec<String>,
}

#[derive(Serialize)]
struct Processed {
    #[serde(rename = "ActionType")]
    kind: String,
    #[serde(rename = "ActionStatus")]
    status: u8,
    #[serde(rename = "ActionResult")]
    result: Option<()>,
    #[serde(rename = "Error")]
    error: String,
}

const SUCCESS: u8 = 1;
const FAILED: u8 = 2;
const UNSUPPORTED: u8 = 3;

/// Answers the agent's request.
#[must_use]
pub fn answer(payload: &[u8]) -> Answer {
    let request = match read(payload) {
        Ok(request) => request,
        Err(why) => {
            let response = written(&[], vec![why.to_string()]);
            return Answer { agent: Version::default(), response, outcome: Err(why) };
        }
    };
    let agent = Version::read(&request.agent);
    let done: Vec<_> = request.actions.iter().map(|action| process(action, agent)).collect();
    let actions: Vec<_> = request.actions.iter().map(|a| a.kind.as_str()).zip(&done).collect();
    let response = written(&actions, Vec::new());
    let mut mode = Mode::Basic;
    let mut outcome = Ok(());
    for step in done {
        match step {
            Ok(found) => mode = found,
            Err(why) => outcome = outcome.and(Err(why)),
        }
    }
    Answer { agent, response, outcome: outcome.map(|()| mode) }
}

fn read(payload: &[u8]) -> Result<Request, Unsupported> {
    let unreadable = |why: String| Unsupported::Unreadable(printable(&why));
    if payload.len() > MOST_BYTES {
        return Err(unreadable(format!("{} bytes", payload.len())));
    }
    let request: Request =
        serde_json::from_slice(payload).map_err(|e| unreadable(e.to_string()))?;
    if request.actions.len() > MOST_ACTIONS {
        return Err(unreadable(format!("{} actions", request.actions.len())));
    }
    Ok(request)
}

fn process(action: &Action, agent: Version) -> Result<Mode, Unsupported> {
    match action.kind.as_str() {
        "SessionType" => {
            let session = SessionType::deserialize(&action.parameters)
                .map_err(|e| Unsupported::Unreadable(printable(&e.to_string())))?;
            if session.kind != "Port" {
                return Err(Unsupported::SessionType(printable(&session.kind)));
            }
            let forward = session.properties.and_then(|p| p.kind);
            Ok(match forward.as_deref() {
                Some("LocalPortForwarding") if agent.has_mux() => {
                    Mode::Mux { keep_alive: agent.wants_keep_alive() }
                }
                Some("LocalPortForwarding") => Mode::Sequential,
                _ => Mode::Basic,
            })
        }
        "KMSEncryption" => Err(Unsupported::Kms),
        other => Err(Unsupported::Action(printable(other))),
    }
}

fn written(actions: &[(&str, &Result<Mode, Unsupported>)], errors: Vec<String>) -> Bytes {
    let actions = actions
        .iter()
        .map(|(kind, step)| Processed {
            kind: (*kind).to_owned(),
            status: match step {
                Ok(_) => SUCCESS,
                Err(Unsupported::Action(_)) => UNSUPPORTED,
                Err(_) => FAILED,
            },
            result: None,
            error: step.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        })
        .collect();
    let response = Response { client: CLIENT_VERSION, actions, errors };
    // Serialising owned strings and numbers does not fail.
    serde_json::to_vec(&response).map(Bytes::from).unwrap_or_default()
}

#[derive(Deserialize)]
struct Complete {
    #[serde(rename = "CustomerMessage", default)]
    message: Option<String>,
}

/// The message of the account to its people, fit for a terminal; empty if there is none.
#[must_use]
pub fn customer_message(payload: &[u8]) -> String {
    let complete: Option<Complete> = serde_json::from_slice(payload).ok();
    complete.and_then(|c| c.message).map(|text| printable(&text)).unwrap_or_default()
}

#[derive(Deserialize)]
struct Closed {
    #[serde(rename = "Output", default)]
    output: Option<String>,
}

/// The reason that a `channel_closed` gives, fit for a terminal; empty if it gives none.
#[must_use]
pub fn closed_output(payload: &[u8]) -> String {
    let closed: Option<Closed> = serde_json::from_slice(payload).ok();
    closed.and_then(|c| c.output).map(|text| printable(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn ask(agent: &str, actions: &Value) -> (Answer, Value) {
        let text = json!({"AgentVersion": agent, "RequestedClientActions": actions}).to_string();
        let answer = answer(text.as_bytes());
        let response = serde_json::from_slice(&answer.response).unwrap();
        (answer, response)
    }

    fn port(properties: &Value) -> Value {
        json!([{"ActionType": "SessionType",
                "ActionParameters": {"SessionType": "Port", "Properties": properties}}])
    }

    #[test]
    fn an_ssh_session_is_basic_whatever_the_agent() {
        let (answer, response) = ask("3.3.1142.0", &port(&json!({"portNumber": "22"})));
        assert_eq!(answer.outcome, Ok(Mode::Basic));
        assert_eq!(
            response,
            json!({"ClientVersion": CLIENT_VERSION, "Errors": [], "ProcessedClientActions": [
                {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}]})
        );
    }

    #[test]
    fn a_port_forward_is_multiplexed_if_the_agent_is_new_enough() {
        let forward = port(&json!({"portNumber": "80", "type": "LocalPortForwarding"}));
        let mode = |agent| ask(agent, &forward).0.outcome;
        assert_eq!(mode("2.3.0.0"), Ok(Mode::Sequential));
        assert_eq!(mode("3.0.196.0"), Ok(Mode::Sequential));
        assert_eq!(mode("3.0.197.0"), Ok(Mode::Mux { keep_alive: true }));
        assert_eq!(mode("3.3.1142.0"), Ok(Mode::Mux { keep_alive: false }));
    }

    #[test]
    fn an_unknown_action_is_unsupported_in_its_status() {
        let (answer, response) = ask("3.3.0.0", &json!([{"ActionType": "Dance"}]));
        assert_eq!(answer.outcome, Err(Unsupported::Action("Dance".into())));
        assert_eq!(response["ProcessedClientActions"][0]["ActionStatus"], 3);
        assert_eq!(response["ProcessedClientActions"][0]["ActionResult"], Value::Null);
    }

    #[test]
    fn kms_and_shells_fail_with_a_reason() {
        let kms = json!([{"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}}]);
        let (answer, response) = ask("3.3.0.0", &kms);
        assert_eq!(answer.outcome, Err(Unsupported::Kms));
        assert_eq!(response["ProcessedClientActions"][0]["ActionStatus"], 2);
        let shell = json!([{"ActionType": "SessionType",
            "ActionParameters": {"SessionType": "Standard_Stream", "Properties": null}}]);
        let (answer, _) = ask("3.3.0.0", &shell);
        assert_eq!(answer.outcome, Err(Unsupported::SessionType("Standard_Stream".into())));
    }

    #[test]
    fn requests_out_of_bounds_are_unreadable() {
        let many = json!(vec![json!({"ActionType": "x"}); 17]);
        assert!(matches!(ask("3.3.0.0", &many).0.outcome, Err(Unsupported::Unreadable(_))));
        let long = format!("{{\"AgentVersion\":\"{}\"}}", "x".repeat(MOST_BYTES));
        assert!(matches!(answer(long.as_bytes()).outcome, Err(Unsupported::Unreadable(_))));
    }

    #[test]
    fn messages_of_others_cannot_steer_the_terminal() {
        let complete = br#"{"HandshakeTimeToComplete":1,"CustomerMessage":"Hi\u001b]0;x\u0007!"}"#;
        assert_eq!(customer_message(complete), "Hi]0;x!");
        assert_eq!(closed_output(br#"{"Output":"done\u001b[2J"}"#), "done[2J");
        assert_eq!(closed_output(b"not json"), "");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, bytes: Vec<u8>) {
            drop(answer(text.as_bytes()));
            drop(answer(&bytes));
            drop(ask(&text, &json!([{"ActionType": text, "ActionParameters": text}])));
            drop((customer_message(&bytes), closed_output(&bytes)));
        }
    }
}
