//! What an environment is when all its templates are rendered: stacks in the order in which they are
//! made, resources with every function carried out, and who is meant by an id or an ARN.

use std::collections::{BTreeMap, HashMap};

use crate::value::{At, Value};

/// An environment, rendered.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Its name, `prod`.
    pub env: String,
    /// The project's name.
    pub project: String,
    /// The home region.
    pub region: String,
    /// The account's number; a stand-in unless somebody asked AWS.
    pub account: String,
    /// The parameters that the environment gives to every template.
    pub parameters: BTreeMap<String, Value>,
    /// In the order in which they can be made: each after all that it needs.
    pub stacks: Vec<Stack>,
    pub(crate) owners: HashMap<String, Place>,
}

/// Which resource: the position of its stack, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In [`Estate::stacks`].
    pub stack: usize,
    /// In [`Stack::resources`].
    pub resource: usize,
}

/// One stack.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its name in `stacks.yaml`.
    pub name: String,
    /// Its name in AWS.
    pub full_name: String,
    /// Its region.
    pub region: String,
    /// Which template, in [`crate::Project::templates`].
    pub template: usize,
    /// Whether it gets stack-level tags.
    pub tags: bool,
    /// Capabilities that CloudFormation wants to be told.
    pub capabilities: Vec<String>,
    /// Positions of the stacks that it needs, ascending.
    pub needs: Vec<usize>,
    /// What each parameter is.
    pub parameters: BTreeMap<String, Value>,
    /// Parameters that come from other stacks: name, and stack and output it comes from.
    pub feeds: BTreeMap<String, (String, String)>,
    /// Its resources, in the order of the template.
    pub resources: Vec<Resource>,
    /// Its outputs.
    pub outputs: BTreeMap<String, Output>,
}

/// One output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its value.
    pub value: Value,
    /// The name by which other stacks import it.
    pub export: Option<String>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name in the template.
    pub logical: String,
    /// Its type, `AWS::EC2::VPC`.
    pub kind: String,
    /// Where it is.
    pub at: At,
    /// Rendered.
    pub properties: Value,
    /// `DeletionPolicy`, if it is given.
    pub deletion_policy: Option<String>,
    /// `UpdateReplacePolicy`, if it is given.
    pub update_replace_policy: Option<String>,
    /// `DependsOn`.
    pub depends_on: Vec<String>,
    /// The rest of what stands beside the properties (`UpdatePolicy`, `Metadata`, ...), rendered.
    pub extra: Vec<(String, Value)>,
    /// What `Ref` gives: a realistic stand-in.
    pub id: String,
}

impl Resource {
    /// A property by its path, `VpcConfig.SubnetIds`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.properties.path(path)
    }

    /// A text property.
    #[must_use]
    pub fn str(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(Value::as_str)
    }

    /// Whether a property is true.
    #[must_use]
    pub fn yes(&self, path: &str) -> bool {
        self.get(path).and_then(Value::as_bool) == Some(true)
    }

    /// Where a property is; if it has none such, where the nearest that would hold it is.
    #[must_use]
    pub fn at(&self, path: &str) -> &At {
        match (self.get(path), path.rsplit_once('.')) {
            (Some(value), _) => &value.at,
            (None, Some((outer, _))) => self.at(outer),
            (None, None) => &self.at,
        }
    }
}

impl Estate {
    /// A stack by its name in `stacks.yaml`.
    #[must_use]
    pub fn stack(&self, name: &str) -> Option<&Stack> {
        self.stacks.iter().find(|s| s.name == name)
    }

    /// The resource that an id, a name or an ARN means.
    #[must_use]
    pub fn owner(&self, id: &str) -> Option<Place> {
        self.owners.get(id).copied()
    }

    /// The resource at a place.
    #[must_use]
    pub fn resource(&self, place: Place) -> Option<&Resource> {
        self.stacks.get(place.stack)?.resources.get(place.resource)
    }

    /// The resource that an id, a name or an ARN means.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Resource> {
        self.resource(self.owner(id)?)
    }

    /// The resource of a type that an id, a name or an ARN means: two types may well use one name.
    #[must_use]
    pub fn find_of(&self, kind: &str, id: &str) -> Option<(Place, &Resource)> {
        let fits = |place: Place| self.resource(place).filter(|r| r.kind == kind);
        let place = self.owner(id)?;
        fits(place)
            .map(|r| (place, r))
            .or_else(|| self.all().find(|(_, r)| r.kind == kind && r.id == id))
    }

    /// All resources with their places.
    pub fn all(&self) -> impl Iterator<Item = (Place, &Resource)> {
        self.stacks.iter().enumerate().flat_map(|(stack, s)| {
            s.resources.iter().enumerate().map(move |(resource, r)| (Place { stack, resource }, r))
        })
    }

    /// All resources of a type.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (Place, &'a Resource)> {
        self.all().filter(move |(_, r)| r.kind == kind)
    }

    /// `stack.Logical`, as people say it.
    #[must_use]
    pub fn name(&self, place: Place) -> String {
        match (self.stacks.get(place.stack), self.resource(place)) {
            (Some(stack), Some(resource)) => format!("{}.{}", stack.name, resource.logical),
            _ => String::from("?"),
        }
    }

    /// The value of a parameter that the environment gives to all.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).and_then(Value::as_str)
    }

    /// Whether it is built for production.
    #[must_use]
    pub fn is_production(&self) -> bool {
        self.parameter("Production") == Some("true")
    }
}
