//! `palisade top`: one agent's programs on a whole terminal.
//!
//! ```text
//! Agent port --Snapshot--> +-------+               +------+
//! keys ------------------> | Model | --draw------> | view | --> terminal
//! outcomes, log bytes ---> +-------+               +------+
//!                              |
//!                              +--Effect--> task: asks the agent, follows a log, ends
//! ```
//!
//! The model is pure: what came in and the time in, what is to be done out. The view is a function of
//! the model. Only `task` waits, only `terminal` touches the terminal.

mod input;
mod logs;
mod model;
mod ports;
mod rows;
mod task;
mod terminal;
#[cfg(test)]
mod testing;
mod view;
mod words;

pub use model::Act;
pub use ports::{Agent, Fact, Output, Snapshot, Tone};
pub use task::{TopError, run};
pub use terminal::rows;
pub use words::bytes;
