//! Edits of sources in memory: what mutations are made of.

use std::collections::BTreeMap;

use super::Project;
use crate::value::{Entry, Kind, Value};

/// A change of one place of a template, of `stacks.yaml` or of an environment's parameters.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Replaces what is at a path, or puts it there.
    Set(Value),
    /// Takes it away.
    Remove,
}

impl Project {
    /// Changes a template at a path, `Resources.Vpc.Properties.Tags.0`. `false` if there is no such
    /// template, or nothing to remove, or no mapping or list to put it into.
    pub fn edit(&mut self, file: &str, path: &str, edit: Edit) -> bool {
        let template = self.templates.iter_mut().find(|t| &*t.file == file);
        template.is_some_and(|t| edit_value(&mut t.root, path, edit))
    }

    /// Gives an environment another value of a parameter.
    pub fn set_parameter(&mut self, env: &str, name: &str, value: &str) -> bool {
        let Some(environment) = self.environments.get_mut(env) else { return false };
        let value = Value::text(&environment.at, value);
        let of: &mut BTreeMap<_, _> = &mut environment.parameters;
        of.insert(name.to_owned(), value);
        true
    }
}

fn edit_value(root: &mut Value, path: &str, edit: Edit) -> bool {
    let (here, rest) = match path.split_once('.') {
        Some((here, rest)) => (here, Some(rest)),
        None => (path, None),
    };
    let at = root.at.clone();
    match (&mut root.kind, rest) {
        (Kind::Map(entries), Some(rest)) => {
            let found = entries.iter_mut().find(|e| e.key == here);
            found.is_some_and(|e| edit_value(&mut e.value, rest, edit))
        }
        (Kind::List(items), Some(rest)) => {
            let found = here.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            found.is_some_and(|item| edit_value(item, rest, edit))
        }
        (Kind::Map(entries), None) => {
            let found = entries.iter().position(|e| e.key == here);
            match (edit, found) {
                (Edit::Set(value), Some(i)) => {
                    if let Some(entry) = entries.get_mut(i) {
                        entry.value = value;
                    }
                    true
                }
                (Edit::Set(value), None) => {
                    entries.push(Entry { key: here.to_owned(), at, value });
                    true
                }
                (Edit::Remove, Some(i)) => {
                    entries.remove(i);
                    true
                }
                (Edit::Remove, None) => false,
            }
        }
        (Kind::List(items), None) => {
            let index = here.parse::<usize>().ok();
            match (edit, index) {
                // `+` is behind the last.
                (Edit::Set(value), None) if here == "+" => {
                    items.push(value);
                    true
                }
                (Edit::Set(value), Some(i)) => items.get_mut(i).map(|item| *item = value).is_some(),
                (Edit::Remove, Some(i)) if i < items.len() => {
                    items.remove(i);
                    true
                }
                _ => false,
            }
        }
        _ => false,
    }
}
