//! CloudFormation: the operations that plan, apply and destroy need, typed. Invariant: every list is
//! read to its end or the read fails. What is sent twice after a lost answer may be refused the second
//! time; the callers then look at what became of the first.

mod model;
mod read;

use palisade_cloud::{Cloud, CloudError, Query, Repeat};
use serde_json::Value;

pub(crate) use model::{
    Action, Cause, Change, ChangeSet, Event, Live, Replacement, ResourceState, Standing, went_well,
};

const CLOUDFORMATION: Query = Query { name: "cloudformation", version: "2010-05-15" };
/// Pages of a list read at most: of changes, resources and stacks.
const MAX_PAGES: usize = 100;
/// Pages of events: beyond them the oldest are not shown.
const MAX_EVENT_PAGES: usize = 20;

/// CloudFormation of one account in one region.
#[derive(Clone, Debug)]
pub(crate) struct Cfn {
    cloud: Cloud,
}

/// What a change set is asked to make of a stack.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    /// Whether it makes the stack, or changes one that is there.
    pub(crate) create: bool,
    pub(crate) stack: &'a str,
    pub(crate) body: &'a str,
    /// Name and value; without one the stack keeps the value that it has.
    pub(crate) parameters: &'a [(String, Option<String>)],
    pub(crate) tags: &'a [(String, String)],
    pub(crate) capabilities: &'a [String],
}

impl Cfn {
    pub(crate) fn new(cloud: Cloud) -> Self {
        Self { cloud }
    }

    pub(crate) fn region(&self) -> &str {
        self.cloud.region()
    }

