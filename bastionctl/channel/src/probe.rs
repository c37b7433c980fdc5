//! How large a frame may be. The cost of the channel is per frame, and what the service allows is
//! written nowhere; so sending starts small and asks for more with frames on which nothing rides.
//!
//! A probe is a terminal-size message padded with blanks: it is numbered and acknowledged like data,
//! and a port session ignores it. Data in its place could not be sent again in smaller pieces, since
//! the numbers after it are taken by then.

use bytes::{BufMut as _, BytesMut};

/// Data that goes before the first probe: a login needs no large frames.
const BEFORE: usize = 32 << 10;
const PAYLOAD: &[u8] = br#"{"cols":80,"rows":24}"#;

/// Payload bytes of a full frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSize {
    start: usize,
    most: usize,
}

impl FrameSize {
    /// The least that is sent, a packet on most paths.
    pub const LEAST: usize = 256;
    /// The most; the real agent takes 256 KiB, and gains nothing from more than 64.
    pub const MOST: usize = 64 << 10;

    /// Starts with `start` bytes, grows to `most` if the path lets it; both are brought into
    /// [`Self::LEAST`]..=[`Self::MOST`].
    #[must_use]
    pub fn probing(start: usize, most: usize) -> Self {
        let start = start.clamp(Self::LEAST, Self::MOST);
        Self { start, most: most.clamp(start, Self::MOST) }
    }

    /// Always `size` bytes.
    #[must_use]
    pub fn fixed(size: usize) -> Self {
        Self::probing(size, size)
    }
}

impl Default for FrameSize {
    /// What the official plugin sends, up to where the gain flattens.
    fn default() -> Self {
        Self::probing(1024, 16 << 10)
    }
}

/// The size in force and the search for a larger one.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    size: usize,
    most: usize,
    asked: Option<usize>,
    sent: usize,
}

impl Probe {
    /// Nothing found out yet.
    #[must_use]
    pub fn new(size: FrameSize) -> Self {
        Self { size: size.start, most: size.most, asked: None, sent: 0 }
    }

    /// The size in force.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Data was sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// The size to ask for now, if any. Call it only with a frame's worth of data waiting.
    pub fn ask(&mut self) -> Option<usize> {
        if self.asked.is_some() || self.size >= self.most || self.sent < BEFORE {
            return None;
        }
        self.asked = Some((self.size * 2).min(self.most));
        self.asked
    }

    /// The probe got through.
    pub fn arrived(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.size = asked;
        }
    }

    /// The probe does not get through: no more of them. Says whether there was one.
    pub fn failed(&mut self) -> bool {
        let was = self.asked.take().is_some();
        if was {
            self.most = self.size;
        }
        was
    }

    /// Writes a payload of `size` bytes, or the shortest.
    pub fn pad(out: &mut BytesMut, size: usize) {
        out.put_slice(PAYLOAD);
        out.put_bytes(b' ', size.saturating_sub(PAYLOAD.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_as_probes_arrive_and_stop_at_the_limit() {
        let mut probe = Probe::new(FrameSize::probing(1024, 5000));
        assert_eq!(probe.ask(), None, "a login asks for nothing");
        probe.sent(BEFORE);
        for (asked, then) in [(2048, 2048), (4096, 4096), (5000, 5000)] {
            assert_eq!(probe.ask(), Some(asked));
            assert_eq!(probe.ask(), None, "one at a time");
            probe.arrived();
            assert_eq!(probe.size(), then);
        }
        assert_eq!(probe.ask(), None);
    }

    #[test]
    fn after_a_failure_the_size_stays() {
        let mut probe = Probe::new(FrameSize::probing(1024, 16 << 10));
        probe.sent(BEFORE);
        assert_eq!(probe.ask(), Some(2048));
        assert!(probe.failed());
        assert_eq!((probe.size(), probe.ask(), probe.failed()), (1024, None, false));
    }

    #[test]
    fn sizes_out_of_range_are_brought_into_it() {
        assert_eq!(FrameSize::fixed(0), FrameSize::probing(256, 256));
        assert_eq!(FrameSize::probing(4096, 1024), FrameSize::fixed(4096));
    }

    #[test]
    fn a_padded_probe_is_still_the_same_json() {
        let mut out = BytesMut::new();
        Probe::pad(&mut out, 2048);
        assert_eq!(out.len(), 2048);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value, serde_json::json!({"cols": 80, "rows": 24}));
    }
}
