//! What a lane makes of the segments that the last life left.

use std::io;

use super::{Inner, Segment};
use crate::logs::{
    ports::SpoolFile,
    spool::{
        scan::Walk,
        segment::{self, HEADER},
    },
};

impl Inner {
    /// Finds the segments and cuts the last one after its last good record. Appending goes on in a
    /// new segment. One of another version is left as it is: a newer agent wrote it, and may be back.
    pub(super) fn recover(&mut self) -> io::Result<()> {
        let mut firsts: Vec<u64> =
            self.fs.list(&self.dir)?.iter().filter_map(|n| segment::parse_file_name(n)).collect();
        firsts.sort_unstable();
        for first_seq in firsts {
            let path = self.path(first_seq);
            let file = self.fs.open(&path)?;
            let mut head = [0; HEADER];
            let n = file.read_at(&mut head, 0)?;
            let len = file.len()?;
            if segment::is_of_other_version(&head[..n]) && !has_records(file.as_ref(), len)? {
                // How far its numbers got it does not tell us; they end before this.
                self.next_seq = self.next_seq.max(first_seq.saturating_add(len));
                self.foreign.push(path);
                continue;
            }
            self.segments.push_back(Segment { first_seq, len, file: None });
        }
        let Some(mut last) = self.segments.pop_back() else { return Ok(()) };
        let path = self.path(last.first_seq);
        let file = self.fs.open(&path)?;
        let mut walk = Walk::new();
        self.next_seq = self.next_seq.max(last.first_seq);
        walk.visit(file.as_ref(), last.len, |r, _| {
            self.next_seq = self.next_seq.max(r.seq.saturating_add(1));
            true
        })?;
        let end = if walk.good_end > HEADER as u64 { walk.good_end } else { 0 };
        self.cut = last.len.saturating_sub(end.max(HEADER as u64));
        if end == 0 {
            self.fs.remove(&path)?;
            self.dir_changed = true;
            if self.next_seq > 1 {
                // Its name says how far the numbers had got. Without room for it they go on from what
                // is delivered.
                self.roll().unwrap_or_default();
            }
        } else {
            if end < last.len {
                file.set_len(end)?;
                last.len = end;
            }
            // The process that wrote it may have died before its commit.
            file.sync()?;
            self.dir_changed = true;
            self.segments.push_back(last);
        }
        Ok(())
    }
}

/// Whether records are in it that we can read, whatever its head says.
fn has_records(file: &dyn SpoolFile, len: u64) -> io::Result<bool> {
    let mut found = false;
    Walk::new().visit(file, len, |_, _| {
        found = true;
        false
    })?;
    Ok(found)
}
