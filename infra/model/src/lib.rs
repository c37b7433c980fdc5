//! Palisade's CloudFormation templates, rendered and reasoned about without AWS.
//!
//! `project` reads the templates, the list of stacks and the environments; `render` gives every
//! resource of every stack of an environment with all intrinsic functions carried out; what is asked
//! about the result lives above. Nothing here but `project` reads a file, and nothing writes one.

pub mod controls;
pub mod diagram;
pub mod estate;
pub mod finding;
pub mod golden;
pub mod mistake;
pub mod net;
pub mod policy;
pub mod project;
pub mod reach;
pub mod render;
pub mod rules;
pub mod stateful;
#[cfg(test)]
mod trial;
pub mod value;
pub mod yaml;

pub use estate::{Estate, Resource, Stack};
pub use finding::Finding;
pub use mistake::{Mistake, Mistakes};
pub use project::Project;
pub use render::render;
pub use value::{At, Value};
