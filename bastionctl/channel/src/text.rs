//! Text of others, made fit for a terminal.

/// The most of it that is kept, in characters.
const MOST: usize = 4096;

/// `text` without what moves a cursor, changes colours or turns the reading direction around. Line
/// breaks and tabs become spaces; what is too long is cut.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MOST) {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_power_and_words_stay() {
        assert_eq!(printable("\x1b[31mred\x1b[0m\r\nnext\u{9b}5A\u{202e}"), "[31mred[0m  next5A");
        assert_eq!(printable("größer, 日本\n"), "größer, 日本");
        assert_eq!(printable(&"x".repeat(9000)).len(), MOST);
    }
}
