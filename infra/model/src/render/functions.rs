//! The intrinsic functions.

use super::{cidr, context::Context};
use crate::{
    mistake::Mistake,
    value::{At, Entry, Kind, Value},
};

/// Zones that every region has at least.
const ZONES: [&str; 3] = ["a", "b", "c"];

impl<'a> Context<'_, 'a> {
    /// A value with its functions carried out; nothing for `AWS::NoValue`.
    pub(super) fn eval(&mut self, value: &'a Value) -> Result<Option<Value>, Mistake> {
        match &value.kind {
            Kind::List(items) => {
                let mut made = Vec::with_capacity(items.len());
                for item in items {
                    made.extend(self.eval(item)?);
                }
                Ok(Some(Value::new(&value.at, Kind::List(made))))
            }
            Kind::Map(entries) => {
                if let [Entry { key, value: argument, .. }] = entries.as_slice()
                    && (key == "Ref" || key.starts_with("Fn::"))
                {
                    return self.function(key, argument, &value.at);
                }
                let mut made = Vec::with_capacity(entries.len());
                for entry in entries {
                    if let Some(value) = self.eval(&entry.value)? {
                        made.push(Entry { key: entry.key.clone(), at: entry.at.clone(), value });
                    }
                }
                Ok(Some(Value::new(&value.at, Kind::Map(made))))
            }
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) => {
                Ok(Some(value.clone()))
            }
        }
    }

    fn function(&mut self, name: &str, arg: &'a Value, at: &At) -> Result<Option<Value>, Mistake> {
        let made = match name {
            "Ref" => return self.reference(arg.as_str().unwrap_or_default(), at),
            "Fn::If" => return self.choice(arg, at),
            "Fn::GetAtt" => {
                let (logical, attribute) = match arg.items() {
                    [logical, attribute] => (self.text(logical)?, self.text(attribute)?),
                    _ => match arg.as_str().and_then(|t| t.split_once('.')) {
                        Some((logical, attribute)) => (logical.to_owned(), attribute.to_owned()),
                        None => return Err(wants(name, "a resource and an attribute", at)),
                    },
                };
                self.attribute(&logical, &attribute, at)?
            }
            "Fn::Sub" => Value::text(at, self.substitute(arg, at)?),
            "Fn::ImportValue" => {
                let name = self.text(arg)?;
                self.import(&name, at)?
            }
            "Fn::Join" => {
                let [by, list] = arg.items() else {
                    return Err(wants(name, "a text and a list", at));
                };
                let by = self.text(by)?;
                let parts: Option<Vec<_>> = self.list(list)?.iter().map(Value::scalar).collect();
                let parts = parts.ok_or_else(|| wants(name, "a list of texts", at))?;
                Value::text(at, parts.join(&by))
            }
            "Fn::Split" => {
                let [by, text] = arg.items() else { return Err(wants(name, "two texts", at)) };
                let (by, text) = (self.text(by)?, self.text(text)?);
                if by.is_empty() {
                    return Err(wants(name, "something to split at", at));
                }
                let parts = text.split(by.as_str()).map(|part| Value::text(at, part)).collect();
                Value::new(at, Kind::List(parts))
            }
            "Fn::Select" => {
                let [index, list] = arg.items() else {
                    return Err(wants(name, "a number and a list", at));
                };
                let index = self.text(index)?;
                let list = self.list(list)?;
                let item = index.parse::<usize>().ok().and_then(|i| list.get(i).cloned());
                let length = list.len();
                item.ok_or_else(|| {
                    Mistake::new(at, format!("no item {index} in a list of {length}"))
                })?
            }
            "Fn::FindInMap" => {
                let mut keys = Vec::new();
                for key in arg.items() {
                    keys.push(self.text(key)?);
                }
                let mappings = self.section("Mappings");
                let [map, first, second] = keys.as_slice() else {
                    return Err(wants(name, "three names", at));
                };
                let found = mappings.iter().find(|m| m.key == *map);
                let found = found.and_then(|m| m.value.get(first)).and_then(|m| m.get(second));
                found.cloned().ok_or_else(|| {
                    Mistake::new(at, format!("no {} in the mappings", keys.join(".")))
                })?
            }
            "Fn::Cidr" => {
                let [block, count, bits] = arg.items() else {
                    return Err(wants(name, "a block, a count and a number of bits", at));
                };
                let (block, count, bits) = (self.text(block)?, self.text(count)?, self.text(bits)?);
                let nets = cidr::split(&block, &count, &bits).map_err(|e| Mistake::new(at, e))?;
                Value::new(at, Kind::List(nets.into_iter().map(|n| Value::text(at, n)).collect()))
            }
            "Fn::GetAZs" => {
                let region = self.text(arg)?;
                let region = if region.is_empty() { self.active.region.to_owned() } else { region };
                let zones = ZONES.map(|zone| Value::text(at, format!("{region}{zone}")));
                Value::new(at, Kind::List(zones.into()))
            }
            // The text itself: what a host will see is what people and rules want to read.
            "Fn::Base64" => Value::text(at, self.text(arg)?),
            _ => return Err(Mistake::new(at, format!("{name} cannot be rendered"))),
        };
        Ok(Some(made))
    }

    fn reference(&mut self, name: &str, at: &At) -> Result<Option<Value>, Mistake> {
        let env = self.renderer.env;
        let region = self.active.region;
        let text = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::Region" => region.to_owned(),
            "AWS::AccountId" => env.account.clone(),
            "AWS::Partition" => "aws".to_owned(),
            "AWS::URLSuffix" => "amazonaws.com".to_owned(),
            "AWS::StackName" => self.full_name(),
            "AWS::StackId" => {
                let full = self.full_name();
                format!("arn:aws:cloudformation:{region}:{}:stack/{full}/stand-in", env.account)
            }
            _ => match self.parameters.get(name) {
                Some(value) => return Ok(Some(Value { at: at.clone(), ..value.clone() })),
                None => self.id(name, at)?,
            },
        };
        Ok(Some(Value::text(at, text)))
    }

    fn choice(&mut self, arg: &'a Value, at: &At) -> Result<Option<Value>, Mistake> {
        let [condition, yes, no] = arg.items() else {
            return Err(wants("Fn::If", "a condition and two values", at));
        };
        let name = condition.as_str().unwrap_or_default();
        let taken = if self.condition(name, &condition.at)? { yes } else { no };
        self.eval(taken)
    }

    fn list(&mut self, value: &'a Value) -> Result<Vec<Value>, Mistake> {
        match self.eval(value)?.map(|v| v.kind) {
            Some(Kind::List(items)) => Ok(items),
            _ => Err(Mistake::new(&value.at, "must be a list")),
        }
    }

    fn substitute(&mut self, arg: &'a Value, at: &At) -> Result<String, Mistake> {
        let (text, variables) = match arg.items() {
            [text, variables] => (text, variables.entries()),
            _ => (arg, &[] as &[Entry]),
        };
        let mut rest = text.as_str().ok_or_else(|| wants("Fn::Sub", "a text", at))?;
        let mut made = String::with_capacity(rest.len());
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after
                .split_once('}')
                .ok_or_else(|| Mistake::new(at, "Fn::Sub: `${` without `}`"))?;
            made.push_str(before);
            rest = behind;
            if let Some(literal) = name.strip_prefix('!') {
                made.push_str(&format!("${{{literal}}}"));
                continue;
            }
            let variable = variables.iter().find(|v| v.key == name);
            let value = match (variable, name.split_once('.')) {
                (Some(variable), _) => Some(Value::text(at, self.text(&variable.value)?)),
                (None, Some((logical, attribute))) => Some(self.attribute(logical, attribute, at)?),
                (None, None) => self.reference(name, at)?,
            };
            let text = value.and_then(|v| v.scalar());
            made.push_str(
                &text.ok_or_else(|| Mistake::new(at, format!("${{{name}}} is no text")))?,
            );
        }
        made.push_str(rest);
        Ok(made)
    }

    /// A condition's expression.
    pub(super) fn truth(&mut self, value: &'a Value) -> Result<bool, Mistake> {
        let [Entry { key, value: arg, .. }] = value.entries() else {
            return Err(Mistake::new(&value.at, "a condition must be one function"));
        };
        match key.as_str() {
            "Condition" => self.condition(arg.as_str().unwrap_or_default(), &value.at),
            "Fn::Not" => match arg.items() {
                [inner] => Ok(!self.truth(inner)?),
                _ => Err(wants(key, "one condition", &value.at)),
            },
            "Fn::And" | "Fn::Or" => {
                if !(2..=10).contains(&arg.items().len()) {
                    return Err(wants(key, "2 to 10 conditions", &value.at));
                }
                let mut truths = Vec::new();
                for inner in arg.items() {
                    truths.push(self.truth(inner)?);
                }
                Ok(if key == "Fn::And" {
                    truths.iter().all(|t| *t)
                } else {
                    truths.contains(&true)
                })
            }
            "Fn::Equals" => {
                let [left, right] = arg.items() else {
                    return Err(wants(key, "two values", &value.at));
                };
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                let scalars = |v: &Option<Value>| v.as_ref().and_then(Value::scalar);
                Ok(match (scalars(&left), scalars(&right)) {
                    (Some(l), Some(r)) => l == r,
                    _ => left == right,
                })
            }
            _ => Err(Mistake::new(&value.at, format!("{key} is no condition"))),
        }
    }
}

fn wants(function: &str, what: &str, at: &At) -> Mistake {
    Mistake::new(at, format!("{function} wants {what}"))
}
