//! Templates and an environment in, every resource out: all intrinsic functions carried out, across
//! stacks and regions. Pure.
//!
//! A stack is rendered when it is first needed, by an import, by a feed or because it comes `after`;
//! so the order in which stacks are finished is one in which they can be made, and a circle shows
//! itself. What only AWS knows (ids, ARNs) gets a stand-in of the right shape, the same in every run.

mod assertions;
mod cidr;
mod context;
mod functions;
mod ids;
mod parameters;

use std::collections::{BTreeSet, HashMap};

use crate::{
    estate::{Estate, Place, Stack},
    mistake::{Mistake, Mistakes},
    project::{Environment, GLOBAL_REGION, Project, Region, StackEntry, Template},
    value::{At, Value},
};
use context::{Context, DEEPEST};

/// Renders an environment.
///
/// # Errors
/// All mistakes that could be told apart: one for each stack.
pub fn render(project: &Project, env: &Environment) -> Result<Estate, Mistakes> {
    let mut mistakes = parameters::unknown(project, env);
    let mut renderer = Renderer::new(project, env);
    mistakes.0.extend(renderer.index_exports());
    for active in 0..renderer.active.len() {
        if let Err(e) = renderer.stack(active, &env.at) {
            // One that needs a broken stack fails for the same reason.
            if !mistakes.0.contains(&e) {
                mistakes.0.push(e);
            }
        }
    }
    let stacks = renderer.done;
    mistakes.or(Estate {
        env: env.name.clone(),
        project: env.project.clone(),
        region: env.region.clone(),
        account: env.account.clone(),
        parameters: env.parameters.clone(),
        stacks,
        owners: renderer.owners,
    })
}

/// A stack of the list that this environment has.
#[derive(Clone, Copy, Debug)]
struct Active<'a> {
    entry: &'a StackEntry,
    template: &'a Template,
    position: usize,
    region: &'a str,
}

#[derive(Clone, Debug)]
enum State {
    NotYet,
    Busy,
    /// Its position among those done.
    Done(usize),
    Failed(Mistake),
}

struct Renderer<'a> {
    env: &'a Environment,
    active: Vec<Active<'a>>,
    states: Vec<State>,
    /// Region and name of an export, to the stack and its output.
    exports: HashMap<(&'a str, String), (usize, &'a str)>,
    done: Vec<Stack>,
    owners: HashMap<String, Place>,
    patterns: parameters::Patterns,
    /// How many stacks wait for one another.
    depth: usize,
}

impl<'a> Renderer<'a> {
    fn new(project: &'a Project, env: &'a Environment) -> Self {
        let has = |entry: &StackEntry| {
            let held = entry.when.iter().all(|(name, values)| {
                let value = env.parameters.get(name).and_then(Value::as_str);
                value.is_some_and(|v| values.iter().any(|w| w == v))
            });
            held && !(entry.unless_home_is_global && env.region == GLOBAL_REGION)
        };
        let active: Vec<_> = project
            .stacks
            .iter()
            .filter(|e| has(e))
            .filter_map(|entry| {
                let position = project.template(&entry.template)?;
                let template = project.templates.get(position)?;
                let region = match entry.region {
                    Region::Home => env.region.as_str(),
                    Region::Global => GLOBAL_REGION,
                };
                Some(Active { entry, template, position, region })
            })
            .collect();
        let states = vec![State::NotYet; active.len()];
        let (exports, done, owners) = (HashMap::new(), Vec::new(), HashMap::new());
        let patterns = parameters::Patterns::new();
        Self { env, active, states, exports, done, owners, patterns, depth: 0 }
    }

    /// Finds out who exports what; names may use what does not come from another stack.
    fn index_exports(&mut self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for index in 0..self.active.len() {
            let names = match Context::without_feeds(self, index).and_then(Context::exports) {
                Ok(names) => names,
                Err(e) => {
                    mistakes.push(e);
                    continue;
                }
            };
            let region = self.active.get(index).map_or("", |a| a.region);
            for (name, output, at) in names {
                let taken = self.exports.insert((region, name.clone()), (index, output));
                if taken.is_some() {
                    let what = format!("{name} is exported twice in {region}");
                    mistakes.push(Mistake::new(at, what));
                }
            }
        }
        mistakes
    }

    /// Renders a stack if it is not rendered yet. Its position among those done.
    fn stack(&mut self, index: usize, wanted_at: &At) -> Result<usize, Mistake> {
        let Some(active) = self.active.get(index).copied() else {
            return Err(Mistake::new(wanted_at, "no such stack"));
        };
        match self.states.get(index) {
            Some(State::Done(position)) => return Ok(*position),
            Some(State::Failed(e)) => return Err(e.clone()),
            Some(State::Busy) => {
                let what = format!("{} needs itself, by way of this", active.entry.name);
                return Err(Mistake::new(wanted_at, what));
            }
            Some(State::NotYet) | None => {}
        }
        if self.depth >= DEEPEST {
            let what = format!("{}: {DEEPEST} stacks need each other in a row", active.entry.name);
            return Err(Mistake::new(wanted_at, what));
        }
        self.set(index, State::Busy);
        self.depth += 1;
        let rendered = self.make(index, active);
        self.depth -= 1;
        let state = match &rendered {
            Ok(position) => State::Done(*position),
            Err(e) => State::Failed(e.clone()),
        };
        self.set(index, state);
        rendered
    }

    fn make(&mut self, index: usize, active: Active<'a>) -> Result<usize, Mistake> {
        let mut needs = BTreeSet::new();
        for name in &active.entry.after {
            // One that this environment has not is no reason to wait.
            if let Some(other) = self.active.iter().position(|a| a.entry.name == *name) {
                needs.insert(self.stack(other, &active.entry.at)?);
            }
        }
        let (stack, owned) = Context::whole(self, index, needs)?.finish()?;
        let position = self.done.len();
        for (id, resource) in owned {
            self.owners.entry(id).or_insert(Place { stack: position, resource });
        }
        self.done.push(stack);
        Ok(position)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(slot) = self.states.get_mut(index) {
            *slot = state;
        }
    }

    /// The value of another stack's output, and that stack's position.
    fn output(&mut self, index: usize, output: &str, at: &At) -> Result<(usize, Value), Mistake> {
        let position = self.stack(index, at)?;
        let stack = self.done.get(position);
        let value = stack.and_then(|s| s.outputs.get(output)).map(|o| o.value.clone());
        let name = || self.active.get(index).map_or("?", |a| a.entry.name.as_str());
        value
            .map(|value| (position, value))
            .ok_or_else(|| Mistake::new(at, format!("{} has no output {output} here", name())))
    }
}

#[cfg(test)]
#[path = "render/tests.rs"]
mod tests;
