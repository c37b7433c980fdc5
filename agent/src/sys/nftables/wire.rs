//! Netlink messages and attributes as bytes: written, and read without trust. Pure.
//!
//! A message is a header (length, kind, flags, sequence, port), netfilter's own header (family,
//! version, resource), and attributes. An attribute is a length, a kind and a value, padded to four
//! bytes. Numbers in headers are in the machine's order, numbers in netfilter's values in that of
//! the network.

/// Bytes of a netlink message header, and of netfilter's own after it.
const HEADER: usize = 16;
const NF_HEADER: usize = 4;
/// Set in the kind of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The two high bits of an attribute's kind say how its value is written.
const KIND: u16 = 0x3fff;

/// Messages being written.
#[derive(Debug, Default)]
pub(in crate::sys) struct Writer {
    bytes: Vec<u8>,
}

/// Where a length is filled in once it is known.
#[derive(Clone, Copy, Debug)]
struct Mark(usize);

impl Writer {
    /// One message, with what `fill` writes as its attributes.
    pub(in crate::sys) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        (family, resource): (u8, u16),
        fill: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(seq.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    pub(in crate::sys) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let mark = self.open(kind);
        self.bytes.extend(value);
        self.close(mark);
    }

    /// Text with a zero at its end.
    pub(in crate::sys) fn text(&mut self, kind: u16, value: &str) {
        let mark = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.close(mark);
    }

    pub(in crate::sys) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(in crate::sys) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(in crate::sys) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(in crate::sys) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds what `fill` writes.
    pub(in crate::sys) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mark = self.open(kind | NESTED);
        fill(self);
        self.close(mark);
    }

    fn open(&mut self, kind: u16) -> Mark {
        let mark = Mark(self.bytes.len());
        self.bytes.extend(0_u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        mark
    }

    fn close(&mut self, Mark(at): Mark) {
        // Whoever fills an attribute keeps it below this; what did not would be refused by the kernel.
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Attributes that were written elsewhere.
    #[cfg(test)]
    pub(in crate::sys) fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend(attributes);
    }

    pub(in crate::sys) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// A message that was read.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Message<'a> {
    pub(in crate::sys) kind: u16,
    pub(in crate::sys) flags: u16,
    pub(in crate::sys) seq: u32,
    /// What follows the header.
    pub(in crate::sys) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after netfilter's header.
    pub(in crate::sys) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(NF_HEADER..).unwrap_or_default())
    }
}

/// The whole messages of a datagram; garbage ends it.
pub(in crate::sys) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let message = bytes.get(..length)?;
        let [a, b, c, d, s @ ..] = *message.get(4..HEADER)?.first_chunk::<8>()?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([a, b]),
            flags: u16::from_ne_bytes([c, d]),
            seq: u32::from_ne_bytes(s),
            body: message.get(HEADER..)?,
        })
    })
}

/// Attributes; garbage ends them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sys) struct Attributes<'a>(pub(in crate::sys) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of a kind.
    pub(in crate::sys) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    pub(in crate::sys) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }

    pub(in crate::sys) fn text(self, kind: u16) -> Option<String> {
        self.get(kind).map(c_str)
    }

    pub(in crate::sys) fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    pub(in crate::sys) fn u16(self, kind: u16) -> Option<u16> {
        self.get(kind)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    pub(in crate::sys) fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }

    pub(in crate::sys) fn u64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk().map(|b| u64::from_be_bytes(*b))
    }
}

fn c_str(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut w = Writer::default();
        w.message(0x0a09, 1, 7, (1, 10), |w| {
            w.text(1, "palisade");
            w.nested(3, |w| {
                w.u8(1, 5);
                w.u64(2, u64::MAX);
            });
            w.u32(4, 9);
        });
        w.message(3, 0, 8, (0, 0), |_| {});
        let bytes = w.finish();
        let all: Vec<Message<'_>> = messages(&bytes).collect();
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.kind, first.flags, first.seq), (0x0a09, 1, 7));
        let a = first.attributes();
        assert_eq!(a.text(1).as_deref(), Some("palisade"));
        assert_eq!(
            (a.nested(3).u8(1), a.nested(3).u64(2), a.u32(4)),
            (Some(5), Some(u64::MAX), Some(9))
        );
        assert_eq!((second.kind, second.attributes().count()), (3, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_fail_or_hang(bytes in any::<Vec<u8>>()) {
            for m in messages(&bytes) {
                for (_, value) in m.attributes() {
                    let inner = Attributes(value);
                    let _ = (inner.u16(1), inner.u32(1), inner.u64(1), inner.text(1), inner.count());
                }
            }
        }
    }
}
