//! Which SSM session a connection to sshd came through, and whether that is the grant owner's.
//!
//! The facts are gathered by a [`super::ports::Tracer`]; the decision is pure. Whatever is not known
//! is named, and refuses where policy is strict.

use palisade_types::grant::{Binding, Owner};

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The process at the other end of sshd's socket, if it carries an SSM session.
    pub worker: Result<Worker, Unknown>,
}

/// A process that carries an SSM session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The session.
    pub session_id: String,
    /// Whose session it is, as the SSM agent wrote down.
    pub owner: Result<String, Unknown>,
}

/// Something that was not found out, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(pub String);

/// Whether a key may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It may.
    Admit {
        /// Through which session.
        session_id: Option<String>,
        /// Why it is not certain, where policy lets that pass.
        unbound: Option<String>,
    },
    /// It may not.
    Refuse {
        /// Through which session.
        session_id: Option<String>,
        /// Whose that is.
        session_owner: Option<String>,
        /// Why.
        why: String,
    },
}

/// Decides by the facts. That a session is somebody else's refuses also where policy only warns:
/// nothing is unknown then.
pub(super) fn judge(policy: Binding, owner: &Owner, traced: &Traced) -> Judged {
    let (session_id, session_owner, why) = match &traced.worker {
        Err(unknown) => (None, None, unknown.to_string()),
        Ok(worker) => {
            let id = Some(worker.session_id.clone());
            match &worker.owner {
                Ok(theirs) if theirs == owner.as_str() => {
                    return Judged::Admit { session_id: id, unbound: None };
                }
                Ok(theirs) => {
                    let why = format!("the session is {theirs}'s and the grant is {owner}'s");
                    (id, Some(theirs.clone()), why)
                }
                Err(unknown) => (id, None, unknown.to_string()),
            }
        }
    };
    match policy {
        Binding::Off => Judged::Admit { session_id, unbound: None },
        Binding::Warn if session_owner.is_none() => {
            Judged::Admit { session_id, unbound: Some(why) }
        }
        Binding::Warn | Binding::Strict => Judged::Refuse { session_id, session_owner, why },
    }
}

/// Longest id of a session that is taken, as the service has it.
const MAX_SESSION_ID: usize = 96;

/// Whether a text can be the id of a session: it becomes the name of a file.
#[must_use]
pub fn is_session_id(text: &str) -> bool {
    (1..=MAX_SESSION_ID).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@=+,".contains(&b))
}

/// How deep a state file may be nested.
const MAX_DEPTH: u32 = 32;

/// The owner that a session's state file names: every `SessionOwner` in it, which must be one.
///
/// # Errors
/// When there is none, or several that differ.
pub fn owner_in(state: &[u8]) -> Result<String, Unknown> {
    let root: serde_json::Value = serde_json::from_slice(state)
        .map_err(|e| Unknown(format!("the state file of the session cannot be read: {e}")))?;
    let mut found: Option<&str> = None;
    // A worklist with the depth of each: what a file is nested like must not be our stack.
    let mut open = vec![(&root, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(Unknown("the state file of the session is nested too deep".to_owned()));
        }
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    if let (true, serde_json::Value::String(owner)) = (key == "SessionOwner", value)
                        && !owner.is_empty()
                    {
                        if found.is_some_and(|other| other != owner) {
                            let what = "the state file of the session names two owners";
                            return Err(Unknown(what.to_owned()));
                        }
                        found = Some(owner);
                    }
                    open.push((value, depth + 1));
                }
            }
            serde_json::Value::Array(list) => open.extend(list.iter().map(|v| (v, depth + 1))),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
    let none = || Unknown("the state file of the session names no owner".to_owned());
    found.map(str::to_owned).ok_or_else(none)
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
