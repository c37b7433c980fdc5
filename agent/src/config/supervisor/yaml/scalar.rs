//! Single values as YAML: plain where nobody could take them for anything but text, else in quotes.

/// Words that some reader of YAML takes for a truth value or for nothing.
const TAKEN: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

/// Text as one value, within a line or within `[...]` and `{...}`.
pub(super) fn text(value: &str) -> String {
    if is_plain(value) { value.to_owned() } else { quoted(value) }
}

fn is_plain(value: &str) -> bool {
    let mut chars = value.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || "_./@+=%()-".contains(c))
        && !TAKEN.contains(&value.to_ascii_lowercase().as_str())
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Values between `[` and `]`.
pub(super) fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<_> = values.into_iter().map(text).collect();
    format!("[{}]", all.join(", "))
}

/// A line that is longer is broken.
const WIDTH: usize = 90;

/// A command: a line of words where a shell's quoting is not needed, else a list.
pub(super) fn command(words: &[String], indent: &str) -> String {
    let is_bare = |w: &String| {
        !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || "_./:=,@%+()-".contains(c))
    };
    if !words.iter().all(is_bare) {
        let line = list(words.iter().map(String::as_str));
        if line.len() <= WIDTH {
            return line;
        }
        let items: Vec<_> = words.iter().map(|w| format!("\n{indent}  - {}", text(w))).collect();
        return items.concat();
    }
    let line = words.join(" ");
    let is_text = line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !words.iter().any(|w| w.ends_with(':'))
        && !TAKEN.contains(&line.to_ascii_lowercase().as_str());
    match (is_text, line.len() <= WIDTH) {
        (true, true) => line,
        (false, true) => quoted(&line),
        (_, false) => folded(words, indent),
    }
}

/// Several lines that are read as one.
fn folded(words: &[String], indent: &str) -> String {
    let mut out = String::from(">-");
    let mut room = 0;
    for word in words {
        if room < word.len() + 1 {
            out += &format!("\n{indent}  {word}");
            room = WIDTH.saturating_sub(word.len());
        } else {
            out += &format!(" {word}");
            room -= word.len() + 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::raw::{Value, parse};

    #[test]
    fn a_value_is_plain_only_where_it_cannot_be_misread() {
        for (value, want) in [
            ("/srv/app", "/srv/app"),
            ("Off", "\"Off\""),
            ("010", "\"010\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a\"\\\n", "\"a\\\"\\\\\\n\""),
            ("~", "\"~\""),
        ] {
            assert_eq!(text(value), want);
        }
    }

    fn read(yaml: &str) -> Value {
        parse("f".into(), yaml).unwrap().value
    }

    fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
        let Value::Map(entries) = value else { panic!("{value:?} is no map") };
        &entries.iter().find(|e| e.key == key).unwrap().node.value
    }

    fn words(value: &Value) -> Vec<String> {
        let word = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => panic!("{other:?} is no text"),
        };
        match value {
            Value::List(items) => items.iter().map(|n| word(&n.value)).collect(),
            line => shlex::split(&word(line)).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back(value in ".{0,20}") {
            let read = read(&format!("a: {}\nb: [{}, x]\n", text(&value), text(&value)));
            prop_assert!(matches!(at(&read, "a"), Value::Text(t) if *t == value));
            prop_assert_eq!(&words(at(&read, "b"))[0], &value);
        }

        #[test]
        fn any_command_reads_back(all in proptest::collection::vec("[a-z0-9 :#%(/'\"-]{1,40}", 1..8)) {
            let read = read(&format!("x:\n  command: {}\n", command(&all, "  ")));
            prop_assert_eq!(words(at(at(&read, "x"), "command")), all);
        }
    }
}
