//! Harness of the whole-product tests: real agents in directories of their own.

pub mod agent;
pub mod wait;
