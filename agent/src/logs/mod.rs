//! To come.

mod settings;

pub use settings::*;
