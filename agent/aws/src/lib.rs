//! Adapters between the agent and AWS: they implement ports of the agent and nothing else.

mod clients;
pub mod compliance;
pub mod ec2;
pub mod feed_http;
mod identity;
pub mod logs;
pub mod new_relic;
pub mod origin_secret;
mod proxy;

pub use clients::{Clients, LoadError, https_client};
pub use identity::{HostIdentity, Vpc};
pub use proxy::ProxyError;
