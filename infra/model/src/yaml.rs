//! Reads YAML with CloudFormation's short tags (`!Ref`, `!GetAtt`, ...) into values that know their
//! lines. Tags become the long form, so that nothing above knows two ways to write one thing.
//!
//! Invariant: what CloudFormation's own reader would refuse or take otherwise (anchors, merges, keys
//! given twice, unknown tags) is a mistake, never a guess.

use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::{
    mistake::{Mistake, Mistakes},
    value::{At, Entry, Kind, Value},
};

/// Deepest nesting; CloudFormation's templates are far from it.
const MAX_DEPTH: usize = 64;

/// Tags whose long form has `Fn::` before it.
const FUNCTIONS: &[&str] = &[
    "And",
    "Base64",
    "Cidr",
    "Equals",
    "FindInMap",
    "GetAZs",
    "GetAtt",
    "If",
    "ImportValue",
    "Join",
    "Not",
    "Or",
    "Select",
    "Split",
    "Sub",
];

/// Reads one document.
///
/// # Errors
/// The first mistake.
pub fn read(file: &Arc<str>, text: &str) -> Result<Value, Mistakes> {
    let mut reader = Reader { file, parser: Parser::new_from_str(text) };
    let mut root = None;
    loop {
        let (event, mark) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            other if root.is_none() => root = Some(reader.value(other, mark, 0)?),
            _ => return Err(Mistake::new(&reader.at(mark), "a second document").into()),
        }
    }
    root.ok_or_else(|| Mistake::new(&At::new(file, 1), "the file is empty").into())
}

struct Reader<'a, 'i> {
    file: &'a Arc<str>,
    parser: Parser<'i, granit_parser::StrInput<'i>>,
}

impl<'i> Reader<'_, 'i> {
    fn at(&self, mark: Marker) -> At {
        At::new(self.file, u32::try_from(mark.line()).unwrap_or(u32::MAX))
    }

    fn next(&mut self) -> Result<(Event<'i>, Marker), Mistake> {
        loop {
            return match self.parser.next_event() {
                // Comments are no part of the data.
                Some(Ok((Event::Comment(..), _))) => continue,
                Some(Ok((event, span))) => Ok((event, span.start)),
                Some(Err(e)) => {
                    Err(Mistake::new(&self.at(*e.marker()), format!("no YAML: {}", e.info())))
                }
                None => Ok((Event::StreamEnd, Marker::new(0, 1, 0))),
            };
        }
    }

    fn value(&mut self, event: Event<'i>, mark: Marker, depth: usize) -> Result<Value, Mistake> {
        let at = self.at(mark);
        if depth > MAX_DEPTH {
            return Err(Mistake::new(&at, format!("nested deeper than {MAX_DEPTH}")));
        }
        let no_anchor = |anchor: usize| {
            if anchor == 0 { Ok(()) } else { Err(Mistake::new(&at, "anchors are not supported")) }
        };
        let (value, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_anchor(anchor)?;
                let plain = matches!(style, ScalarStyle::Plain) && tag.is_none();
                let kind = if plain { plain_scalar(&text) } else { Kind::Text(text.into_owned()) };
                (Value::new(&at, kind), tag)
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_anchor(anchor)?;
                let mut items = Vec::new();
                loop {
                    let (event, mark) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.value(event, mark, depth + 1)?);
                }
                (Value::new(&at, Kind::List(items)), tag)
            }
            Event::MappingStart(_, anchor, tag) => {
                no_anchor(anchor)?;
                (Value::new(&at, Kind::Map(self.entries(depth)?)), tag)
            }
            Event::Alias(_) => return Err(Mistake::new(&at, "aliases are not supported")),
            _ => return Err(Mistake::new(&at, "the document ends too early")),
        };
        match tag {
            Some(tag) => tagged(value, &tag),
            None => Ok(value),
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Mistake> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::HashSet::new();
        loop {
            let (event, mark) = self.next()?;
            let at = self.at(mark);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, 0, None) => text.into_owned(),
                _ => return Err(Mistake::new(&at, "a key must be a plain text")),
            };
            if !known.insert(key.clone()) {
                return Err(Mistake::new(&at, format!("{key} is given twice")));
            }
            let (event, mark) = self.next()?;
            let value = self.value(event, mark, depth + 1)?;
            entries.push(Entry { key, at, value });
        }
    }
}

