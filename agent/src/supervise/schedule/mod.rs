//! Programs that run at times: when they are due, what a due time does, and what is remembered of it.
//!
//! One task for each scheduled process ([`run`]). It asks the supervisor for a start as anybody may,
//! and touches no process itself.
//!
//! ```text
//! calendar ── next_after ──> rules::step(record, now, is it running?) ──> start, stop and start, wait
//!                                  |                                            |
//!                                  v                                            v
//!                     ledger: state_dir/schedule/NAME.json             supervise::Handle
//! ```

mod calendar;
mod cron;
mod systemd;

pub use calendar::{BadCalendar, Calendar, Notation};
