//! Short-lived SSH access: grants, the keys they stand for, and the logins that come of them.
//!
//! ```text
//! palisade access grant ──> Handle ──> Task ── policy ──> Ledger ──> /run/palisade/access/grants.json
//!                                        │                  │
//!                                        │                  └─ watch: Keys ──> keyserver <── sshd's helper
//!                                        │                                        │ binding: which SSM session?
//!                                        │ <──────────── attempt: sshd, grant ────┘
//!                                        ├─ at T-5 min, T-1 min: a line on the session's terminals
//!                                        ├─ at the end: message, SIGTERM, SIGKILL
//!                                        └─ audit: one hash chain on disk
//! ```
//! Promises:
//! * No text of a request reaches sshd: each line is made anew from fields that were checked.
//! * A grant ends by the time since boot, which nobody can set; a clock that is put back extends nothing.
//! * Whatever is not known refuses: no agent, no answer in time, no trace of the session, no journal.
//! * A live login ends with its grant, also over a restart or a death of the agent.

mod audit;
mod binding;
mod closing;
mod handle;
mod keys;
mod keyserver;
mod ledger;
mod model;
mod policy;
mod ports;
mod settings;
mod status;
mod store;
mod task;
#[cfg(test)]
mod testutil;
mod writer;

pub use audit::{
    AUDIT_VERSION, Entry, Event, Head, Line, Verdict as AuditVerdict, Verifier, plain,
};
pub use binding::{Traced, Unknown, Worker, is_session_id, owner_in};
pub use handle::{GrantError, Handle, RevokeError};
pub use keys::authorized_line;
pub use keyserver::{Answer, MAX_LINE, Question, Server, decode_answer, encode_question};
pub use ledger::Ledger;
pub use model::{
    Account, Boot, Ended, Grant, Login, Marks, Member, Moment, Process, Role, Session, Signal,
    Trail,
};
pub use policy::Refusal;
pub use ports::{AuditLog, Clocks, Facts, Journal, Processes, Tail, Tracer};
pub use settings::{AtExpiry, Settings, UserRule};
pub use status::{Counts, Status};
pub use task::{Parts, Task, new};
pub use writer::AuditWriter;
