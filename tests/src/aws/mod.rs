//! Strict stand-ins for AWS on loopback, with faults on demand.

mod all;
pub mod ec2;
pub(crate) mod http;
pub mod logs;
mod signature;
pub mod ssm;

pub use all::Fake;
