//! How Supervisor takes a value apart: pairs of an environment, and the words of a command.

use std::collections::BTreeMap;

/// What ends a word beside what cannot be in one.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// `KEY=value,KEY2="value"`, as Python's old shell lexer sees it: quotes hide everything, a backslash is
/// nothing special, `#` begins a comment, and whatever stands between two pairs separates them.
///
/// # Errors
/// Supervisor's words.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let tokens = tokens(text)?;
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    let mut out: Vec<(String, String)> = Vec::new();
    // Key, `=`, value and any separator.
    for four in tokens.chunks(4) {
        let [key, equals, value, ..] = four else { return Err(unfinished()) };
        if equals != "=" {
            return Err(unfinished());
        }
        let value = value.trim_matches(['\'', '"']).to_owned();
        match at.get(key).and_then(|i| out.get_mut(*i)) {
            Some(entry) => entry.1 = value,
            None => {
                at.insert(key.clone(), out.len());
                out.push((key.clone(), value));
            }
        }
    }
    Ok(out)
}

/// Supervisor shows the whole value, which may have passwords in it.
fn unfinished() -> String {
    "Unexpected end of key/value pairs".to_owned()
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_/.+-():".contains(c)
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    let mut word = String::new();
    while let Some(c) = chars.next() {
        match c {
            '#' => {
                // A comment inside a word does not end the word.
                chars.by_ref().find(|c| *c == '\n');
            }
            c if in_word(c) || (!word.is_empty() && (c == '"' || c == '\'')) => word.push(c),
            c => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                match c {
                    c if SPACE.contains(&c) => {}
                    quote @ ('"' | '\'') => {
                        let mut quoted = String::from(quote);
                        let end = chars.by_ref().find(|c| {
                            quoted.push(*c);
                            *c == quote
                        });
                        if end.is_none() {
                            return Err("No closing quotation".to_owned());
                        }
                        out.push(quoted);
                    }
                    c => out.push(c.to_string()),
                }
            }
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    Ok(out)
}

/// The words of a command, as Python splits them: like a shell, with no shell and no comments.
///
/// # Errors
/// Python's words.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if SPACE.contains(&c) => out.extend(word.take()),
            '\\' => {
                let Some(next) = chars.next() else { return Err(no_character()) };
                word.get_or_insert_default().push(next);
            }
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err("No closing quotation".to_owned()),
                        Some(c) if c == quote => break,
                        Some('\\') if quote == '"' => {
                            let Some(next) = chars.next() else { return Err(no_character()) };
                            if next != '"' && next != '\\' {
                                word.push('\\');
                            }
                            word.push(next);
                        }
                        Some(c) => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    Ok(out)
}

fn no_character() -> String {
    "No escaped character".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        let all = pairs(text)?;
        Ok(all.iter().map(|(k, v)| format!("{k}<{v}>")).collect::<Vec<_>>().join(" "))
    }

    /// Each pair was measured on Supervisor 4.3.
    #[test]
    fn an_environment_is_taken_apart_as_by_supervisor() {
        for (text, want) in [
            ("", ""),
            ("A=x,B=y,", "A<x> B<y>"),
            ("A=x;B=y", "A<x> B<y>"),
            ("A=\"a,b\",B='c d'", "A<a,b> B<c d>"),
            ("A=http://h:80/p?q=1&r=2", "A<http://h:80/p> q<1> r<2>"),
            ("A=x#y,B=z", "A<x>"),
            ("A=x#y\nB,C=z", "A<xB> C<z>"),
            ("A=\"it's\"", "A<it's>"),
            ("A=\"b\\\"c\"", "A<b\\>"),
            ("A=pre\"fix\"", "A<pre\"fix>"),
            ("A=café", "A<caf>"),
            ("A=\"café\"", "A<café>"),
            ("A=*", "A<*>"),
            ("A=1,A=2", "A<2>"),
            ("A =\n 1,\n B = 2", "A<1> B<2>"),
            ("A=\"\"", "A<>"),
            ("my-key=1", "my-key<1>"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_pairs_is_refused() {
        for text in ["A=b@c", "A=", "A=b=c", "A", "=", "A=\"q\" B=\"r\"", "A=,B=2"] {
            assert!(shown(text).unwrap_err().starts_with("Unexpected end"), "{text}");
        }
        assert_eq!(shown("A=\"x ").unwrap_err(), "No closing quotation");
    }

    /// Each pair was printed by Python.
    #[test]
    fn a_command_is_split_as_by_python() {
        for (text, want) in [
            ("a  b\tc\nd", vec!["a", "b", "c", "d"]),
            ("sh -c \"echo 'x' \\\"y\\\" \\$z \\n\"", vec!["sh", "-c", "echo 'x' \"y\" \\$z \\n"]),
            ("a '' \"\"b", vec!["a", "", "b"]),
            ("'a\\'b", vec!["a\\b"]),
            ("a #b;c", vec!["a", "#b;c"]),
            ("x\u{a0}y", vec!["x\u{a0}y"]),
            ("a\\\nb", vec!["a\nb"]),
        ] {
            assert_eq!(words(text).unwrap(), want, "{text}");
        }
        assert_eq!(words("a\\ b c\\").unwrap_err(), "No escaped character");
        assert_eq!(words("a \"open").unwrap_err(), "No closing quotation");
    }
}
