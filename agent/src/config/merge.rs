//! Several files as one tree.
//!
//! `programs` and `groups` are maps of names and are united; any other top-level key belongs to one
//! file. What is given twice is a mistake that names both places, since nobody can say which of the
//! two was meant.

use super::{
    mistakes::{Notebook, Place},
    raw::{Entry, Node, Value},
};

const UNITED: [&str; 2] = ["programs", "groups"];

pub(super) fn merge(trees: &[Node], notes: &Notebook) -> Node {
    let mut merged: Vec<Entry> = Vec::new();
    for tree in trees {
        let Value::Map(entries) = &tree.value else {
            notes.note(&tree.place, "", format!("must be a map, not {}", tree.value.kind()));
            continue;
        };
        for entry in entries {
            match merged.iter_mut().find(|e| e.key == entry.key) {
                None => merged.push(entry.clone()),
                // Each file of conf.d may say the version too.
                Some(_) if entry.key == "version" => {}
                Some(have) if UNITED.contains(&entry.key.as_str()) => unite(have, entry, notes),
                Some(have) => twice(&entry.key, &have.place, &entry.place, notes),
            }
        }
    }
    let place = trees.first().map_or_else(|| Place::whole("".as_ref()), |t| t.place.clone());
    Node { place, value: Value::Map(merged) }
}

fn unite(have: &mut Entry, more: &Entry, notes: &Notebook) {
    match (&mut have.node.value, &more.node.value) {
        (Value::Map(have), Value::Map(more_entries)) => {
            for entry in more_entries {
                match have.iter().find(|e| e.key == entry.key) {
                    None => have.push(entry.clone()),
                    Some(first) => {
                        let key = format!("{}.{}", more.key, entry.key);
                        twice(&key, &first.place, &entry.place, notes);
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (Value::Null, _) => have.node = more.node.clone(),
        _ => notes.note(&more.place, &more.key, "must be a map"),
    }
}

fn twice(key: &str, first: &Place, second: &Place, notes: &Notebook) {
    notes.note(second, key, format!("given twice; the first is at {first}"));
}
