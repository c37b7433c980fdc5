//! Doing something in another network namespace.

use std::{fs::File, io, path::Path};

use nix::sched::{CloneFlags, setns};

/// Does something in a namespace given by a path such as `/run/netns/NAME`. A socket belongs to the
/// namespace of the thread that makes it, so a thread goes there.
pub(super) fn inside<T: Send + 'static>(
    namespace: &Path,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    let there = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(f())
    });
    there.join().map_err(|_| io::Error::other("the thread panicked"))?
}
