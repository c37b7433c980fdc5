//! The host: the only module that starts processes, names `nix`, or is unsafe.
//!
//! It implements the ports of the other modules and decides nothing.

pub mod children;
pub mod exec;
pub mod files;
pub mod spool_fs;
pub mod tail_fs;
pub mod watch_files;
