//! A strict CloudFormation in memory, for what ministack cannot be brought to do: replacements, stacks
//! that fail, throttling, somebody else's work. It refuses what CloudFormation refuses, and remembers
//! what it was asked.

mod answers;
mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpStream,
    sync::{Arc, Mutex, MutexGuard},
};

/// A form that was sent.
pub(crate) type Form = BTreeMap<String, String>;

/// The fake; it ends with the test.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

/// What is there, and what a test wants to happen.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) stacks: BTreeMap<String, Stack>,
    /// Operations in the order in which they were asked for, with the stack's name.
    pub(crate) calls: Vec<(String, String)>,
    /// For the n-th change set of a stack that is there, as XML members; the last one holds on.
    pub(crate) changes: BTreeMap<String, Vec<Vec<String>>>,
    /// Reasons for which a stack's change sets fail.
    pub(crate) bad_sets: BTreeMap<String, String>,
    /// Resources whose creation, change or deletion fails, and why.
    pub(crate) failing: BTreeMap<String, String>,
    /// How often each operation is refused as too much before it is answered.
    pub(crate) throttle: u32,
    throttled: BTreeMap<String, u32>,
    /// Operations that are carried out and whose first answer is lost.
    pub(crate) lost: BTreeSet<String>,
    /// Operations that are carried out and never answered.
    pub(crate) held: BTreeSet<String>,
    /// Connections that wait for those answers.
    waiting: Vec<TcpStream>,
    /// What somebody else does after the n-th time that something was asked for of a stack.
    pub(crate) meanwhile: Vec<Meanwhile>,
    /// Looks at a stack that show what it was before anything was begun.
    pub(crate) stale: u32,
    /// Looks at a stack that anything takes.
    pub(crate) looks: u32,
    counter: u32,
}

/// Somebody else's work.
pub(crate) struct Meanwhile {
    operation: &'static str,
    stack: &'static str,
    times: u32,
    work: Box<dyn FnOnce(&mut State) + Send>,
}

/// A stack.
#[derive(Clone, Default)]
pub(crate) struct Stack {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) protected: bool,
    /// Looks until what is under way has ended.
    pub(crate) looks: u32,
    /// Change sets by name, each with its changes.
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) sets_made: usize,
    pub(crate) template: serde_json::Value,
    pub(crate) events: Vec<[String; 5]>,
    pub(crate) id: String,
    /// The change set that was carried out last.
    pub(crate) executed: String,
    /// What looks show for a while: the status of before.
    pub(crate) before: (u32, String),
}

/// A change set.
#[derive(Clone, Default)]
pub(crate) struct Set {
    pub(crate) changes: Vec<String>,
    pub(crate) template: serde_json::Value,
    pub(crate) failed: Option<String>,
}

/// A change as CloudFormation writes it.
pub(crate) fn change(action: &str, logical: &str, kind: &str, replacement: &str) -> String {
    format!(
        "<member><Type>Resource</Type><ResourceChange><Action>{action}</Action>\
         <LogicalResourceId>{logical}</LogicalResourceId><ResourceType>{kind}</ResourceType>\
         <Replacement>{replacement}</Replacement><Details><member><Target>\
         <Attribute>Properties</Attribute><Name>Size</Name>\
         <RequiresRecreation>Always</RequiresRecreation></Target></member></Details>\
         </ResourceChange></member>"
    )
}

impl Fake {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State { looks: 1, ..State::default() }));
        let endpoint = http::serve(Arc::clone(&state));
        Self { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Which stacks this operation was asked for.
    pub(crate) fn asked(&self, operation: &str) -> Vec<String> {
        let state = self.state();
        state.calls.iter().filter(|(o, _)| o == operation).map(|(_, s)| s.clone()).collect()
    }

    /// What somebody else does after the n-th time, counted from now.
    pub(crate) fn after(
        &self,
        times: u32,
        operation: &'static str,
        stack: &'static str,
        work: impl FnOnce(&mut State) + Send + 'static,
    ) {
        let work = Box::new(work);
        self.state().meanwhile.push(Meanwhile { operation, stack, times, work });
    }

    pub(crate) fn forget_calls(&self) {
        self.state().calls.clear();
    }

    pub(crate) fn status(&self, stack: &str) -> String {
        self.state().stacks.get(stack).map(|s| s.status.clone()).unwrap_or_default()
    }
}

