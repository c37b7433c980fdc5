//! Programs that run at times: when they are due, what a due time does, and what is remembered of it.
//!
//! One task minds all scheduled processes ([`run`]). It asks the supervisor for a start as anybody may,
//! and touches no process itself.
//!
//! ```text
//! calendar ── next_after ──> rules::step(record, now, does it run?) ──> start, stop and start, wait
//!                                  |                                            |
//!                                  v                                            v
//!                     Ledger: state_dir/schedule/NAME.json              supervise::Handle
//! ```

mod calendar;
mod cron;
mod ports;
mod record;
mod rules;
mod systemd;
mod task;

pub use calendar::{BadCalendar, Calendar, Notation};
pub use ports::{Diary, Ledger};
pub use task::run;
