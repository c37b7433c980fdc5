//! Real servers replaced while visitors come: not one of them may notice.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests against real servers, some of it in helpers"
)]

mod celery;
mod gunicorn;
mod rig;
mod uvicorn;
mod visitors;
