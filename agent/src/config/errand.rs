//! Keys of a program that runs at times or once, and its hooks.

use super::section::Section;
use crate::supervise::{Hooks, Schedule};

/// What these keys say.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) schedule: Option<Schedule>,
    pub(super) hooks: Hooks,
}

/// Reads these keys of a program.
pub(super) fn errand(_: &mut Section<'_>) -> Draft {
    Draft::default()
}
