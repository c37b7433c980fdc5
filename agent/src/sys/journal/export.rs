//! The journal's export format: `FIELD=value` lines, or a field's name alone and then its length in eight
//! bytes, its bytes and a newline; an empty line ends the entry.

use crate::logs::{JOURNAL_FIELDS, JournalEntry};

/// Values longer than this are cut.
const MAX_VALUE: usize = 1 << 20;

/// This is not the export format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what journalctl prints is not the export format")]
pub struct BadExport;

/// Reads entries from bytes as they come.
#[derive(Debug, Default)]
pub struct Export {
    buf: Vec<u8>,
    /// Read up to here.
    at: usize,
    /// Bytes of a value that is too long, still to come.
    skip: u64,
    /// The rest of a line that is too long is still to come.
    skip_line: bool,
    entry: JournalEntry,
    any: bool,
}

impl Export {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.drain(..self.at);
        self.at = 0;
        self.buf.extend_from_slice(bytes);
    }

    /// The next entry, if the bytes so far have all of it. To be called until there is none.
    ///
    /// # Errors
    /// When this is not the export format.
    pub fn entry(&mut self) -> Result<Option<JournalEntry>, BadExport> {
        loop {
            let rest = self.buf.get(self.at..).unwrap_or_default();
            if self.skip > 0 {
                let now = self.skip.min(rest.len() as u64);
                self.skip -= now;
                self.at += usize::try_from(now).map_err(|_| BadExport)?;
                if self.skip > 0 {
                    return Ok(None);
                }
                continue;
            }
            let newline = memchr::memchr(b'\n', rest);
            if self.skip_line {
                self.at += newline.map_or(rest.len(), |n| n + 1);
                if newline.is_none() {
                    return Ok(None);
                }
                self.skip_line = false;
                continue;
            }
            let Some(end) = newline else {
                if rest.len() <= MAX_VALUE {
                    return Ok(None);
                }
                // A long value without line ends is printed as text.
                let Some((name, value)) = split(rest) else { return Err(BadExport) };
                let (name, value) = (name.to_vec(), value.to_vec());
                self.set(&name, value)?;
                (self.at, self.skip_line) = (self.buf.len(), true);
                continue;
            };
            let line = rest.get(..end).unwrap_or_default();
            if line.is_empty() {
                self.at += 1;
                if std::mem::take(&mut self.any) {
                    return Ok(Some(std::mem::take(&mut self.entry)));
                }
                continue;
            }
            if let Some((name, value)) = split(line) {
                let (name, value) = (name.to_vec(), value.to_vec());
                self.set(&name, value)?;
                self.at += end + 1;
                continue;
            }
            // A value with any bytes.
            let Some((len, data)) = rest.get(end + 1..).and_then(|r| r.split_first_chunk::<8>())
            else {
                return Ok(None);
            };
            let len = u64::from_le_bytes(*len);
            let kept = usize::try_from(len).map_or(MAX_VALUE, |len| len.min(MAX_VALUE));
            let whole = kept as u64 == len;
            let Some(value) = data.get(..kept).filter(|_| !whole || data.len() > kept) else {
                return Ok(None);
            };
            if whole && data.get(kept) != Some(&b'\n') {
                return Err(BadExport);
            }
            let (name, value) = (line.to_vec(), value.to_vec());
            self.set(&name, value)?;
            self.at += end + 1 + 8 + kept + usize::from(whole);
            self.skip = if whole { 0 } else { (len - kept as u64).saturating_add(1) };
        }
    }

    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), BadExport> {
        let good = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
        if name.is_empty() || name.len() > 64 || !name.iter().all(good) {
            return Err(BadExport);
        }
        self.any = true;
        match name {
            b"__CURSOR" => {
                self.entry.cursor = String::from_utf8(value).map_err(|_| BadExport)?;
            }
            b"__REALTIME_TIMESTAMP" => {
                let number = std::str::from_utf8(&value).ok().and_then(|t| t.parse().ok());
                self.entry.realtime_us = number.ok_or(BadExport)?;
            }
            _ => {
                if let Some(known) = JOURNAL_FIELDS.iter().find(|f| f.as_bytes() == name) {
                    // Of several values the first counts, as with the library.
                    self.entry.fields.entry(known).or_insert(value);
                }
            }
        }
        Ok(())
    }
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', line)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

