//! Strict stand-ins for AWS on loopback, with faults on demand.

mod all;
mod http;
pub mod logs;
pub mod ssm;

pub use all::Fake;
