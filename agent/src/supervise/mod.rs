//! Who runs, and who is started again.
//!
//! One task owns the table of processes ([`start`]); everybody else holds a [`Handle`]. A process is
//! driven by a pure machine (`machine.rs`) from levels that are wanted and news that came in; new
//! settings are compared by a pure function (`reconcile.rs`); the host is behind [`ports`].
//!
//! ```text
//! Settings --update--> reconcile --> want of each process --+
//! Handle  --start, stop-----------------------------------> machine::step --> Spawn, Terminate, Kill
//! pidfd, NOTIFY_SOCKET, probes, timer --------------------> |                      |
//!                                                            +--> table, status, events
//! pipe --> output.rs --> log file, OutputSink
//! all of these --> bus --> pipes of event listeners
//! ```
//!
//! What survives whom:
//! * The agent ends in any way: processes run on, their output waits in their pipes, listening
//!   sockets stay open in the processes (and in systemd's FD store), and the next agent adopts
//!   them from the table.
//! * A child is in the table before it does anything: it waits for the agent's word, and ends if
//!   the agent does not live to give it. So there is never a second copy.
//! * Planned exec of a new binary: as above, and the children stay the agent's own.

mod adopt;
mod bus;
mod capture;
mod chronicle;
mod drive;
mod errand;
mod error;
mod handle;
mod held;
mod hooks;
mod inspect;
mod listeners;
mod machine;
mod minders;
mod model;
mod output;
mod past;
pub mod ports;
mod reconcile;
mod renew;
mod requests;
mod rolling;
pub mod schedule;
mod settings;
mod slot;
mod spawn;
mod storm;
mod table;
mod task;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;
mod twin;
mod usage;
mod vacancy;
mod waiters;
mod watch;

pub use bus::EventName;
pub use chronicle::Chronicle;
pub use error::{
    RollError, Rolled, SpawnError, StartError, StdinError, StopError, SuperviseError, UnknownName,
};
pub use handle::{Event, HandOver, Handle, Note, Outcome, PerProcess, Restarted, Target};
pub use hooks::Stage;
pub use inspect::Info;
pub use model::{Exit, Identity, NOT_LET_GO, OutputSource, Stream};
pub use ports::{
    Child, FdStore, HookLaunch, Host, Inherited, InputPipe, Inputs, Launch, LogOutcome, Notes,
    Notice, OutputPipe, OutputSink, Outputs, Processes, ProgramLog, Sockets, Tables, Usages, Whom,
    WrittenTo,
};
pub use reconcile::Changes;
pub use schedule::{BadCalendar, Calendar, Diary, Ledger, Notation};
pub use settings::*;
pub use task::{Wiring, start};
pub use twin::{TWIN, is_twin};
pub use usage::{Reading, UsageOf};