/// Its code and its message.
type Refused = (&'static str, String);

fn invalid<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(("ValidationError", why.into()))
}

impl State {
    /// Answers one request, and then lets happen what somebody else does.
    fn answer_and_go_on(&mut self, form: &Form) -> Result<String, Refused> {
        let answer = self.answer(form);
        let get = |key: &str| form.get(key).cloned().unwrap_or_default();
        let (operation, stack) = (get("Action"), self.name_of(&get("StackName")));
        let mut due = Vec::new();
        for mut one in std::mem::take(&mut self.meanwhile) {
            let is = one.operation == operation && one.stack == stack;
            one.times -= u32::from(is);
            if one.times == 0 { due.push(one) } else { self.meanwhile.push(one) }
        }
        due.into_iter().for_each(|one| (one.work)(self));
        answer
    }

    /// Answers one request: the inside of the result, or an error.
    fn answer(&mut self, form: &Form) -> Result<String, Refused> {
        let get = |key: &str| form.get(key).cloned().unwrap_or_default();
        let operation = get("Action");
        if operation == "GetCallerIdentity" {
            return Ok("<Arn>arn:aws:iam::000000000000:user/test</Arn>".to_owned());
        }
        let stack = get("StackName");
        let name = self.name_of(&stack);
        self.calls.push((operation.clone(), name.clone()));
        let times = self.throttled.entry(operation.clone()).or_default();
        if *times < self.throttle {
            *times += 1;
            return Err(("Throttling", "Rate exceeded".to_owned()));
        }
        match operation.as_str() {
            "DescribeStacks" => self.describe_stacks(&stack, &name),
            // A deleted stack's events are found by its id.
            "DescribeStackEvents" => match self.stacks.get(&name) {
                Some(deleted) if deleted.id == stack => deleted.events_xml(),
                _ => self.of(&name)?.events_xml(),
            },
            "CreateChangeSet" => self.create_change_set(&name, form),
            "DescribeChangeSet" => self.describe_change_set(&name, form),
            "DeleteChangeSet" => {
                self.of(&name)?.sets.remove(&get("ChangeSetName"));
                Ok(String::new())
            }
            "ListChangeSets" => {
                let sets = self.of(&name)?.sets.len();
                Ok(format!("<Summaries>{}</Summaries>", "<member/>".repeat(sets)))
            }
            "ExecuteChangeSet" => self.execute(&name, &get("ChangeSetName")),
            "ListStackResources" => self.of(&name)?.resources_xml(),
            "GetTemplate" => self.of(&name)?.template_xml(),
            "UpdateTerminationProtection" => {
                self.of(&name)?.protected = get("EnableTerminationProtection") == "true";
                Ok(String::new())
            }
            "DeleteStack" => self.delete(&name),
            other => Err(("InvalidAction", format!("no operation {other}"))),
        }
    }

    fn name_of(&self, stack: &str) -> String {
        let by_id = self.stacks.iter().find(|(_, s)| s.id == stack);
        by_id.map_or_else(|| stack.to_owned(), |(name, _)| name.clone())
    }

    fn of(&mut self, name: &str) -> Result<&mut Stack, Refused> {
        match self.stacks.get_mut(name) {
            Some(stack) if stack.status != "DELETE_COMPLETE" => Ok(stack),
            _ => invalid(format!("Stack [{name}] does not exist")),
        }
    }

