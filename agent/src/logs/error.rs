//! What can keep the log path from starting.

use std::{io, path::PathBuf};

/// Why the log path cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The directory of spool and checkpoint cannot be used.
    #[error("use {path} for spool and checkpoint")]
    State {
        /// The directory or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a command to the log path brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The task that ships has ended.
    #[error("the log shipper is not running")]
    Gone,
    /// Not everything was delivered in time; it is kept on disk.
    #[error("{backlog_bytes} bytes of logs were not delivered in time and are kept on disk")]
    Late {
        /// What is left.
        backlog_bytes: u64,
    },
}
