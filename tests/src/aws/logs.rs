//! CloudWatch Logs as far as an agent uses it: AWS JSON 1.1 over HTTP, every documented rule of
//! PutLogEvents enforced, faults on demand, and a count of what arrived.
//!
//! A request that breaks a rule is refused as the service would and noted in
//! [`Stats::violations`], so a test can say that none did.

mod rules;
mod server;
mod state;

pub use server::{Fake, Logs};
pub use state::{Faults, Stats, StreamStats};
