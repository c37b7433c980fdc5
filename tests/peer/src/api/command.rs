//! SendCommand and CancelCommand: the command's rules, and its run over its instances.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time};
use uuid::Uuid;

use super::{
    ApiError, fields,
    session::machine_arn,
    targets::{self, Target},
};
use crate::{
    Signer, clock,
    config::{Instance, Ping, Trouble},
    documents::Script,
    lock,
    peer::Shared,
    runner::{self, Ended},
};

/// Most commands that are remembered; the oldest go then.
const MOST: usize = 10_000;
/// What the agent keeps of a stream, and how it marks the cut.
const STDOUT: usize = 24_000;
const STDERR: usize = 8000;
const CUT: &str = "--output truncated--";
/// How long the report of a start hides that of the end, for [`Trouble::OutOfOrder`].
const HIDDEN: Duration = Duration::from_secs(2);

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(super) id: String,
    pub(super) document: String,
    pub(super) parameters: BTreeMap<String, Vec<String>>,
    pub(super) comment: String,
    pub(super) requested_ms: u64,
    pub(super) timeout_s: u64,
    pub(super) by_tag: bool,
    pub(super) targets: Vec<Target>,
    pub(super) concurrency: String,
    pub(super) errors: String,
    pub(super) step: String,
    pub(super) invocations: Mutex<BTreeMap<String, Invocation>>,
    cancel: watch::Sender<bool>,
}

/// A command on one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Invocation {
    pub(super) status: Status,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) code: i32,
    pub(super) started_ms: u64,
    pub(super) ended_ms: u64,
}

/// Status and its details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Pending,
    Delayed,
    InProgress,
    Cancelling,
    Success,
    Failed,
    Undeliverable,
    DeliveryTimedOut,
    ExecutionTimedOut,
    Cancelled,
    Terminated,
}

impl Status {
    /// `Status` and `StatusDetails`.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pending => ("Pending", "Pending"),
            Self::Delayed => ("Delayed", "Delayed"),
            Self::InProgress => ("InProgress", "InProgress"),
            Self::Cancelling => ("Cancelling", "Cancelling"),
            Self::Success => ("Success", "Success"),
            Self::Failed => ("Failed", "Failed"),
            Self::Undeliverable => ("Failed", "Undeliverable"),
            Self::DeliveryTimedOut => ("TimedOut", "DeliveryTimedOut"),
            Self::ExecutionTimedOut => ("TimedOut", "ExecutionTimedOut"),
            Self::Cancelled => ("Cancelled", "Cancelled"),
            Self::Terminated => ("Cancelled", "Terminated"),
        }
    }

    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Delayed | Self::InProgress | Self::Cancelling)
    }
}

impl Command {
    pub(super) fn invocation(&self, instance: &str) -> Option<Invocation> {
        lock(&self.invocations).get(instance).cloned()
    }

