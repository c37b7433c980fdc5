//! What goes wrong, and how the agent behaves. All of it may be changed while sessions run.

use serde::{Deserialize, Serialize};

/// Faults and manners of the endpoint. The default is a fast agent without faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Frames from the agent to the client.
    pub to_client: Lane,
    /// Frames from the client to the agent.
    pub to_agent: Lane,
    /// Round-trip time that is added, in milliseconds; half in each direction.
    pub rtt_ms: u64,
    /// Neither reads nor writes sockets.
    pub hang: bool,
    /// Closes the socket of a client that sends a larger frame, with code 1009; 0 is no limit.
    pub max_frame: usize,
    /// Cuts each socket after so many frames in both directions together; 0 is never.
    pub cut_after: u64,
    /// Bytes of data in a frame of the agent.
    pub frame_size: usize,
    /// Microseconds between two frames of data of the agent; the real agent has 1000.
    pub pace_us: u64,
    /// Most unacknowledged frames of the agent.
    pub window: usize,
    /// The agent sends every overdue frame again, which the real one does only with the oldest.
    pub resend_all: bool,
    /// Pauses the client when so many bytes wait for the destination, and lets it start again when
    /// half of them are gone; 0 is never.
    pub pause_above: usize,
    /// The handshake.
    pub handshake: Handshake,
    /// Error that ResumeSession answers, such as `InternalServerError`; empty is none.
    pub resume_error: String,
    /// ResumeSession answers without a token: the session cannot be resumed.
    pub resume_null: bool,
    /// So many API calls, each of another operation or not, are refused with ThrottlingException.
    pub throttle: u64,
    /// So many calls are answered with status 500.
    pub break_calls: u64,
    /// Every API call is answered so many milliseconds late.
    pub call_delay_ms: u64,
    /// Every signature counts as one of expired credentials.
    pub expired_token: bool,
    /// Seconds that the service's clock is ahead.
    pub clock_ahead_s: i64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            to_client: Lane::default(),
            to_agent: Lane::default(),
            rtt_ms: 0,
            hang: false,
            max_frame: 0,
            cut_after: 0,
            frame_size: 1024,
            pace_us: 0,
            window: 10_000,
            resend_all: false,
            pause_above: 0,
            handshake: Handshake::default(),
            resume_error: String::new(),
            resume_null: false,
            throttle: 0,
            break_calls: 0,
            call_delay_ms: 0,
            expired_token: false,
            clock_ahead_s: 0,
        }
    }
}

/// Faults of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lane {
    /// Messages in sequence.
    pub data: Chances,
    /// Acknowledgements.
    pub ack: Chances,
}

/// Probabilities of 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chances {
    /// Lost.
    pub lose: f64,
    /// Comes twice.
    pub duplicate: f64,
    /// Comes later than those behind it.
    pub reorder: f64,
    /// One byte of the payload is another, so that the digest is wrong.
    pub corrupt: f64,
    /// Delay of all, in milliseconds.
    pub delay_ms: u64,
    /// The first so many are lost for certain, whatever the chances are.
    pub lose_first: u64,
}

impl Chances {
    /// Whether frames can go missing or come out of turn.
    pub(crate) fn breaks_order(&self) -> bool {
        self.lose > 0.0 || self.reorder > 0.0 || self.corrupt > 0.0 || self.lose_first > 0
    }
}

/// How the agent greets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handshake {
    /// Never sends a request.
    pub never: bool,
    /// Milliseconds before the request.
    pub request_delay_ms: u64,
    /// Milliseconds between the response and the completion.
    pub complete_delay_ms: u64,
    /// Asks for an action that nobody knows.
    pub unknown_action: bool,
    /// Asks for encryption by KMS.
    pub kms: bool,
    /// Version that the agent claims; empty is that of the configuration.
    pub agent_version: String,
    /// Message for the user with the completion.
    pub customer_message: String,
}

/// Frames that no agent would send, to see what a client does with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hostile {
    /// Payload length 2^31 with three bytes behind it.
    HugeLength,
    /// Header length 0.
    HeaderZero,
    /// Header length past the end.
    HeaderPastEnd,
    /// Ten bytes.
    Short,
    /// Sequence number -1.
    NegativeSeq,
    /// Sequence number 2^63-1.
    HugeSeq,
    /// So many frames out of order, from this number on, that the head never joins.
    OutOfOrder {
        /// First sequence number.
        from: i64,
        /// How many.
        count: u32,
    },
    /// A message of an unknown type.
    UnknownType,
    /// An acknowledgement of something that the client never sent.
    FalseAck,
    /// An acknowledgement that is not JSON.
    BadAck,
    /// A text message where only binary ones belong.
    Text,
    /// A handshake request in the middle of the session.
    SecondHandshake,
    /// `channel_closed` with terminal escapes in its text.
    EscapedClose,
    /// These bytes as the next data of the agent (sequenced, so smux reads them).
    Data(Vec<u8>),
    /// A binary message of these bytes.
    Raw(Vec<u8>),
}
