//! Changes of the settings that lock nobody out.
//!
//! ```text
//! file ── offer (reload) ──> no login cut, a way in left, tests pass? ──yes──> settings in force
//!                                                                └─no─> kept back, told in `status`
//! file ── apply --confirm ─> the same, for the caller's login ──> guardian armed ──> trial
//!            trial ── confirm ──> settings in force
//!              └── time over, rollback, guardian ──> the settings before; these are not tried again
//! ```
//! Promises:
//! * Settings on trial are in force for their time and no longer, also if the agent is killed or
//!   stopped: a process of its own, the guardian, puts the rules before back.
//! * What was rolled back or refused is not put in force again by a reload or a restart, but only by
//!   `apply`, or when the file says something else.
//! * Time is the kernel's since boot: a step of the clock changes no deadline.

mod guardian;
mod handle;
mod lockout;
mod policy;
mod ports;
mod state;
mod status;
mod task;
#[cfg(test)]
mod tests;

pub use guardian::{Ended, stand_by};
pub use handle::{ApplyRequest, Offer, Refused, SafetyHandle, Tested};
pub use lockout::{Connection, Lockout, Surroundings, admits, cut, judge};
pub use policy::{Probe, Verdict, expected, probes_of};
pub use ports::{
    Answers, BootClock, Fence, Guardian, Guardians, NoProber, Order, Prober, SafetyError, View,
};
pub use state::{BadState, Kept, Start, decode as decode_kept, encode as encode_kept, resolve};
pub use status::{Applied, CutSession, KeptBack, Proposal, SafetyStatus, TestResult, TrialStatus};
pub use task::{Safety, SafetyPorts, kept};
