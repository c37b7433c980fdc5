//! Keys of a program about its life while it runs: health, reload, rolling, steps of stopping, upkeep.

use super::section::Section;
use crate::supervise::{Health, Reload, Rolling, StopStep, Upkeep};

/// What these keys say.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) health: Option<Health>,
    pub(super) reload: Option<Reload>,
    pub(super) rolling: Rolling,
    pub(super) stop_then: Vec<StopStep>,
    pub(super) upkeep: Upkeep,
}

/// Reads these keys of a program.
pub(super) fn upkeep(s: &mut Section<'_>) -> Draft {
    s.refuse(&["health", "reload", "rolling"]);
    Draft::default()
}
