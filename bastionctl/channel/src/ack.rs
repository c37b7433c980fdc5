//! The payload of an acknowledgement: JSON that both ends write for every frame, hence by hand here.

use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;
use uuid::{Uuid, fmt::Hyphenated};

use crate::frame::Kind;

/// An acknowledgement that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of this frame.
    pub sequence: i64,
    /// And this identity.
    pub id: Uuid,
}

impl Ack {
    /// Appends the payload.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_slice(br#"{"AcknowledgedMessageType":""#);
        out.put_slice(Kind::Output.name().as_bytes());
        out.put_slice(br#"","AcknowledgedMessageId":""#);
        let mut id = [0; Hyphenated::LENGTH];
        out.put_slice(self.id.hyphenated().encode_lower(&mut id).as_bytes());
        out.put_slice(br#"","AcknowledgedMessageSequenceNumber":"#);
        let mut digits = [0u8; 20];
        out.put_slice(decimal(self.sequence, &mut digits));
        out.put_slice(br#","IsSequentialMessage":true}"#);
    }
}

/// Not `format!`: this runs for every frame of a download.
fn decimal(n: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = n.unsigned_abs();
    let mut at = digits.len();
    loop {
        at = at.saturating_sub(1);
        if let (Some(digit), Ok(value)) = (digits.get_mut(at), u8::try_from(rest % 10)) {
            *digit = b'0' + value;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "AcknowledgedMessageSequenceNumber")]
    sequence: i64,
}

/// The number that an acknowledgement of the agent names. The identity is not compared: the agent
/// repeats what it read, and the number alone decides in its own code too.
#[must_use]
pub fn read(payload: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Raw>(payload).ok().map(|raw| raw.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_the_agent_parses() {
        let mut out = BytesMut::new();
        let id = Uuid::from_u128(0xDD01_E56B_FF48_483E_A508_B5F0_73F3_1B16);
        Ack { sequence: 1_234_567, id }.write(&mut out);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":"dd01e56b-ff48-483e-a508-b5f073f31b16","AcknowledgedMessageSequenceNumber":1234567,"IsSequentialMessage":true}"#
        );
        assert_eq!(read(&out), Some(1_234_567));
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for n in [0, 9, 10, 99, 100, i64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }

    #[test]
    fn other_json_is_not_an_acknowledgement() {
        assert_eq!(read(b"{}"), None);
        assert_eq!(read(b"\xff"), None);
        assert_eq!(read(br#"{"AcknowledgedMessageSequenceNumber":"1"}"#), None);
    }
}
