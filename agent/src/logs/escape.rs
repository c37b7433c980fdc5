//! JSON string escaping that skips from one special byte to the next, eight bytes at a time.
//!
//! Escaping is the dearest step of an uncompressed sender, so it does not look at bytes one by one.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Appends `text` as the inside of a JSON string, without the quotes.
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(next_special(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(other >> 4)]);
                out.push(HEX[usize::from(other & 15)]);
            }
        }
        rest = after;
    }
}

/// Where the first byte that must be escaped is, or the length.
fn next_special(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let mask = special_mask(u64::from_le_bytes(*word));
        if mask != 0 {
            return i * 8 + (mask.trailing_zeros() / 8) as usize;
        }
    }
    let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
    words.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}

/// The high bit of each byte that is special. Bytes above the lowest special one may be marked in
/// error (a borrow passes on), which does not matter to who takes the lowest.
fn special_mask(word: u64) -> u64 {
    let zero_byte = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero_byte(word ^ (ONES * 0x22));
    let backslash = zero_byte(word ^ (ONES * 0x5c));
    (control | quote | backslash) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> Vec<u8> {
        let mut out = vec![b'"'];
        push_escaped(&mut out, text);
        out.push(b'"');
        out
    }

    #[test]
    fn every_byte_at_every_place_in_a_word_reads_back() {
        for c in (0..=0x7f_u8).map(char::from).chain(['é', '\u{2028}', '😀']) {
            for before in 0..17 {
                let text = format!("{}{c}{c}\u{ff}tail", "x".repeat(before));
                let back: String = serde_json::from_slice(&escaped(&text)).unwrap();
                assert_eq!(back, text);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>(), ascii in "[ -~\t\r\n\u{0}-\u{1f}]{0,80}") {
            for t in [text, ascii] {
                prop_assert_eq!(serde_json::from_slice::<String>(&escaped(&t)).unwrap(), t);
            }
        }
    }
}
