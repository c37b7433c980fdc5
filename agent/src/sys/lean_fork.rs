//! A fork that does not copy the heap.
//!
//! A child that only executes a program needs a few strings, not the agent's megabytes: their page
//! tables would be copied for it, and as long as it lives the agent would pay a page fault for each
//! page that it writes to. So what the child needs is laid into an [`Arena`], and the heap is
//! [`Hidden`] while the child is made: it does not exist there at all.

use std::{
    ffi::{CStr, c_void},
    io,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::OnceLock,
};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// Memory outside the heap. What is put into it stays where it is until the arena is dropped.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<c_void>,
    size: usize,
    used: usize,
}

/// What is put is aligned for pointers and numbers.
const ALIGN: usize = 16;

impl Arena {
    /// With room for `bytes` in `pieces` pieces.
    pub(super) fn new(bytes: usize, pieces: usize) -> io::Result<Self> {
        let size = bytes + pieces * ALIGN + ALIGN;
        let length = NonZeroUsize::new(size).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        #[expect(unsafe_code, reason = "memory of its own")]
        // SAFETY: a new private mapping at a place of the kernel's choice touches no other memory.
        let base = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Self { base, size, used: 0 })
    }

    /// Copies `values` into it. The pointer is good for as many values, as long as the arena lives.
    pub(super) fn put<T: Copy>(&mut self, values: &[T]) -> io::Result<*mut T> {
        let bytes = size_of_val(values);
        let end = self.used.checked_add(bytes).filter(|end| *end <= self.size);
        if end.is_none() || align_of::<T>() > ALIGN {
            return Err(io::Error::other("no room for what the child needs"));
        }
        #[expect(unsafe_code, reason = "the place within a mapping, and its content")]
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one copy")]
        // SAFETY: `used` and `used + bytes` are within the mapping, `used` is a multiple of ALIGN;
        // nobody else has a reference into it, and bytes of `Copy` values may be copied.
        let place = unsafe {
            let place = self.base.as_ptr().cast::<u8>().add(self.used).cast::<T>();
            place.copy_from_nonoverlapping(values.as_ptr(), values.len());
            place
        };
        self.used = (self.used + bytes).next_multiple_of(ALIGN).min(self.size);
        Ok(place)
    }

    pub(super) fn put_text(&mut self, text: &CStr) -> io::Result<*mut libc::c_char> {
        Ok(self.put(text.to_bytes_with_nul())?.cast())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the end of the mapping")]
        // SAFETY: it is ours, and who holds pointers into it keeps to its life by contract.
        let unmapped = unsafe { munmap(self.base, self.size) };
        if let Err(e) = unmapped {
            tracing::debug!(error = %e, "memory of a start not given back");
        }
    }
}

/// While it lives, a child that is made has no heap. Nothing but the way into a program may run in it.
#[derive(Debug)]
pub(super) struct Hidden {
    heap: Option<(NonNull<c_void>, usize)>,
}

impl Hidden {
    /// Hides the heap as it is now. Where that can't be, the child gets its copy, as usual.
    pub(super) fn heap() -> Self {
        let heap = heap().filter(|(at, size)| advise(*at, *size, MmapAdvise::MADV_DONTFORK));
        Self { heap }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some((at, size)) = self.heap {
            advise(at, size, MmapAdvise::MADV_DOFORK);
        }
    }
}

fn advise(at: NonNull<c_void>, size: usize, advice: MmapAdvise) -> bool {
    #[expect(unsafe_code, reason = "madvise is unsafe for the advice that drops pages")]
    // SAFETY: neither advice changes memory of this process, only what a child gets of it.
    unsafe { madvise(at, size, advice) }.is_ok()
}

/// The heap that grows by brk(2), where the allocator has nearly all that it gave out.
fn heap() -> Option<(NonNull<c_void>, usize)> {
    static BEGIN: OnceLock<Option<usize>> = OnceLock::new();
    let begin =
        (*BEGIN.get_or_init(|| begin_in(&std::fs::read_to_string("/proc/self/maps").ok()?)))?;
    #[expect(unsafe_code, reason = "sbrk with 0 only asks")]
    // SAFETY: with 0 it moves nothing.
    let end = unsafe { libc::sbrk(0) };
    let size = end.addr().checked_sub(begin).filter(|size| *size > 0)?;
    Some((NonNull::new(end.with_addr(begin))?, size))
}

/// Where the heap begins, by `/proc/self/maps`.
fn begin_in(maps: &str) -> Option<usize> {
    let line = maps.lines().find(|line| line.ends_with("[heap]"))?;
    usize::from_str_radix(line.split('-').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_found() {
        let maps =
            "5581d000-5583e000 rw-p 00000000 00:00 0            [heap]\n7f0-7f1 r-xp 0 0:0 0\n";
        assert_eq!(begin_in(maps), Some(0x5581_d000));
        assert_eq!(begin_in("7f0-7f1 r-xp 0 0:0 0\n"), None);
        let (at, size) = heap().unwrap();
        assert!(at.addr().get() % 4096 == 0 && size >= 4096, "{at:?} {size}");
    }

    #[test]
    fn what_was_put_stays_in_its_place_and_too_much_is_refused() {
        let mut arena = Arena::new(3 + 16, 2).unwrap();
        let text = arena.put_text(c"ab").unwrap();
        let numbers = arena.put(&[7_u64, 9]).unwrap();
        #[expect(unsafe_code, reason = "what the child does")]
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "two looks")]
        // SAFETY: both are in the arena, which lives, with the sizes that were put.
        unsafe {
            assert_eq!(CStr::from_ptr(text), c"ab");
            assert_eq!(std::slice::from_raw_parts(numbers, 2), [7, 9]);
        }
        assert!(arena.put(&[0_u8; 4096]).is_err());
    }

    /// The flags of the heap's mapping, as the kernel shows them.
    fn flags() -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let heap = smaps.split("[heap]").nth(1).unwrap();
        heap.lines().find(|l| l.starts_with("VmFlags:")).unwrap().to_owned()
    }

    #[test]
    fn the_heap_is_hidden_for_a_moment_only() {
        let hidden = Hidden::heap();
        assert!(flags().contains(" dc "), "{}", flags());
        drop(hidden);
        assert!(!flags().contains(" dc "), "{}", flags());
    }
}