    fn set(&self, instance: &str, change: impl FnOnce(&mut Invocation)) {
        if let Some(invocation) = lock(&self.invocations).get_mut(instance) {
            change(invocation);
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Send {
    #[serde(default)]
    instance_ids: Vec<String>,
    #[serde(default)]
    targets: Vec<Target>,
    document_name: String,
    document_version: Option<String>,
    timeout_seconds: Option<u64>,
    comment: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, Vec<String>>,
    max_concurrency: Option<String>,
    max_errors: Option<String>,
}

impl Send {
    fn check(&self) -> Result<(), ApiError> {
        if self.instance_ids.is_empty() == self.targets.is_empty() {
            return Err(ApiError::invalid("either InstanceIds or Targets must be given"));
        }
        if self.instance_ids.len() > 50 || self.targets.len() > 5 {
            return Err(ApiError::invalid("more than 50 InstanceIds or 5 Targets"));
        }
        for (n, id) in self.instance_ids.iter().enumerate() {
            fields::pattern("instanceIds", id, "(i-(\\w{8}|\\w{17}))|(mi-\\w{17})")?;
            if self.instance_ids.iter().take(n).any(|other| other == id) {
                return Err(ApiError::new("DuplicateInstanceId", id.clone()));
            }
        }
        fields::pattern("documentName", &self.document_name, r"[a-zA-Z0-9_\-.:/]{3,128}")?;
        if let Some(version) = &self.document_version {
            fields::pattern("documentVersion", version, r"\$LATEST|\$DEFAULT|[1-9][0-9]*")?;
        }
        let timeout = self.timeout_seconds.unwrap_or(3600);
        if !(30..=2_592_000).contains(&timeout) {
            return Err(ApiError::invalid(format!(
                "1 validation error detected: Value '{timeout}' at 'timeoutSeconds' failed to \
                 satisfy constraint: Member must have value between 30 and 2592000"
            )));
        }
        fields::length("comment", self.comment.as_deref().unwrap_or(""), 0, 100)?;
        let concurrency = self.max_concurrency.as_deref().unwrap_or("50");
        fields::pattern("maxConcurrency", concurrency, "[1-9][0-9]*|[1-9][0-9]?%|100%")?;
        let errors = self.max_errors.as_deref().unwrap_or("0");
        fields::pattern("maxErrors", errors, "[1-9][0-9]*|0|[1-9][0-9]%|[0-9]%|100%")
    }

    /// The instances, all of them managed.
    fn instances(&self, shared: &Shared) -> Result<Vec<String>, ApiError> {
        let all = lock(&shared.instances);
        if !self.targets.is_empty() {
            return targets::select(&all, &self.targets);
        }
        let managed = |id: &&String| {
            let found = all.iter().find(|i| i.id == **id).map(|i| i.ping);
            !matches!(found, Some(Ping::Online | Ping::ConnectionLost))
        };
        let bad: Vec<_> = self.instance_ids.iter().filter(managed).map(String::as_str).collect();
        if bad.is_empty() {
            return Ok(self.instance_ids.clone());
        }
        let account = &shared.config.account;
        let list = bad.join(", ");
        let message = format!("Instances [[{list}]] not in a valid state for account {account}");
        Err(ApiError::new("InvalidInstanceId", message))
    }
}

pub(super) fn send(shared: &Arc<Shared>, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let send: Send = fields::read(body)?;
    send.check()?;
    let (name, region) = (&send.document_name, &shared.config.region);
    let owner = if name.starts_with("AWS-") { "" } else { &shared.config.account };
    let arn = format!("arn:aws:ssm:{region}:{owner}:document/{name}");
    shared.keys.allow(signer, "ssm:SendCommand", &arn)?;
    let none = || ApiError::new("InvalidDocument", format!("Document {name} does not exist"));
    let document = shared.documents.get(name).ok_or_else(none)?;
    let script = document.render(&send.parameters)?;
    let instances = send.instances(shared)?;
    if !document.runs_on_linux() {
        return Err(ApiError::new("UnsupportedPlatformType", "the document is not for Linux"));
    }
    let invocations = instances.iter().map(|i| (i.clone(), Invocation::default())).collect();
    let command = Arc::new(Command {
        id: Uuid::new_v4().to_string(),
        document: name.clone(),
        parameters: send.parameters,
        comment: send.comment.unwrap_or_default(),
        requested_ms: clock::now_ms(),
        timeout_s: send.timeout_seconds.unwrap_or(3600),
        by_tag: !send.targets.is_empty(),
        targets: send.targets,
        concurrency: send.max_concurrency.unwrap_or_else(|| "50".to_owned()),
        errors: send.max_errors.unwrap_or_else(|| "0".to_owned()),
        step: script.step.clone(),
        invocations: Mutex::new(invocations),
        cancel: watch::Sender::new(false),
    });
    let mut commands = lock(&shared.commands);
    if commands.len() == MOST {
        commands.pop_front();
    }
    commands.push_back(command.clone());
    drop(commands);
    let answer = json!({ "Command": super::invocations::view(&command) });
    shared.spawn(everywhere(shared.clone(), command, instances, script));
    Ok(answer)
}

/// Runs a command on its instances, so many at a time, until too many have failed.
async fn everywhere(
    shared: Arc<Shared>,
    command: Arc<Command>,
    instances: Vec<String>,
    script: Script,
) {
    let concurrency = targets::share(&command.concurrency, instances.len(), 1);
    let most_errors = targets::share(&command.errors, instances.len(), 0);
    let mut errors = 0;
    let mut running = JoinSet::new();
    let mut rest = instances.into_iter();
    loop {
        while running.len() < concurrency && errors <= most_errors {
            let Some(id) = rest.next() else { break };
            running.spawn(one(shared.clone(), command.clone(), id, script.clone()));
        }
        match running.join_next().await {
            Some(good) => errors += usize::from(!good.unwrap_or(false)),
            None => break,
        }
    }
    for id in rest {
        command.set(&id, |i| {
            i.status = Status::Terminated;
            i.ended_ms = clock::now_ms();
        });
    }
}

/// Runs a command on one instance; whether it succeeded.
async fn one(shared: Arc<Shared>, command: Arc<Command>, id: String, script: Script) -> bool {
    let Some(instance) = shared.instance(&id) else { return false };
    let trouble = instance.runner.trouble;
    let lost = instance.ping != Ping::Online || trouble == Trouble::NeverDelivered;
    let second = shared.config.timing.timeout_second_ms;
    let deadline = Duration::from_millis(command.timeout_s.saturating_mul(second));
    let delivery = Duration::from_millis(shared.config.timing.delivery_ms);
    let wait = async {
        time::sleep(delivery).await;
        match trouble {
            Trouble::Undeliverable => return Err(Status::Undeliverable),
            Trouble::Late(ms) => {
                command.set(&id, |i| i.status = Status::Delayed);
                time::sleep(Duration::from_millis(ms)).await;
            }
            Trouble::None | Trouble::NeverDelivered | Trouble::OutOfOrder | Trouble::Silent => {}
        }
        if lost { std::future::pending().await } else { Ok(()) }
    };
    let mut cancelled = command.cancel.subscribe();
    // Nothing runs yet: what is cut off here has not happened.
    let delivered = tokio::select! {
        delivered = time::timeout(deadline, wait) => {
            delivered.unwrap_or(Err(Status::DeliveryTimedOut))
        }
        Ok(_) = cancelled.wait_for(|c| *c) => Err(Status::Cancelled),
    };
    if let Err(status) = delivered {
        command.set(&id, |i| {
            i.status = status;
            i.code = -1;
            i.ended_ms = clock::now_ms();
        });
        return false;
    }
    command.set(&id, |i| {
        i.status = Status::InProgress;
        i.started_ms = clock::now_ms();
    });
    run(&shared, &command, &instance, &script).await
}

async fn run(shared: &Shared, command: &Command, instance: &Instance, script: &Script) -> bool {
    let (region, cancelled) = (&shared.config.region, command.cancel.subscribe());
    let outcome = runner::run(instance, &command.id, region, script, cancelled).await;
    let (status, code) = match &outcome.ended {
        Ended::Exited(0) => (Status::Success, 0),
        Ended::Exited(code) => (Status::Failed, *code),
        Ended::TimedOut => (Status::ExecutionTimedOut, -1),
        Ended::Cancelled => (Status::Cancelled, -1),
        Ended::NotStarted(_) => (Status::Failed, 1),
    };
    let mut stderr = outcome.stderr;
    if let Ended::Exited(code @ 1..) = outcome.ended {
        stderr.push_str(&format!("failed to run commands: exit status {code}"));
    }
    let ended = |i: &mut Invocation| {
        i.status = status;
        i.code = code;
        i.stdout = cut(&outcome.stdout, STDOUT, CUT);
        i.stderr = cut(&stderr, STDERR, CUT);
        i.ended_ms = clock::now_ms();
    };
    match instance.runner.trouble {
        Trouble::Silent => {}
        Trouble::OutOfOrder => {
            command.set(&instance.id, ended);
            let at_end = command.invocation(&instance.id).unwrap_or_default();
            time::sleep(HIDDEN).await;
            command.set(&instance.id, |i| {
                *i = Invocation { status: Status::InProgress, ..Invocation::default() };
            });
            time::sleep(HIDDEN).await;
            command.set(&instance.id, |i| *i = at_end);
        }
        Trouble::None | Trouble::NeverDelivered | Trouble::Undeliverable | Trouble::Late(_) => {
            command.set(&instance.id, ended);
        }
    }
    status == Status::Success
}

/// At most `most` characters, the mark among them.
pub(super) fn cut(text: &str, most: usize, mark: &str) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(mark.chars().count());
    text.chars().take(kept).chain(mark.chars()).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Cancel {
    command_id: String,
    #[serde(default)]
    instance_ids: Vec<String>,
}

pub(super) fn cancel(
    shared: &Arc<Shared>,
    body: &Value,
    signer: &Signer,
) -> Result<Value, ApiError> {
    let cancel: Cancel = fields::read(body)?;
    let account = format!("arn:aws:ssm:{}:{}:*", shared.config.region, shared.config.account);
    shared.keys.allow(signer, "ssm:CancelCommand", &account)?;
    let command = find(shared, &cancel.command_id)?;
    if let Some(other) = cancel.instance_ids.iter().find(|i| command.invocation(i).is_none()) {
        let message = format!("{} is not for this command", machine_arn(shared, other));
        return Err(ApiError::new("InvalidInstanceId", message));
    }
    for invocation in lock(&command.invocations).values_mut() {
        if invocation.status == Status::InProgress {
            invocation.status = Status::Cancelling;
        }
    }
    // All of its instances at once: nobody here cancels some.
    command.cancel.send_replace(true);
    Ok(json!({}))
}

pub(super) fn find(shared: &Shared, id: &str) -> Result<Arc<Command>, ApiError> {
    let hex = "[A-Fa-f0-9]{8}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{4}-[A-Fa-f0-9]{12}";
    fields::pattern("commandId", id, hex)?;
    let none = || ApiError::new("InvalidCommandId", "");
    lock(&shared.commands).iter().find(|c| c.id == id).cloned().ok_or_else(none)
}
