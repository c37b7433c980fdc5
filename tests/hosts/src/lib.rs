//! Test hosts: real systemd machines in containers and under QEMU, and the network between them.
//! Whatever a test makes here goes with it, also when its process is killed outright.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a harness for tests: what fails here fails the test, on plain threads and real time"
)]

pub mod ami;
pub mod build;
pub mod exec;
pub mod imds;
pub mod lab;
pub mod nspawn;
mod owned;
pub mod packages;
pub mod repo;
pub mod tools;
pub mod trees;
pub mod vm;
pub mod wait;
