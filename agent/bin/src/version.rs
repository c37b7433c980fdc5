//! What this program calls itself. Only `main` is built with it, so that the same code packaged as
//! another version costs a compilation of one small file and not of everything.

use std::sync::OnceLock;

static VERSION: OnceLock<&str> = OnceLock::new();

/// Said once, before anything asks.
pub(crate) fn set(version: &'static str) {
    VERSION.get_or_init(|| version);
}

pub(crate) fn version() -> &'static str {
    VERSION.get().copied().unwrap_or(env!("CARGO_PKG_VERSION"))
}
