//! Why a session ended: one truthful reason, with words for people.

use std::time::Duration;

use crate::handshake::Unsupported;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// This side was done, and all it had sent has arrived.
    #[error("this side is done")]
    Finished,
    /// The program asked for the end.
    #[error("ended by this program")]
    Cancelled,
    /// The other side ended the session: the connection to the port closed, somebody terminated the
    /// session, or it reached a limit of the account.
    #[error("the session was closed by the other side{}", because(.output))]
    Closed {
        /// What the service says about it; often empty.
        output: String,
    },
    /// The agent could not connect to the port.
    #[error("the host could not connect to the port")]
    ConnectFailed,
    /// `StreamUrl` is not an address to which a token may be sent.
    #[error("the session's address is refused: {0}")]
    Address(String),
    /// The service answered the WebSocket's request with an HTTP error.
    #[error("the data channel was refused with HTTP status {status}{}", because(.body))]
    Refused {
        /// Of the answer.
        status: u16,
        /// Its first words.
        body: String,
    },
    /// The service could not be reached at all.
    #[error("the data channel cannot be reached: {why}")]
    Unreachable {
        /// The last attempt's error.
        why: String,
    },
    /// The session never became live.
    #[error("no session came about: {why}")]
    Handshake {
        /// What was missing.
        why: String,
    },
    /// The session cannot be served by this client.
    #[error(transparent)]
    Unsupported(Unsupported),
    /// The connection was lost, and the service says that the session is over.
    #[error("the connection was lost ({why}), and the session is over for the service")]
    Gone {
        /// Why the connection was lost.
        why: String,
    },
    /// The connection was lost and could not be made again in time.
    #[error("the connection was lost ({why}) and did not come back within {} s", .tried.as_secs())]
    Lost {
        /// The last error.
        why: String,
        /// How long that was tried.
        tried: Duration,
    },
    /// Resuming needs something that this program does not have, such as valid credentials.
    #[error("the session cannot be resumed: {why}")]
    Denied {
        /// What the service's port says.
        why: String,
    },
    /// The connection stands, and the agent acknowledges nothing.
    #[error("the agent has acknowledged nothing for {} s", .since.as_secs())]
    Silent {
        /// For how long.
        since: Duration,
    },
    /// The service closes the connection because of the size of frames.
    #[error("the service does not take frames of {size} bytes")]
    FrameSize {
        /// Payload bytes.
        size: usize,
    },
    /// The other side does not keep to the protocol.
    #[error("the other side breaks the protocol: {why}")]
    Protocol {
        /// How.
        why: String,
    },
}

impl End {
    /// Whether this is how sessions are meant to end.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Finished | Self::Cancelled => true,
            Self::Closed { output } => output.is_empty(),
            _ => false,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::ConnectFailed => {
                Some("is the program running, and is this its port on the host?")
            }
            Self::Refused { status: 401 | 403, .. } => Some(
                "the role needs ssmmessages:OpenDataChannel on this session; is the clock right?",
            ),
            Self::Address(_) => {
                Some("name another endpoint with --ssmmessages-endpoint if it is yours")
            }
            Self::Unreachable { .. } | Self::Lost { .. } => {
                Some("check the network, a proxy (HTTPS_PROXY) and the ssmmessages endpoint")
            }
            Self::Handshake { .. } | Self::Silent { .. } => {
                Some("is the SSM agent of the host healthy? restarting it helps")
            }
            Self::Unsupported(_) => Some("the session needs a document of type Port"),
            Self::Gone { .. } => {
                Some("idle timeout and maximum duration are set in the session preferences")
            }
            Self::FrameSize { .. } => Some("lower the frame size"),
            _ => None,
        }
    }
}

fn because(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_given_if_there_is_one() {
        let closed = |output: &str| End::Closed { output: output.into() };
        assert_eq!(closed("").to_string(), "the session was closed by the other side");
        assert_eq!(closed("idle").to_string(), "the session was closed by the other side: idle");
        assert!(closed("").is_clean() && !closed("idle").is_clean());
    }
}