    /// A look at one stack brings what is under way nearer to its end.
    fn describe_stacks(&mut self, asked: &str, name: &str) -> Result<String, Refused> {
        if asked.is_empty() {
            let there = self.stacks.iter().filter(|(_, s)| s.status != "DELETE_COMPLETE");
            let all: String = there.map(|(name, s)| s.xml(name)).collect();
            return Ok(format!("<Stacks>{all}</Stacks>"));
        }
        let failing = self.failing.clone();
        let stack = match self.stacks.get_mut(name) {
            Some(s) if s.status != "DELETE_COMPLETE" || asked == s.id => s,
            _ => return invalid(format!("Stack with id {name} does not exist")),
        };
        if stack.before.0 > 0 {
            stack.before.0 -= 1;
            let shown = Stack { status: stack.before.1.clone(), ..stack.clone() };
            return Ok(format!("<Stacks>{}</Stacks>", shown.xml(name)));
        }
        if stack.looks > 0 {
            stack.looks -= 1;
        } else {
            stack.end(name, &failing);
        }
        Ok(format!("<Stacks>{}</Stacks>", stack.xml(name)))
    }

    fn create_change_set(&mut self, name: &str, form: &Form) -> Result<String, Refused> {
        let get = |key: &str| form.get(key).cloned().unwrap_or_default();
        let body = get("TemplateBody");
        let Ok(template) = serde_json::from_str::<serde_json::Value>(&body) else {
            return invalid("Template format error");
        };
        if body.len() > 51_200 {
            return invalid("TemplateBody is too long");
        }
        check_parameters(&template, form)?;
        let create = get("ChangeSetType") == "CREATE";
        let status = self.stacks.get(name).map(|s| s.status.clone()).unwrap_or_default();
        match (create, status.as_str()) {
            (true, "" | "DELETE_COMPLETE" | "REVIEW_IN_PROGRESS") => {}
            (true, _) => {
                return Err(("AlreadyExistsException", format!("Stack [{name}] already exists")));
            }
            (false, "" | "DELETE_COMPLETE") => {
                return invalid(format!("Stack [{name}] does not exist"));
            }
            (false, other) if other.ends_with("_IN_PROGRESS") || other.contains("FAILED") => {
                return invalid(format!(
                    "Stack:{name} is in {other} state and can not be updated."
                ));
            }
            (false, _) => {}
        }
        self.counter += 1;
        let id = format!("arn:aws:cloudformation:x:0:stack/{name}/{}", self.counter);
        if create && status != "REVIEW_IN_PROGRESS" {
            let stack = Stack { id, status: "REVIEW_IN_PROGRESS".into(), ..Stack::default() };
            self.stacks.insert(name.to_owned(), stack);
        }
        let scripted = self.changes.get(name).cloned().unwrap_or_default();
        let bad = self.bad_sets.get(name).cloned();
        let stack = self.of(name)?;
        let changes = if create {
            let kinds = kinds(&template);
            kinds.iter().map(|(logical, kind)| change("Add", logical, kind, "False")).collect()
        } else {
            let at = stack.sets_made.min(scripted.len().saturating_sub(1));
            stack.sets_made += 1;
            scripted.get(at).cloned().unwrap_or_default()
        };
        let nothing = changes.is_empty().then(|| {
            "The submitted information didn't contain changes. Submit different information to \
             create a change set."
                .to_owned()
        });
        let set = Set { changes, template, failed: bad.or(nothing) };
        stack.sets.insert(get("ChangeSetName"), set);
        Ok("<Id>set</Id>".to_owned())
    }

