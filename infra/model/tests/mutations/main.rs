//! Tests of the rules themselves. Each rule has named mutations that trip it and nothing else; faults that
//! are planted are found; and of single edits at random in places that matter, nearly all are.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test, and a rate is for people to read"
)]

mod named;
mod operators;
mod random;
mod sources;
mod variants;
