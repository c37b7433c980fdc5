//! What a source's lines are read with, from the settings.

use super::{content::LineRules, redaction::Redaction};
use crate::clock::Timestamp;

/// What building one batch needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) now: Timestamp,
    pub(super) rules: &'a LineRules,
    /// Times older than this are not taken from lines: the service would refuse them.
    pub(super) oldest_ms: i64,
    /// The end that the source had for a while: its last event is whole if it still has it.
    pub(super) still_at: Option<u64>,
    /// For files; output of programs came without its secrets.
    pub(super) redaction: &'a Redaction,
}

/// How old a time may be that is taken from a line: two weeks or the group's retention, less an hour
/// that a line may wait for its delivery.
pub(super) fn oldest_ms(retention_days: Option<u32>) -> i64 {
    const HOUR_MS: i64 = 3600 * 1000;
    let days = i64::from(retention_days.unwrap_or(u32::MAX).min(14));
    days * 24 * HOUR_MS - HOUR_MS
}
