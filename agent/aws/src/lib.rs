//! Adapters between the agent and AWS: they implement ports of the agent and nothing else.

pub mod feed_http;
