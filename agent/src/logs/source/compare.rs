//! Telling by content whether two files are one.

use std::io;

use super::{
    reader::{fingerprint, tail_hash},
    scan::Known,
};
use crate::logs::ports::TailFile;

/// Bytes compared to tell a copy from a file that only begins alike.
const COMPARE_BYTES: u64 = 4 << 20;

/// Whether a file begins as the known one does.
pub(super) fn starts_like(k: &Known, file: &dyn TailFile) -> io::Result<bool> {
    Ok(k.head.len > 0 && fingerprint(file, Some(k.head.len))? == k.head)
}

/// Whether a file is the known one as far as that was read.
pub(super) fn continues(k: &Known, file: &dyn TailFile) -> io::Result<bool> {
    let same_head = fingerprint(file, Some(k.head.len))? == k.head;
    let same_tail = match k.tail {
        Some(tail) => tail_hash(file, k.position)? == tail,
        None => true,
    };
    Ok(same_head && same_tail && file.stat()?.size >= k.position)
}

/// Whether one file is the beginning of the other, as far as it is worth comparing.
pub(super) fn is_copy(a: &dyn TailFile, b: &dyn TailFile) -> io::Result<bool> {
    let common = a.stat()?.size.min(b.stat()?.size).min(COMPARE_BYTES);
    let (mut one, mut two) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = 0;
    while at < common {
        let n = a.read_at(&mut one, at)?;
        let m = b.read_at(&mut two, at)?;
        let both = n.min(m).min(usize::try_from(common - at).unwrap_or(usize::MAX));
        if both == 0 || one.get(..both) != two.get(..both) {
            return Ok(false);
        }
        at += both as u64;
    }
    Ok(common > 0)
}
