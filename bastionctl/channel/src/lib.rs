//! Client of the SSM data channel: what `session-manager-plugin` does for port sessions, as a library.
//!
//! A port session is a WebSocket to the service, behind which an agent on the host has a TCP
//! connection. The crate knows nothing of credentials: [`Service`] signs, resumes and terminates.
//!
//! ```text
//!  Stream ──▶ hub ──▶ smux ──▶ outbound ──▶ frame ──▶ WebSocket ──▶ service ──▶ agent ──▶ port
//!  Stream ◀── hub ◀── smux ◀── inbound  ◀── frame ◀── WebSocket ◀── service ◀── agent ◀── port
//!             bytes   pieces   numbers, acknowledgements
//! ```
//!
//! The protocol, from below:
//! - [`frame`]: one `AgentMessage` in each binary WebSocket message; a header of 120 bytes with a digest.
//! - [`outbound`], [`inbound`]: each direction numbers its frames from 0. Every frame is acknowledged by
//!   itself, again if it comes again; what is overdue is sent again. There is no flow control on the
//!   wire, so [`window`] bounds what is under way by the delay of acknowledgements, [`rtt`] says what
//!   is overdue, and [`probe`] finds how large frames may be.
//! - [`handshake`]: the agent says what the session is, the client what it can do. No data before.
//! - [`machine`]: all of the above as one value without IO, driven by frames and the time.
//! - [`smux`]: many streams in one session, for port forwards of agents after 3.0.196.0.
//! - [`Session`]: the task that owns the socket. A socket that is lost, be it by the service's hourly
//!   close 1000, is made again with the same numbers and buffers; streams only see a pause. A session
//!   has one [`End`], and is terminated on every way out, also when its handle is dropped.
//!
//! Bounds: a frame 1 MiB; under way [`Options::window`]; out of order 8 MiB; received and not read 4 MiB;
//! written and not sent 256 KiB for each of at most 1024 streams.

pub mod ack;
mod dial;
mod driver;
mod end;
pub mod frame;
pub mod handshake;
mod hub;
mod ids;
pub mod inbound;
mod judge;
mod line;
pub mod listener;
pub mod machine;
pub mod outbound;
pub mod probe;
pub mod proxy;
pub mod rtt;
mod serve;
mod service;
mod session;
pub mod smux;
pub mod stdio;
mod stream;
mod text;
pub mod url;
pub mod version;
pub mod window;

pub use dial::Dialer;
pub use end::End;
pub use handshake::Mode;
pub use hub::OpenError;
pub use line::StreamError;
pub use machine::Stats;
pub use probe::FrameSize;
pub use proxy::Proxy;
pub use service::{Resumed, Service, ServiceError, Signed, Started, Token};
pub use session::{Options, Session, SessionError, State};
pub use stream::Stream;
pub use text::printable;
pub use url::Endpoint;
