//! How many hosts may be up at once in this process: each wants memory and a share of two cores.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Hosts at once.
const MAX: usize = 3;
/// How long others may keep us waiting: as long as a whole file of slow tests.
const PATIENCE: Duration = Duration::from_secs(900);

static ROOM: Mutex<Room> = Mutex::new(Room { free: MAX });
static RETURNED: Condvar = Condvar::new();

#[derive(Debug)]
struct Room {
    free: usize,
}

/// The right to have one host.
#[derive(Debug)]
pub(super) struct Permit(());

/// Waits for all of `count` at once, so that two tests with half of what they need cannot wait for
/// each other.
pub(super) fn take(count: usize) -> Vec<Permit> {
    assert!(count <= MAX, "{count} hosts at once, {MAX} are allowed");
    let room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut room, wait) = RETURNED
        .wait_timeout_while(room, PATIENCE, |room| room.free < count)
        .unwrap_or_else(PoisonError::into_inner);
    assert!(!wait.timed_out(), "waited {PATIENCE:?} for {count} hosts' room");
    room.free -= count;
    (0..count).map(|_| Permit(())).collect()
}

impl Drop for Permit {
    fn drop(&mut self) {
        ROOM.lock().unwrap_or_else(PoisonError::into_inner).free += 1;
        RETURNED.notify_all();
    }
}
