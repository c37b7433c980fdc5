//! One stack while it is rendered: its parameters, its conditions, the ids of its resources.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Active, Renderer, ids, parameters};
use crate::{
    estate::{Output, Resource, Stack},
    mistake::Mistake,
    policy,
    value::{At, Entry, Kind, Value},
};

/// Sections that are rendered, or that only people and consoles read.
const SECTIONS: &[&str] = &[
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
];

/// The most conditions, names or stacks that need one another in a row; nobody writes so many by hand, and
/// each takes some of the call stack.
pub(super) const DEEPEST: usize = 200;

pub(super) struct Context<'r, 'a> {
    pub(super) renderer: &'r mut Renderer<'a>,
    pub(super) active: Active<'a>,
    pub(super) parameters: BTreeMap<String, Value>,
    feeds: BTreeMap<String, (String, String)>,
    /// `None` while it is found out.
    conditions: HashMap<&'a str, Option<bool>>,
    ids: HashMap<&'a str, String>,
    busy: HashSet<&'a str>,
    /// Ids and ARNs of resources by their position in the template.
    owned: Vec<(String, String)>,
    needs: BTreeSet<usize>,
    /// How many conditions and names wait for one another.
    depth: usize,
}

impl<'r, 'a> Context<'r, 'a> {
    /// One that knows no parameter that comes from another stack.
    pub(super) fn without_feeds(r: &'r mut Renderer<'a>, index: usize) -> Result<Self, Mistake> {
        let mut context = Self::new(r, index, BTreeSet::new())?;
        for declared in context.section("Parameters") {
            if !context.active.entry.feeds.contains_key(&declared.key) {
                context.set_parameter(declared, None)?;
            }
        }
        Ok(context)
    }

    /// Names of exports, with the output that each is of and the place of the name.
    pub(super) fn exports(mut self) -> Result<Vec<(String, &'a str, &'a At)>, Mistake> {
        let mut names = Vec::new();
        for output in self.section("Outputs") {
            let Some(name) = output.value.path("Export.Name") else { continue };
            if self.is_there(output)? {
                names.push((self.text(name)?, output.key.as_str(), &name.at));
            }
        }
        Ok(names)
    }

    /// One that knows everything.
    pub(super) fn whole(
        r: &'r mut Renderer<'a>,
        index: usize,
        needs: BTreeSet<usize>,
    ) -> Result<Self, Mistake> {
        let mut context = Self::new(r, index, needs)?;
        let active = context.active;
        for section in active.template.root.entries() {
            if !SECTIONS.contains(&section.key.as_str()) {
                let what = format!("the section {} cannot be rendered", section.key);
                return Err(Mistake::new(&section.at, what));
            }
        }
        for declared in context.section("Parameters") {
            let fed = context.fed(&declared.key)?;
            context.set_parameter(declared, fed)?;
        }
        let declared = |name: &str| context.section("Parameters").iter().any(|p| p.key == name);
        if let Some((name, feed)) = active.entry.feeds.iter().find(|(name, _)| !declared(name)) {
            let what = format!("{} has no parameter {name}", active.template.file);
            return Err(Mistake::new(&feed.at, what));
        }
        context.keep_rules()?;
        Ok(context)
    }

    fn new(
        renderer: &'r mut Renderer<'a>,
        index: usize,
        needs: BTreeSet<usize>,
    ) -> Result<Self, Mistake> {
        let active = renderer.active.get(index).copied();
        let active = active.ok_or_else(|| Mistake::new(&renderer.env.at, "no such stack"))?;
        Ok(Self {
            renderer,
            active,
            parameters: BTreeMap::new(),
            feeds: BTreeMap::new(),
            conditions: HashMap::new(),
            ids: HashMap::new(),
            busy: HashSet::new(),
            owned: Vec::new(),
            needs,
            depth: 0,
        })
    }

