//! Archives in the "newc" format, which the kernel unpacks as its first root file system.

/// An archive being written. Everything belongs to root.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// A file that may be executed.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // ino, mode, uid, gid, nlink, mtime, size, device (4), length of the name, checksum
        let size = content.len();
        let fields = [self.entries, mode, 0, 0, 1, 0].map(|n| format!("{n:08x}")).concat();
        let name = path.len() + 1;
        let head = format!("070701{fields}{size:08x}{}{name:08x}{:08x}", "0".repeat(32), 0);
        self.bytes.extend(head.as_bytes());
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_contents_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("bin/x", b"abcde");
        let bytes = archive.finish();
        let at: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, w)| *w == b"070701").map(|(i, _)| i).collect();
        assert_eq!(at.len(), 3);
        assert!(at.iter().all(|i| i % 4 == 0), "{at:?}");
        // The header has 110 bytes; the name and its zero follow.
        assert_eq!(&bytes[at[1] + 110..at[1] + 115], b"bin/x");
    }
}
