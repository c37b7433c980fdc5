//! The control socket: HTTP with JSON bodies on `/run/palisade/control.sock`.
//!
//! Who may connect is decided by the socket's owner, group and mode (0660 root:palisade); every
//! request that changes something is recorded with the uid and pid of who asked. The paths are
//! described in `docs/protocol/control.md`; `routes` maps them to the modules' handles, and `server`
//! knows nothing of what they mean. `supervisor` is what Supervisor's own tools talk to, at a socket of
//! its own.

mod endless;
mod follow;
mod groups;
mod handle;
mod peer;
mod routes;
mod select;
mod server;
mod signal;
mod stall;
pub mod supervisor;
mod watch;

pub use groups::{
    GroupChanges, GroupRefusal, group_changes, keep_own_url, own_url, with_group, without_group,
};
pub use handle::{AppHandle, AppRequest};
pub use peer::Peer;
pub use routes::{Backend, Modules, Overview, router};
pub use select::{Unknown, select, to_replace, without_scheduled};
pub use server::{Patience, serve};
