//! The Palisade host agent, without its cloud adapters and without `main`.
//!
//! Imports point down only; `tests/layers.rs` holds the table. The working modules
//! ([`firewall`], [`supervise`], [`logs`]) never name each other: they meet in the binary's
//! `app.rs`, through a `watch`, a handle, or a port that `app.rs` fills.

pub mod access;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod errors;
pub mod events;
pub mod firewall;
mod log_place;
pub mod logs;
pub mod metrics;
pub mod origin;
pub mod patch;
pub mod supervise;
pub mod sys;
pub mod task;
#[cfg(test)]
mod testing;
