//! The host: the only module that starts processes, names `nix`, or is unsafe.
//!
//! It implements the ports of the other modules and decides nothing.

pub mod access;
pub mod cgroup;
pub mod child;
pub mod children;
mod clone;
mod command;
pub mod doctor;
pub mod event_file;
pub mod exec;
mod failed_step;
pub mod fdstore;
pub mod feed_files;
pub mod fifo;
pub mod files;
pub mod host;
mod host_inputs;
pub mod inherit;
pub mod input;
mod lean_fork;
pub mod ledger;
pub mod listen;
pub mod logfile;
pub mod machine;
pub mod memory;
pub mod nft;
pub mod nft_events;
pub mod notify;
pub mod oom;
pub mod patch;
pub mod pidfd;
pub mod probe;
pub mod proc;
pub mod program_log;
pub mod reexec;
pub mod signal_mask;
pub mod socket_file;
pub mod spool_fs;
mod syslog;
pub mod tail_fs;
pub mod terminal;
mod usage;
pub mod users;
mod wait;
pub mod watch_files;
mod watched;
