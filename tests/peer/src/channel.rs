//! The agent's end of a data channel: frames, reliability, handshake, port sessions, faults.

mod actor;
mod checks;
pub mod faults;
pub mod frame;
mod handshake;
mod hostile;
mod inbound;
mod lane;
mod opening;
mod port;
mod reliable;
pub(crate) mod session;
mod smux;
mod socket;

pub(crate) use actor::run;
pub(crate) use socket::serve;
