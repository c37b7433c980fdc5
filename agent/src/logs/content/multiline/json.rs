//! Braces of a JSON document that stands over several lines.

/// How many braces and brackets are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    depth: usize,
}

impl Balance {
    pub(super) fn is_closed(self) -> bool {
        self.depth == 0
    }

    /// Passes over a line. A first line that begins with no brace, and is no bracket alone, is text.
    pub(super) fn pass(&mut self, line: &str, is_first: bool) {
        if is_first {
            self.depth = 0;
            let trimmed = line.trim_ascii();
            if !trimmed.starts_with('{') && trimmed != "[" {
                return;
            }
        }
        let (mut in_string, mut escaped) = (false, false);
        for byte in line.bytes() {
            match byte {
                // A string ends with its line at latest.
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => self.depth += 1,
                b'}' | b']' if !in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}
