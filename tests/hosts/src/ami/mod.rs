//! The image of an origin host: its template checked, and built for real under QEMU.
//!
//! The template is written for today's Packer. The one that Debian has does not know all of it; the
//! parts it lacks are marked and cut out of a copy (`cut`), and checked by reading (`facts`).

mod build;
mod cut;
mod facts;

pub use build::{Build, Built, validate};
pub use facts::problems;
