//! The host: the only module that starts processes, names `nix`, or is unsafe.
//!
//! It implements the ports of the other modules and decides nothing.

pub mod children;
pub mod event_file;
pub mod exec;
pub mod feed_files;
pub mod files;
pub mod nft;
pub mod nft_events;
pub mod reexec;
pub mod socket_file;
