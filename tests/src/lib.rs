//! Harness of the whole-product tests, and the fakes they run against.

pub mod agent;
pub mod aws;
pub mod new_relic;
pub mod shipping;
pub mod wait;