/// YAML 1.1's truth values and numbers, as CloudFormation reads them; dates stay text.
fn plain_scalar(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "on" | "On" => return Kind::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "off" | "Off" => return Kind::Bool(false),
        _ => {}
    }
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Octal and leading zeros are read differently by different readers: they stay as written.
    let zeros = number.len() > 1 && number.starts_with('0') && !number.starts_with("0.");
    let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !zeros;
    if plain && let Ok(i) = text.parse() {
        return Kind::Int(i);
    }
    match text.parse::<f64>() {
        Ok(x) if plain && number.contains('.') => Kind::Float(x),
        _ => Kind::Text(text.to_owned()),
    }
}

fn tagged(value: Value, tag: &Tag) -> Result<Value, Mistake> {
    let at = value.at.clone();
    if tag.handle() != "!" {
        return Err(Mistake::new(&at, "tags of YAML's own types are not supported"));
    }
    let name = tag.suffix();
    let (key, value) = match name {
        "Ref" | "Condition" => (name.to_owned(), value),
        "GetAtt" => ("Fn::GetAtt".to_owned(), get_att(value)?),
        _ if FUNCTIONS.contains(&name) => (format!("Fn::{name}"), value),
        _ => return Err(Mistake::new(&at, format!("!{name} is no function that is known here"))),
    };
    Ok(Value::new(&at, Kind::Map(vec![Entry { key, at: at.clone(), value }])))
}

/// `A.B.C` is `[A, B.C]`.
fn get_att(value: Value) -> Result<Value, Mistake> {
    let Some(text) = value.as_str() else { return Ok(value) };
    let (name, attribute) = text
        .split_once('.')
        .ok_or_else(|| Mistake::new(&value.at, format!("!GetAtt {text} names no attribute")))?;
    let parts = [name, attribute].map(|part| Value::text(&value.at, part));
    Ok(Value::new(&value.at, Kind::List(parts.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        super::read(&"t.yaml".into(), text).map_err(|e| e.to_string())
    }

    #[test]
    fn short_tags_become_the_long_form_and_know_their_line() {
        let value =
            read("a: !Ref B\nb: !GetAtt C.D.E\nc: !Sub\n  - ${X}\n  - { X: !Ref Y }\n").unwrap();
        assert_eq!(
            value.to_json(),
            serde_json::json!({
                "a": {"Ref": "B"},
                "b": {"Fn::GetAtt": ["C", "D.E"]},
                "c": {"Fn::Sub": ["${X}", {"X": {"Ref": "Y"}}]},
            })
        );
        assert_eq!(value.get("b").unwrap().at.to_string(), "t.yaml:2");
    }

    #[test]
    fn scalars_are_what_cloudformation_takes_them_for() {
        let value =
            read("a: 443\nb: '443'\nc: yes\nd: 2010-09-09\ne: 0123\nf: 1.5\ng: ~\nh: 10.0.0.0/8")
                .unwrap();
        assert_eq!(
            value.to_json(),
            serde_json::json!({"a": 443, "b": "443", "c": true, "d": "2010-09-09", "e": "0123", "f": 1.5, "g": null, "h": "10.0.0.0/8"})
        );
    }

    #[test]
    fn what_would_be_a_guess_is_a_mistake_with_its_line() {
        for (text, what) in [
            ("a: 1\na: 2\n", "t.yaml:2: a is given twice"),
            ("a: &x 1\n", "t.yaml:1: anchors"),
            ("a: !Transform x\n", "t.yaml:1: !Transform is no function"),
            ("a: !GetAtt B\n", "t.yaml:1: !GetAtt B names no attribute"),
            ("a: [1\n", "no YAML"),
            ("", "the file is empty"),
            ("a: 1\n---\nb: 2\n", "a second document"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(what), "{text:?}: {e}");
        }
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(read(&deep).unwrap_err().contains("nested deeper"));
    }
}
