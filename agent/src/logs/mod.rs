//! Ships what programs write and what files gain, at least once.
//!
//! ```text
//! program's output ── Handle::append ──> spool (a directory of segments per process) ─┐
//! followed files ── scan: grown, rotated, emptied, gone ──> the file is its own spool ─┤
//!                                                                                      v
//!            checkpoint <── acknowledged <── CloudLogs::put <── one batch at a time per lane
//! ```
//!
//! A line is *safe* when it is in a segment or in the file it was written to. It is *delivered* when
//! the service said so, and only then does the checkpoint pass it. So after a crash what was on its
//! way is sent again, and nothing is missing. With `sink: local` what was on its way is known
//! exactly, and nothing is doubled either.
//!
//! Lines are given up in three cases, each counted in [`Status`] and told in the stream or in the
//! dead-letter file: the spool is full and may drop its oldest, a file was emptied or removed before
//! it was read and no copy exists, the service will never take the event.

mod batch;
mod checkpoint;
mod dead_letter;
mod error;
mod escape;
mod handle;
mod lane;
mod line;
mod local;
mod names;
mod ports;
mod retry;
mod settings;
mod source;
mod spool;
mod status;
mod task;
#[cfg(any(test, feature = "test-util"))]
pub mod testutil;

pub use batch::{Batch, EVENT_OVERHEAD, Full, MAX_BYTES, MAX_EVENTS, MAX_MESSAGE, MAX_SPAN_MS};
pub use error::{HandleError, LogsError};
pub use handle::{Handle, LineSource, OutputStream};
pub use local::{LOCAL_FILE_BYTES, LOCAL_FILES, LocalSink};
pub use ports::{
    CloudLogs, Delivered, Failure, Hints, NoHints, Outcome, Refused, SpoolFile, SpoolFs, TailEntry,
    TailFile, TailFs, TailStat,
};
pub use settings::*;
pub use status::{SourceStatus, Status};
pub use task::{Host, Shipper, open};