    /// A stack by its name or id; None if there is none. A deleted one is found by its id only.
    pub(crate) async fn live(&self, stack: &str) -> Result<Option<Live>, CloudError> {
        let operation = "DescribeStacks";
        let parameters = [("StackName".to_owned(), stack.to_owned())];
        match self.call(operation, &parameters).await {
            Ok(text) => {
                let (mut found, _) = read::stacks(&text).map_err(|e| wrong(operation, &e))?;
                Ok(if found.is_empty() { None } else { Some(found.swap_remove(0)) })
            }
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All stacks of the region that are not deleted.
    pub(crate) async fn all(&self) -> Result<Vec<Live>, CloudError> {
        self.pages("DescribeStacks", &[], read::stacks).await
    }

    /// Asks for a change set of this name.
    pub(crate) async fn create_change_set(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
    ) -> Result<(), CloudError> {
        let kind = if wanted.create { "CREATE" } else { "UPDATE" };
        let mut form = vec![
            ("StackName".to_owned(), wanted.stack.to_owned()),
            ("ChangeSetName".to_owned(), name.to_owned()),
            ("ChangeSetType".to_owned(), kind.to_owned()),
            ("ClientToken".to_owned(), name.to_owned()),
            ("TemplateBody".to_owned(), wanted.body.to_owned()),
        ];
        for (i, (key, value)) in (1..).zip(wanted.parameters) {
            let at = format!("Parameters.member.{i}");
            form.push((format!("{at}.ParameterKey"), key.clone()));
            form.push(match value {
                Some(value) => (format!("{at}.ParameterValue"), value.clone()),
                None => (format!("{at}.UsePreviousValue"), "true".to_owned()),
            });
        }
        for (i, (key, value)) in (1..).zip(wanted.tags) {
            form.push((format!("Tags.member.{i}.Key"), key.clone()));
            form.push((format!("Tags.member.{i}.Value"), value.clone()));
        }
        for (i, capability) in (1..).zip(wanted.capabilities) {
            form.push((format!("Capabilities.member.{i}"), capability.clone()));
        }
        match self.call("CreateChangeSet", &form).await {
            // The name is made for this one try: an earlier sending of it has arrived.
            Err(e) if e.code() == Some("AlreadyExistsException") && is_of_set(&e, name) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// A change set with all of its changes.
    pub(crate) async fn change_set(
        &self,
        stack: &str,
        name: &str,
    ) -> Result<ChangeSet, CloudError> {
        let operation = "DescribeChangeSet";
        let mut whole: Option<ChangeSet> = None;
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut form = named(stack, name);
            form.extend(token.take().map(|t| ("NextToken".to_owned(), t)));
            let text = self.call(operation, &form).await?;
            let (page, next) = read::change_set(&text).map_err(|e| wrong(operation, &e))?;
            let joined = match whole.take() {
                None => page,
                Some(mut set) => {
                    set.changes.extend(page.changes);
                    set
                }
            };
            if next.is_none() {
                return Ok(joined);
            }
            (whole, token) = (Some(joined), next);
        }
        Err(too_many(operation))
    }

    /// Takes a change set away; one that is not there is no error.
    pub(crate) async fn delete_change_set(
        &self,
        stack: &str,
        name: &str,
    ) -> Result<(), CloudError> {
        match self.call("DeleteChangeSet", &named(stack, name)).await {
            Err(e) if e.code() == Some("ChangeSetNotFound") || is_absent(&e) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Whether a stack has change sets.
    pub(crate) async fn has_change_sets(&self, stack: &str) -> Result<bool, CloudError> {
        let operation = "ListChangeSets";
        let form = [("StackName".to_owned(), stack.to_owned())];
        match self.call(operation, &form).await {
            Ok(text) => read::any_change_set(&text).map_err(|e| wrong(operation, &e)),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Begins to carry a change set out. What a first creation made is taken back if it fails, even
    /// what would be kept later.
    pub(crate) async fn execute(
        &self,
        stack: &str,
        name: &str,
        create: bool,
    ) -> Result<(), CloudError> {
        let mut form = named(stack, name);
        form.push(("ClientRequestToken".to_owned(), name.to_owned()));
        if create {
            form.push(("RetainExceptOnCreate".to_owned(), "true".to_owned()));
        }
        self.call("ExecuteChangeSet", &form).await.map(|_| ())
    }

    /// Events of a stack that are newer than the one with this id, oldest first.
    pub(crate) async fn events(
        &self,
        stack: &str,
        after: Option<&str>,
    ) -> Result<Vec<Event>, CloudError> {
        let operation = "DescribeStackEvents";
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        'pages: for _ in 0..MAX_EVENT_PAGES {
            let mut form = vec![("StackName".to_owned(), stack.to_owned())];
            form.extend(token.take().map(|t| ("NextToken".to_owned(), t)));
            let text = self.call(operation, &form).await?;
            let (page, next) = read::events(&text).map_err(|e| wrong(operation, &e))?;
            for event in page {
                if after == Some(event.id.as_str()) {
                    break 'pages;
                }
                found.push(event);
            }
            if next.is_none() {
                break;
            }
            token = next;
        }
        found.reverse();
        Ok(found)
    }

    /// The id of a stack's newest event.
    pub(crate) async fn last_event(&self, stack: &str) -> Result<Option<String>, CloudError> {
        let operation = "DescribeStackEvents";
        let form = [("StackName".to_owned(), stack.to_owned())];
        match self.call(operation, &form).await {
            Ok(text) => {
                let (page, _) = read::events(&text).map_err(|e| wrong(operation, &e))?;
                Ok(page.into_iter().next().map(|e| e.id))
            }
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The resources that a stack has.
    pub(crate) async fn resources(&self, stack: &str) -> Result<Vec<ResourceState>, CloudError> {
        let form = [("StackName".to_owned(), stack.to_owned())];
        self.pages("ListStackResources", &form, read::resources).await
    }

    /// The template that a stack was made of, if it is JSON, as all of ours are.
    pub(crate) async fn template(&self, stack: &str) -> Result<Option<Value>, CloudError> {
        let operation = "GetTemplate";
        let form = [
            ("StackName".to_owned(), stack.to_owned()),
            ("TemplateStage".to_owned(), "Original".to_owned()),
        ];
        let text = self.call(operation, &form).await?;
        let body = read::template(&text).map_err(|e| wrong(operation, &e))?;
        Ok(serde_json::from_str(&body).ok())
    }

    /// Turns termination protection on or off.
    pub(crate) async fn protect(&self, stack: &str, on: bool) -> Result<(), CloudError> {
        let form = [
            ("StackName".to_owned(), stack.to_owned()),
            ("EnableTerminationProtection".to_owned(), on.to_string()),
        ];
        self.call("UpdateTerminationProtection", &form).await.map(|_| ())
    }

    /// Begins to delete a stack.
    pub(crate) async fn delete(&self, stack: &str) -> Result<(), CloudError> {
        let form = [("StackName".to_owned(), stack.to_owned())];
        self.call("DeleteStack", &form).await.map(|_| ())
    }

    async fn call(
        &self,
        operation: &'static str,
        form: &[(String, String)],
    ) -> Result<String, CloudError> {
        // Change sets have names and executions tokens of their own, so twice does what once does.
        self.cloud.query(CLOUDFORMATION, operation, form, Repeat::Always).await
    }

    async fn pages<T>(
        &self,
        operation: &'static str,
        form: &[(String, String)],
        read: impl Fn(&str) -> Result<(Vec<T>, Option<String>), String>,
    ) -> Result<Vec<T>, CloudError> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut form = form.to_vec();
            form.extend(token.take().map(|t| ("NextToken".to_owned(), t)));
            let text = self.call(operation, &form).await?;
            let (page, next) = read(&text).map_err(|e| wrong(operation, &e))?;
            found.extend(page);
            if next.is_none() {
                return Ok(found);
            }
            token = next;
        }
        Err(too_many(operation))
    }
}

fn named(stack: &str, set: &str) -> Vec<(String, String)> {
    vec![("StackName".to_owned(), stack.to_owned()), ("ChangeSetName".to_owned(), set.to_owned())]
}

fn wrong(operation: &'static str, why: &str) -> CloudError {
    CloudError::Answer { operation, why: why.to_owned() }
}

fn too_many(operation: &'static str) -> CloudError {
    CloudError::Answer { operation, why: format!("more than {MAX_PAGES} pages") }
}

/// CloudFormation has no code of its own for a stack that is not there.
fn is_absent(error: &CloudError) -> bool {
    error.code() == Some("ValidationError") && error.to_string().contains("does not exist")
}

fn is_of_set(error: &CloudError, name: &str) -> bool {
    error.to_string().contains(name)
}
