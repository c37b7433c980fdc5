//! Strict stand-ins for AWS on loopback, with faults on demand.

pub mod logs;
