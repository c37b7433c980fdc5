//! The format of a spool segment.
//!
//! ```text
//! segment = "PLSDSPL" version:u8 first_seq:u64 record*
//! record  = len:u32 crc:u32 body            len and crc are of the body, crc is CRC-32 (IEEE)
//! body    = kind:u8 source:u8 time_ms:i64 seq:u64 text
//! ```
//! Numbers are little-endian. A segment is only ever appended to. Sequence numbers of a lane rise by
//! one from record to record; a jump says that records were dropped or are unreadable. A later version
//! must differ in its records too: those of a segment whose version byte is damaged are read.

/// First bytes of a segment, with the version of the format.
const MAGIC: &[u8; 8] = b"PLSDSPL\x01";
/// Bytes before the first record.
pub(super) const HEADER: usize = 16;
/// Bytes of a record beside its text.
pub(super) const OVERHEAD: usize = 4 + 4 + BODY_HEAD;
const BODY_HEAD: usize = 1 + 1 + 8 + 8;
/// A record's text is one event at most; anything longer is damage.
const MAX_TEXT: usize = crate::logs::batch::MAX_MESSAGE;
/// A line of output. The only kind in version 1; a reader skips kinds it does not know.
const KIND_LINE: u8 = 0;

/// One record, borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Number of the stream of the process: 1 is stdout, 2 is stderr.
    pub(super) source: u8,
    pub(super) time_ms: i64,
    pub(super) seq: u64,
    pub(super) text: &'a [u8],
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A good record and how many bytes it takes.
    Record(Record<'a>, usize),
    /// The buffer ends before the record does, which needs this many bytes from its start.
    Short(usize),
    /// Not a record.
    Damaged,
}

pub(super) fn push_header(out: &mut Vec<u8>, first_seq: u64) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&first_seq.to_le_bytes());
}

/// Whether a segment begins as one of another version does. Without a record of ours in it, it is not ours
/// to read or to cut.
pub(super) fn is_of_other_version(bytes: &[u8]) -> bool {
    bytes.len() >= MAGIC.len() && bytes.starts_with(&MAGIC[..7]) && !bytes.starts_with(MAGIC)
}

pub(super) fn push_record(out: &mut Vec<u8>, r: Record<'_>) {
    let len = u32::try_from(BODY_HEAD + r.text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    let crc_at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[KIND_LINE, r.source]);
    out.extend_from_slice(&r.time_ms.to_le_bytes());
    out.extend_from_slice(&r.seq.to_le_bytes());
    out.extend_from_slice(r.text);
    let crc = crc32fast::hash(&out[crc_at + 4..]);
    out[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn parse_record(bytes: &[u8]) -> Parsed<'_> {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Parsed::Short(OVERHEAD) };
    let len = u32::from_le_bytes(*len) as usize;
    if !(BODY_HEAD..=BODY_HEAD + MAX_TEXT).contains(&len) {
        return Parsed::Damaged;
    }
    let whole = 8 + len;
    let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return Parsed::Short(whole) };
    let Some(body) = rest.get(..len) else { return Parsed::Short(whole) };
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Parsed::Damaged;
    }
    let fields = (|| {
        let ([_kind, source], rest) = body.split_first_chunk::<2>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (seq, text) = rest.split_first_chunk::<8>()?;
        let (time_ms, seq) = (i64::from_le_bytes(*time), u64::from_le_bytes(*seq));
        Some(Record { source: *source, time_ms, seq, text })
    })();
    fields.map_or(Parsed::Damaged, |r| Parsed::Record(r, whole))
}

pub(super) fn file_name(first_seq: u64) -> String {
    format!("seg-{first_seq:016x}.spl")
}

pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let hex = name.strip_prefix("seg-")?.strip_suffix(".spl")?;
    (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_read_back_and_other_versions_are_known() {
        let mut h = Vec::new();
        push_header(&mut h, 77);
        assert_eq!((h.len(), is_of_other_version(&h)), (HEADER, false));
        assert!(is_of_other_version(b"PLSDSPL\x02\0\0\0\0\0\0\0\0"));
        assert!(!is_of_other_version(b"\0\0\0\0\0\0\0\0") && !is_of_other_version(b"PLS"));
        assert_eq!(parse_file_name(&file_name(0xabc)), Some(0xabc));
        assert_eq!(parse_file_name("seg-1.spl"), None);
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_any_flipped_bit_is_seen(
            text in prop::collection::vec(any::<u8>(), 0..200),
            seq in any::<u64>(),
            time_ms in any::<i64>(),
            bit in any::<prop::sample::Index>(),
        ) {
            let r = Record { source: 2, time_ms, seq, text: &text };
            let mut bytes = Vec::new();
            push_record(&mut bytes, r);
            prop_assert_eq!(bytes.len(), OVERHEAD + text.len());
            prop_assert_eq!(parse_record(&bytes), Parsed::Record(r, bytes.len()));
            let cut = parse_record(&bytes[..bytes.len() - 1]);
            prop_assert!(matches!(cut, Parsed::Short(_)), "{:?}", cut);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A flipped length may ask for more bytes than there are; it is never a good record.
            prop_assert!(!matches!(parse_record(&bytes), Parsed::Record(..)));
        }
    }
}
