//! `Palisade::Inline: documents/x.json`: what lives in a file of its own is put into the template. A JSON
//! file becomes data, any other its text. CloudFormation never sees the key.

use std::{path::Path, sync::Arc};

use super::read_text;
use crate::{
    mistake::{Mistake, Mistakes},
    value::{Entry, Kind, Value},
    yaml,
};

const KEY: &str = "Palisade::Inline";

/// The value with every such mapping replaced.
pub(super) fn put_in(dir: &Path, value: Value) -> Result<Value, Mistakes> {
    let kind = match value.kind {
        Kind::Map(entries) => {
            if let [Entry { key, value: file, at }] = entries.as_slice()
                && key == KEY
            {
                let Some(name) = file.as_str() else {
                    return Err(Mistake::new(at, format!("{KEY} wants the path of a file")).into());
                };
                return included(dir, name, &value.at);
            }
            let inside = |e: Entry| Ok(Entry { value: put_in(dir, e.value)?, ..e });
            Kind::Map(entries.into_iter().map(inside).collect::<Result<_, Mistakes>>()?)
        }
        Kind::List(items) => {
            Kind::List(items.into_iter().map(|v| put_in(dir, v)).collect::<Result<_, _>>()?)
        }
        other => other,
    };
    Ok(Value { at: value.at, kind })
}

fn included(dir: &Path, name: &str, at: &crate::value::At) -> Result<Value, Mistakes> {
    let text = read_text(dir, name, at)?;
    if !name.ends_with(".json") {
        return Ok(Value::text(at, text));
    }
    let file: Arc<str> = name.into();
    serde_json::from_str::<serde_json::Value>(&text)
        .map_err(|e| Mistake::new(&crate::value::At::new(&file, 1), format!("no JSON: {e}")))?;
    // JSON is YAML; read as such it has lines.
    yaml::read(&file, &text)
}
