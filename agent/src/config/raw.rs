//! A YAML file as a tree of values with their lines: the only file that names the YAML crate.

use std::{fmt, path::PathBuf, rc::Rc};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_yaml::Spanned;

use super::mistakes::{Mistake, Place};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What YAML can say.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number with a fraction: no key takes one, so only its being one is kept.
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map, in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Value {
    /// What kind of value it is, in a person's words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads one file's text. An empty file is an empty map.
pub(super) fn parse(file: PathBuf, text: &str) -> Result<Node, Mistake> {
    let file = Rc::new(file);
    let blank = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
    if blank {
        return Ok(Node { place: Place { file, line: 1 }, value: Value::Map(Vec::new()) });
    }
    match serde_yaml::from_str::<Spanned<Bare>>(text) {
        Ok(bare) => Ok(place(bare, &file)),
        Err(e) => {
            let line = e.location().map_or(0, |l| l.line());
            let what = e.to_string();
            // The crate prints the error and then draws the lines around it; one line is enough.
            let first = what.lines().next().unwrap_or_default();
            Err(Mistake {
                place: Place { file, line },
                key: String::new(),
                what: format!("not valid YAML: {}", first.trim_start_matches("error: ")),
            })
        }
    }
}

/// A value before its places are joined with the file's name.
enum Bare {
    Null,
    Bool(bool),
    Int(i64),
    Float,
    Text(String),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(Spanned<String>, Spanned<Bare>)>),
}

fn place(bare: Spanned<Bare>, file: &Rc<PathBuf>) -> Node {
    let at = |line| Place { file: Rc::clone(file), line };
    let value = match bare.value {
        Bare::Null => Value::Null,
        Bare::Bool(b) => Value::Bool(b),
        Bare::Int(i) => Value::Int(i),
        Bare::Float => Value::Float,
        Bare::Text(t) => Value::Text(t),
        Bare::List(items) => Value::List(items.into_iter().map(|n| place(n, file)).collect()),
        Bare::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(k, v)| Entry {
                    place: at(k.referenced.line()),
                    key: k.value,
                    node: place(v, file),
                })
                .collect(),
        ),
    };
    Node { place: at(bare.referenced.line()), value }
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_none<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Bare, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Bare, E> {
        Ok(Bare::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Bare, E> {
        Ok(Bare::Int(v))
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Bare, E> {
        i64::try_from(v).map(Bare::Int).map_err(|_| E::custom("the number is too large"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Bare, E> {
        Ok(Bare::Float)
    }

    fn visit_str<E>(self, v: &str) -> Result<Bare, E> {
        Ok(Bare::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Bare, E> {
        Ok(Bare::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Bare, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = a.next_element()? {
            items.push(item);
        }
        Ok(Bare::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Bare, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = a.next_entry()? {
            entries.push(entry);
        }
        Ok(Bare::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, Mistake> {
        parse(PathBuf::from("p.yaml"), text)
    }

    #[test]
    fn every_value_knows_its_line() {
        let node = read("a: 1\nb:\n  - x\n  - { c: true,\n      d: ~ }\n").unwrap();
        let Value::Map(entries) = node.value else { panic!() };
        assert_eq!(entries[1].place.line, 2);
        let Value::List(items) = &entries[1].node.value else { panic!() };
        assert_eq!((items[0].place.line, items[1].place.line), (3, 4));
        let Value::Map(inner) = &items[1].value else { panic!() };
        assert_eq!((inner[1].key.as_str(), inner[1].place.line), ("d", 5));
        assert!(matches!(inner[1].node.value, Value::Null));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let m = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(m.to_string().starts_with("p.yaml:"), "{m}");
        assert!(m.place.line >= 2, "{m}");
    }

    #[test]
    fn a_key_given_twice_is_no_valid_file() {
        let m = read("a: 1\na: 2\n").unwrap_err();
        assert!(m.what.contains("duplicate"), "{m}");
    }

    #[test]
    fn a_file_of_comments_is_an_empty_map() {
        assert!(matches!(read("# nothing\n\n").unwrap().value, Value::Map(e) if e.is_empty()));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(read(&text).is_err());
    }
}
