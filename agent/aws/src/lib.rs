//! Adapters between the agent and AWS: they implement ports of the agent and nothing else.

mod clients;
pub mod compliance;
pub mod feed_http;
mod identity;
pub mod logs;

pub use clients::{Clients, LoadError, https_client};
pub use identity::HostIdentity;