    /// One change a page.
    fn describe_change_set(&mut self, name: &str, form: &Form) -> Result<String, Refused> {
        let page: usize = form.get("NextToken").and_then(|t| t.parse().ok()).unwrap_or_default();
        let set_name = form.get("ChangeSetName").cloned().unwrap_or_default();
        let stack = self.of(name)?;
        if stack.executed == set_name {
            let state =
                if stack.status.ends_with("_IN_PROGRESS") { "IN_PROGRESS" } else { "COMPLETE" };
            return Ok(format!(
                "<Status>CREATE_COMPLETE</Status><ExecutionStatus>EXECUTE_{state}</ExecutionStatus>"
            ));
        }
        let Some(set) = stack.sets.get(&set_name) else {
            return Err(("ChangeSetNotFound", format!("ChangeSet [{set_name}] does not exist")));
        };
        if let Some(reason) = &set.failed {
            return Ok(format!(
                "<Status>FAILED</Status><ExecutionStatus>UNAVAILABLE</ExecutionStatus>\
                 <StatusReason>{reason}</StatusReason>"
            ));
        }
        let next = if page + 1 < set.changes.len() {
            format!("<NextToken>{}</NextToken>", page + 1)
        } else {
            String::new()
        };
        let change = set.changes.get(page).cloned().unwrap_or_default();
        Ok(format!(
            "<Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus>\
             <Changes>{change}</Changes>{next}"
        ))
    }

    fn execute(&mut self, name: &str, set_name: &str) -> Result<String, Refused> {
        let (looks, stale) = (self.looks, self.stale);
        let stack = self.of(name)?;
        if stack.executed == set_name {
            return Err(("InvalidChangeSetStatus", format!("ChangeSet [{set_name}] is executed")));
        }
        let Some(set) = stack.sets.get(set_name).cloned() else {
            return Err(("ChangeSetNotFound", format!("ChangeSet [{set_name}] does not exist")));
        };
        if set.failed.is_some() || stack.status.ends_with("_IN_PROGRESS") && stack.looks > 0 {
            return Err(("InvalidChangeSetStatus", format!("ChangeSet [{set_name}] is not ready")));
        }
        let create = stack.status == "REVIEW_IN_PROGRESS";
        stack.before = (stale, stack.status.clone());
        stack.executed = set_name.to_owned();
        stack.status = if create { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" }.to_owned();
        stack.template = set.template;
        stack.sets.clear();
        stack.looks = looks;
        Ok(String::new())
    }

    fn delete(&mut self, name: &str) -> Result<String, Refused> {
        let (looks, stale) = (self.looks, self.stale);
        let Ok(stack) = self.of(name) else { return Ok(String::new()) };
        if stack.protected {
            return invalid(format!("Stack [{name}] cannot be deleted while it is protected"));
        }
        stack.before = (stale, stack.status.clone());
        stack.status = "DELETE_IN_PROGRESS".to_owned();
        stack.looks = looks;
        Ok(String::new())
    }
}

/// Every parameter that is given is declared, and every one without a default is given.
fn check_parameters(template: &serde_json::Value, form: &Form) -> Result<(), Refused> {
    let declared = template["Parameters"].as_object().cloned().unwrap_or_default();
    let mut given = BTreeSet::new();
    for (key, name) in form.iter().filter(|(k, _)| k.ends_with(".ParameterKey")) {
        let base = key.trim_end_matches("ParameterKey");
        let valued = form.contains_key(&format!("{base}ParameterValue"))
            || form.contains_key(&format!("{base}UsePreviousValue"));
        if !declared.contains_key(name) || !valued {
            return invalid(format!("Parameters: [{name}] do not exist in the template"));
        }
        given.insert(name.clone());
    }
    match declared.iter().find(|(n, p)| p.get("Default").is_none() && !given.contains(*n)) {
        Some((name, _)) => invalid(format!("Parameters: [{name}] must have values")),
        None => Ok(()),
    }
}

fn kinds(template: &serde_json::Value) -> Vec<(String, String)> {
    let resources = template["Resources"].as_object().cloned().unwrap_or_default();
    let kind = |r: &serde_json::Value| r["Type"].as_str().unwrap_or_default().to_owned();
    resources.iter().map(|(name, r)| (name.clone(), kind(r))).collect()
}