    /// Entries of a section of the template.
    pub(super) fn section(&self, name: &str) -> &'a [Entry] {
        self.active.template.root.get(name).map(Value::entries).unwrap_or_default()
    }

    /// The stack's name in AWS.
    pub(super) fn full_name(&self) -> String {
        let env = self.renderer.env;
        format!("{}-{}-{}", env.project, env.name, self.active.entry.name)
    }

    /// What another stack gives for a parameter, where this environment has that stack.
    fn fed(&mut self, name: &str) -> Result<Option<Value>, Mistake> {
        let Some(feed) = self.active.entry.feeds.get(name) else { return Ok(None) };
        let found = self.renderer.active.iter().position(|a| a.entry.name == feed.stack);
        let Some(index) = found else { return Ok(None) };
        let (position, value) = self.renderer.output(index, &feed.output, &feed.at)?;
        self.needs.insert(position);
        self.feeds.insert(name.to_owned(), (feed.stack.clone(), feed.output.clone()));
        let text = value.scalar().unwrap_or_default();
        Ok(Some(Value::text(&feed.at, text)))
    }

    fn set_parameter(&mut self, declared: &'a Entry, fed: Option<Value>) -> Result<(), Mistake> {
        let env = self.renderer.env;
        let name = &declared.key;
        let own = match name.as_str() {
            "Project" => Some(Value::text(&env.at, env.project.as_str())),
            "Env" => Some(Value::text(&env.at, env.name.as_str())),
            _ => None,
        };
        let of_stack = env.stacks.get(&self.active.entry.name).and_then(|p| p.get(name)).cloned();
        let default = || declared.value.get("Default").cloned();
        let given = own
            .or(fed)
            .or(of_stack)
            .or_else(|| env.parameters.get(name).cloned())
            .or_else(default)
            .ok_or_else(|| {
                let what =
                    format!("{name}: {} gives no value and there is no default", env.at.file);
                Mistake::new(&declared.at, what)
            })?;
        let patterns = &mut self.renderer.patterns;
        let value = parameters::value(declared, &given, &env.ssm_values, patterns)?;
        self.parameters.insert(name.clone(), value);
        Ok(())
    }

    /// A condition of the template.
    pub(super) fn condition(&mut self, name: &str, at: &At) -> Result<bool, Mistake> {
        let entry = self.section("Conditions").iter().find(|e| e.key == name);
        let entry = entry.ok_or_else(|| Mistake::new(at, format!("no condition {name}")))?;
        match self.conditions.get(entry.key.as_str()) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => return Err(Mistake::new(at, format!("condition {name} needs itself"))),
            None => {}
        }
        if self.depth >= DEEPEST {
            return Err(Mistake::new(
                at,
                format!("condition {name}: {DEEPEST} need each other in a row"),
            ));
        }
        self.conditions.insert(&entry.key, None);
        self.depth += 1;
        let truth = self.truth(&entry.value);
        self.depth -= 1;
        let truth = truth?;
        self.conditions.insert(&entry.key, Some(truth));
        Ok(truth)
    }

    /// Whether the condition of a resource or an output holds, if it has one.
    fn is_there(&mut self, entry: &'a Entry) -> Result<bool, Mistake> {
        let Some(condition) = entry.value.get("Condition") else { return Ok(true) };
        self.condition(condition.as_str().unwrap_or_default(), &condition.at)
    }

    /// A resource of the template that this environment has.
    fn source(&mut self, logical: &str, at: &At) -> Result<&'a Entry, Mistake> {
        let entry = self.section("Resources").iter().find(|e| e.key == logical);
        let entry =
            entry.ok_or_else(|| Mistake::new(at, format!("nothing is called {logical}")))?;
        if let Some(condition) = entry.value.get("Condition") {
            let name = condition.as_str().unwrap_or_default();
            if !self.condition(name, &condition.at)? {
                let what = format!("{logical} does not exist here: {name} is false");
                return Err(Mistake::new(at, what));
            }
        }
        Ok(entry)
    }

    /// What `Ref` gives for a resource.
    pub(super) fn id(&mut self, logical: &str, at: &At) -> Result<String, Mistake> {
        if let Some(known) = self.ids.get(logical) {
            return Ok(known.clone());
        }
        let entry = self.source(logical, at)?;
        if !self.busy.insert(&entry.key) {
            return Err(Mistake::new(at, format!("the name of {logical} needs itself")));
        }
        if self.busy.len() > DEEPEST {
            return Err(Mistake::new(
                at,
                format!("{logical}: {DEEPEST} names need each other in a row"),
            ));
        }
        let kind = entry.value.get("Type").and_then(Value::as_str).unwrap_or_default();
        let mut name = None;
        for property in ids::names(kind) {
            if let Some(value) = entry.value.path(&format!("Properties.{property}")) {
                name = self.eval(value)?.and_then(|v| v.scalar());
                break;
            }
        }
        self.busy.remove(entry.key.as_str());
        let id = ids::reference(kind, &self.facts(logical, name.as_deref()));
        if let Some(arn) = ids::arn(kind, &self.facts(logical, name.as_deref()), &id) {
            self.owned.push((arn, logical.to_owned()));
        }
        self.owned.push((id.clone(), logical.to_owned()));
        self.ids.insert(&entry.key, id.clone());
        Ok(id)
    }

    fn facts<'f>(&'f self, logical: &'f str, name: Option<&'f str>) -> ids::Facts<'f> {
        ids::Facts {
            region: self.active.region,
            account: &self.renderer.env.account,
            stack: self.full_name(),
            logical,
            name,
        }
    }

    /// What `Fn::GetAtt` gives.
    pub(super) fn attribute(
        &mut self,
        logical: &str,
        name: &str,
        at: &At,
    ) -> Result<Value, Mistake> {
        let id = self.id(logical, at)?;
        let entry = self.source(logical, at)?;
        let kind = entry.value.get("Type").and_then(Value::as_str).unwrap_or_default();
        if let Some(known) = ids::attribute(kind, &self.facts(logical, None), &id, name) {
            self.owned.push((known.clone(), logical.to_owned()));
            return Ok(Value::text(at, known));
        }
        // An attribute of a property's name has that property's value.
        if let Some(property) = entry.value.path(&format!("Properties.{name}"))
            && let Some(value) = self.eval(property)?
        {
            return Ok(value);
        }
        let made = ids::any_attribute(&self.facts(logical, None), name);
        self.owned.push((made.clone(), logical.to_owned()));
        Ok(Value::text(at, made))
    }

    /// What another stack of this region exports under a name.
    pub(super) fn import(&mut self, name: &str, at: &At) -> Result<Value, Mistake> {
        let key = (self.active.region, name.to_owned());
        let Some(&(index, output)) = self.renderer.exports.get(&key) else {
            let what = format!("nothing exports {name} in {}", self.active.region);
            return Err(Mistake::new(at, what));
        };
        let (position, value) = self.renderer.output(index, output, at)?;
        self.needs.insert(position);
        Ok(Value { at: at.clone(), ..value })
    }

    /// A value that must be there and be a scalar, as text.
    pub(super) fn text(&mut self, value: &'a Value) -> Result<String, Mistake> {
        let made = self.eval(value)?;
        made.and_then(|v| v.scalar()).ok_or_else(|| Mistake::new(&value.at, "must be a text"))
    }

    /// Everything of the stack; ids and ARNs with the position of the resource they mean.
    pub(super) fn finish(mut self) -> Result<(Stack, Vec<(String, usize)>), Mistake> {
        let resources = self.resources()?;
        let outputs = self.outputs()?;
        let positions: HashMap<&str, usize> =
            resources.iter().enumerate().map(|(i, r)| (r.logical.as_str(), i)).collect();
        let owned = self
            .owned
            .iter()
            .filter_map(|(id, logical)| Some((id.clone(), *positions.get(logical.as_str())?)))
            .collect();
        let stack = Stack {
            name: self.active.entry.name.clone(),
            full_name: self.full_name(),
            region: self.active.region.to_owned(),
            template: self.active.position,
            tags: self.active.entry.tags,
            capabilities: self.active.entry.capabilities.clone(),
            needs: self.needs.into_iter().collect(),
            parameters: self.parameters,
            feeds: self.feeds,
            resources,
            outputs,
        };
        Ok((stack, owned))
    }

    fn resources(&mut self) -> Result<Vec<Resource>, Mistake> {
        let mut resources = Vec::new();
        for entry in self.section("Resources") {
            if !self.is_there(entry)? {
                continue;
            }
            resources.push(self.resource(entry)?);
        }
        Ok(resources)
    }

    fn resource(&mut self, entry: &'a Entry) -> Result<Resource, Mistake> {
        let kind = entry.value.get("Type").and_then(Value::as_str);
        let kind =
            kind.ok_or_else(|| Mistake::new(&entry.at, format!("{} has no Type", entry.key)))?;
        let nothing = || Value::new(&entry.at, Kind::Map(Vec::new()));
        let mut resource = Resource {
            logical: entry.key.clone(),
            kind: kind.to_owned(),
            at: entry.at.clone(),
            properties: nothing(),
            deletion_policy: None,
            update_replace_policy: None,
            depends_on: Vec::new(),
            extra: Vec::new(),
            id: self.id(&entry.key, &entry.at)?,
        };
        for part in entry.value.entries() {
            match part.key.as_str() {
                "Type" | "Condition" => {}
                "Properties" => {
                    resource.properties = self.eval(&part.value)?.unwrap_or_else(nothing);
                    policy::read_texts(&mut resource.properties);
                }
                "DeletionPolicy" => resource.deletion_policy = part.value.scalar(),
                "UpdateReplacePolicy" => resource.update_replace_policy = part.value.scalar(),
                "DependsOn" => {
                    let names = part.value.one_or_more().iter().filter_map(Value::scalar);
                    resource.depends_on = names.collect();
                }
                _ => {
                    if let Some(value) = self.eval(&part.value)? {
                        resource.extra.push((part.key.clone(), value));
                    }
                }
            }
        }
        Ok(resource)
    }

    fn outputs(&mut self) -> Result<BTreeMap<String, Output>, Mistake> {
        let mut outputs = BTreeMap::new();
        for entry in self.section("Outputs") {
            if !self.is_there(entry)? {
                continue;
            }
            let missing = || Mistake::new(&entry.at, format!("output {} has no value", entry.key));
            let source = entry.value.get("Value").ok_or_else(missing)?;
            let value = self.eval(source)?.ok_or_else(missing)?;
            let export = match entry.value.path("Export.Name") {
                Some(name) => Some(self.text(name)?),
                None => None,
            };
            outputs.insert(entry.key.clone(), Output { value, export });
        }
        Ok(outputs)
    }
}
