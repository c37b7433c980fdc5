//! EC2 as far as an agent asks it: managed prefix lists, interfaces and subnets, by the Query protocol,
//! with signatures checked, every documented rule enforced and faults on demand.
//!
//! A request that breaks a rule is refused as the service would and noted in [`Stats::violations`].

mod query;
mod server;
mod state;

pub use server::{Ec2, Fake};
pub use state::{Faults, Interface, PrefixList, Stats, Subnet};
