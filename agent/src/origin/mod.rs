//! The origin guard: the web server answers only requests that carry the secret header of our CloudFront.
//!
//! ```text
//! SecretSource ──offer──> model::take ──> accepted ──> render ──> place ──> Server.reload
//!                              ^             │  (files for nginx)  (test, put, test)
//! nginx's notes ──hits──> model::count       └──> Store (survives us)
//!                         model::expire: what the source left and nobody uses goes
//! firewall's ranges ─────────────────────────────> render (who is believed about a visitor's address)
//! ```
//! Promises:
//! * A request without an accepted secret is refused; no secret, file or setting makes one that accepts all.
//! * A new secret is accepted as soon as the source has it; an old one goes when the source has not had it
//!   and nobody used it for a while, or after the longest time set. The last one never goes.
//! * nginx never finds files that it refuses because of us, whoever dies when; it is told to read them only
//!   after it tested them, and once where once is enough.
//! * What was accepted survives a restart, a reboot and a source that does not answer.
//! * Secrets are in the state file and in nginx's map, and nowhere else: people see ids.
//!
//! The files stay when the agent stops, and when the section is taken out of the configuration.

mod handle;
mod hits;
mod kept;
mod model;
mod place;
mod ports;
mod render;
mod secret;
mod settings;
mod site;
mod status;
mod task;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;

pub use handle::{DropError, Gone, Handle};
pub use hits::{Hit, SAMPLED, parse as parse_hits};
pub use kept::MAX_BYTES as MAX_STATE_BYTES;
pub use model::*;
pub use place::{PlaceError, Placed, place};
pub use ports::*;
pub use render::{Access, File, Site, When};
pub use secret::{BadSecret, MAX_CHARS, MIN_CHARS, Secret, SecretId};
pub use settings::*;
pub use site::{SiteFault, faults};
pub use status::*;
pub use task::{Origin, Ports, new};