/// What the fuzz target `log_journal` does: however the bytes come, the same entries are in them, and no
/// more is kept than the longest value.
#[cfg(any(test, feature = "test-util"))]
pub fn fuzz(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let read = |size: usize| {
        let (mut export, mut found) = (Export::default(), Vec::new());
        for chunk in bytes.chunks(size) {
            export.push(chunk);
            loop {
                match export.entry() {
                    Ok(Some(entry)) => found.push(entry),
                    Ok(None) => break,
                    Err(bad) => return (found, Err(bad)),
                }
            }
            assert!(export.buf.len() - export.at <= MAX_VALUE + size + 128);
        }
        (found, Ok(()))
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(read(usize::from(*cut) + 1), whole);
    assert!(whole.0.iter().flat_map(|e| e.fields.keys()).all(|k| JOURNAL_FIELDS.contains(k)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        let len = (value.len() as u64).to_le_bytes();
        [name.as_bytes(), b"\n", &len, value, b"\n"].concat()
    }

    fn all(chunks: &[&[u8]]) -> Result<Vec<JournalEntry>, BadExport> {
        let (mut export, mut out) = (Export::default(), Vec::new());
        for chunk in chunks {
            export.push(chunk);
            while let Some(e) = export.entry()? {
                out.push(e);
            }
        }
        Ok(out)
    }

    #[test]
    fn text_and_binary_fields_are_read_and_others_passed_over() {
        let mut text = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=17\n_HOSTNAME=h\n".to_vec();
        text.extend(binary("MESSAGE", b"two\nlines\n\n\xff="));
        text.extend(binary("COREDUMP", b"\0\0\n\n"));
        text.extend(b"_SYSTEMD_UNIT=a.service\n\n\n__CURSOR=x\nMESSAGE=a=b\nMESSAGE=second\n\n");
        let got = all(&[&text]).unwrap();
        assert_eq!((got.len(), got[0].cursor.as_str(), got[0].realtime_us), (2, "s=1;i=2", 17));
        assert_eq!(got[0].fields["MESSAGE"], b"two\nlines\n\n\xff=");
        assert_eq!(got[0].fields["_SYSTEMD_UNIT"], b"a.service");
        assert_eq!(got[0].fields.len(), 2);
        assert_eq!(got[1].fields["MESSAGE"], b"a=b");
    }

    #[test]
    fn values_that_are_too_long_are_cut_and_what_follows_is_read() {
        let long = vec![b'x'; MAX_VALUE + 70_000];
        let as_text = [b"MESSAGE=", &long[..], b"\n__CURSOR=c\n\n"].concat();
        let as_bytes = [&binary("MESSAGE", &long)[..], b"__CURSOR=c\n\n"].concat();
        for all_bytes in [as_text, as_bytes] {
            let chunks: Vec<&[u8]> = all_bytes.chunks(64 << 10).collect();
            let got = all(&chunks).unwrap();
            assert_eq!((got.len(), got[0].cursor.as_str()), (1, "c"));
            let len = got[0].fields["MESSAGE"].len();
            assert!((MAX_VALUE..MAX_VALUE + (64 << 10)).contains(&len), "{len}");
        }
    }

    #[test]
    fn other_output_is_an_error_and_not_an_entry() {
        for bad in ["-- No entries --\n\n", "__REALTIME_TIMESTAMP=x\n\n", "=a\n\n"] {
            // A line without `=` is the name of a binary field; a wrong name is seen with its value.
            let padded = format!("{bad}{}", "\n".repeat(5000));
            assert!(all(&[padded.as_bytes()]).is_err() || bad.starts_with("--"), "{bad}");
        }
        let unended = [&binary("MESSAGE", b"abc")[..19], b"X\n\n"].concat();
        assert_eq!(all(&[&unended]), Err(BadExport));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for (i, m) in messages.iter().enumerate() {
                bytes.extend(format!("__CURSOR=c{i}\n").into_bytes());
                bytes.extend(binary("MESSAGE", m));
                bytes.push(b'\n');
            }
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let got = all(&chunks).unwrap();
            let texts: Vec<Vec<u8>> = got.iter().map(|e| e.fields["MESSAGE"].clone()).collect();
            prop_assert_eq!(texts, messages);
        }

    }

    #[test]
    fn seeds_and_what_becomes_of_them_are_read_alike_in_any_pieces() {
        testing::fuzz("log_journal", fuzz);
    }
}
