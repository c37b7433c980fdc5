//! Ships what programs write and what files gain, at least once.
//!
//! ```text
//! program's output ── Handle::append ──> spool (a directory of segments per process) ─┐
//! followed files ── scan: grown, rotated, emptied, gone ──> the file is its own spool ─┤
//! systemd journal ── entries, unit by unit ───────────────> it is its own spool too ────┤
//!                                                                                      v
//!            checkpoint <── acknowledged <── CloudLogs::put <── one batch at a time per lane
//! ```
//!
//! A line is *safe* when it is in a segment or in the file it was written to. It is *delivered* when
//! the service said so, and only then does the checkpoint pass it. So after a crash what was on its
//! way is sent again, and nothing is missing. With `sink: local` what was on its way is known
//! exactly, and nothing is doubled either, but for entries of the journal since the last checkpoint.
//!
//! Lines are given up in three cases, each counted in [`Status`] and told in the stream or in the
//! dead-letter file: the spool is full and may drop its oldest, a file was emptied or removed before
//! it was read and no copy exists, the service will never take the event.

mod assemble;
mod batch;
mod checkpoint;
mod content;
mod dead_letter;
mod error;
mod escape;
#[cfg(any(test, feature = "test-util"))]
pub mod fuzzing;
mod handle;
mod journal;
mod lane;
mod line;
mod local;
mod names;
mod pace;
mod ports;
mod reading;
mod redaction;
mod retry;
mod settings;
mod source;
mod spool;
mod status;
mod task;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;

pub use batch::{Batch, EVENT_OVERHEAD, Full, MAX_BYTES, MAX_EVENTS, MAX_MESSAGE, MAX_SPAN_MS};
pub use content::{BadPattern, Custom, Kind, LineRules, Multiline, Pattern, Redactor, Zone};
pub use error::{HandleError, LogsError};
pub use handle::{Handle, LineSource, OWN_PROGRAM, OutputStream};
pub use journal::{
    JOURNAL_DROPPED, JOURNAL_FIELDS, JournalAsk, JournalEntry, JournalFollow, JournalPlace,
    JournalTold, Journals, NoJournal, cursor_hash,
};
pub use local::{LOCAL_FILE_BYTES, LOCAL_FILES, LocalSink};
pub use ports::{
    CloudLogs, Delivered, Failure, Hints, NewGroups, NoHints, Outcome, Refused, Room, SpoolFile,
    SpoolFs, TailEntry, TailFile, TailFs, TailStat,
};
pub use settings::*;
pub use status::{SourceStatus, Status};
pub use task::{Host, Shipper, open};
