//! GetCommandInvocation, ListCommandInvocations, ListCommands: what became of commands.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiError,
    command::{Command, Invocation, Status, cut, find},
    fields,
    session::machine_arn,
};
use crate::{Signer, clock, lock, peer::Shared};

/// What a list shows of the output, and how it marks the cut.
const SHORT: usize = 2500;
const CUT: &str = "\n---Output truncated---";

/// A command as lists and the answer to SendCommand have it.
pub(super) fn view(command: &Command) -> Value {
    let invocations = lock(&command.invocations);
    let all = || invocations.values().map(|i| i.status);
    let count = |status: &dyn Fn(Status) -> bool| all().filter(|s| status(*s)).count();
    let done = count(&Status::is_final);
    let bad = |s: Status| s.is_final() && s != Status::Success;
    let errors = count(&bad);
    let (status, details) = if invocations.is_empty() {
        ("Success", "NoInstancesInTag")
    } else if done < invocations.len() {
        let started = all().any(|s| s != Status::Pending);
        if started { Status::InProgress.words() } else { Status::Pending.words() }
    } else {
        all().find(|s| bad(*s)).unwrap_or(Status::Success).words()
    };
    let targets: Vec<_> =
        command.targets.iter().map(|t| json!({ "Key": t.key, "Values": t.values })).collect();
    let ids: Vec<_> = if command.by_tag { Vec::new() } else { invocations.keys().collect() };
    json!({
        "CommandId": command.id,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "Comment": command.comment,
        "ExpiresAfter": clock::json(command.requested_ms + command.timeout_s * 1000),
        "RequestedDateTime": clock::json(command.requested_ms),
        "Parameters": command.parameters,
        "InstanceIds": ids,
        "Targets": targets,
        "Status": status,
        "StatusDetails": details,
        "MaxConcurrency": command.concurrency,
        "MaxErrors": command.errors,
        "TargetCount": invocations.len(),
        "CompletedCount": done,
        "ErrorCount": errors,
        "DeliveryTimedOutCount": count(&|s| s == Status::DeliveryTimedOut),
        "TimeoutSeconds": command.timeout_s,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Get {
    command_id: String,
    instance_id: String,
    plugin_name: Option<String>,
}

pub(super) fn get(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let get: Get = fields::read(body)?;
    let arn = machine_arn(shared, &get.instance_id);
    shared.keys.allow(signer, "ssm:GetCommandInvocation", &arn)?;
    let none = || ApiError::new("InvocationDoesNotExist", "");
    let command = find(shared, &get.command_id)
        .map_err(|e| if e.kind == "InvalidCommandId" { none() } else { e })?;
    let age = clock::now_ms().saturating_sub(command.requested_ms);
    if age < shared.config.timing.invocation_ms {
        return Err(none());
    }
    let i = command.invocation(&get.instance_id).ok_or_else(none)?;
    if get.plugin_name.as_ref().is_some_and(|p| *p != command.step) {
        return Err(ApiError::new("InvalidPluginName", ""));
    }
    let (status, details) = i.status.words();
    let date = |ms: u64| if ms == 0 { String::new() } else { clock::iso(ms) };
    let took = i.ended_ms.saturating_sub(i.started_ms);
    let elapsed = if i.started_ms == 0 || i.ended_ms == 0 {
        String::new()
    } else {
        format!("PT{}.{:03}S", took / 1000, took % 1000)
    };
    Ok(json!({
        "CommandId": command.id,
        "InstanceId": get.instance_id,
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "PluginName": command.step,
        "ResponseCode": code(&i),
        "ExecutionStartDateTime": date(i.started_ms),
        "ExecutionElapsedTime": elapsed,
        "ExecutionEndDateTime": date(i.ended_ms),
        "Status": status,
        "StatusDetails": details,
        "StandardOutputContent": i.stdout,
        "StandardOutputUrl": "",
        "StandardErrorContent": i.stderr,
        "StandardErrorUrl": "",
        "CloudWatchOutputConfig": { "CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false },
    }))
}

fn code(invocation: &Invocation) -> i32 {
    if invocation.status.is_final() { invocation.code } else { -1 }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct List {
    command_id: Option<String>,
    instance_id: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    details: bool,
}

impl List {
    fn size(&self) -> Result<usize, ApiError> {
        let size = self.max_results.unwrap_or(50);
        if (1..=50).contains(&size) { Ok(size) } else { Err(ApiError::invalid("MaxResults")) }
    }

    fn chosen(&self, shared: &Shared) -> Result<Vec<Arc<Command>>, ApiError> {
        match &self.command_id {
            Some(id) => Ok(vec![find(shared, id)?]),
            None => Ok(lock(&shared.commands).iter().rev().cloned().collect()),
        }
    }
}

pub(super) fn list(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let list: List = fields::read(body)?;
    shared.keys.allow(signer, "ssm:ListCommandInvocations", "*")?;
    let size = list.size()?;
    let mut all = Vec::new();
    for command in list.chosen(shared)? {
        let invocations = lock(&command.invocations);
        let wanted =
            invocations.iter().filter(|(id, _)| list.instance_id.as_ref().is_none_or(|i| i == *id));
        all.extend(wanted.map(|(id, i)| short(&command, id, i, list.details)));
    }
    let (page, next) = fields::page(all, list.next_token.as_deref(), size)?;
    Ok(json!({ "CommandInvocations": page, "NextToken": next }))
}

fn short(command: &Command, id: &str, i: &Invocation, details: bool) -> Value {
    let (status, words) = i.status.words();
    let mut output = i.stdout.clone();
    if !i.stderr.is_empty() {
        output.push_str("\n----------ERROR-------\n");
        output.push_str(&i.stderr);
    }
    let plugin = json!({
        "Name": command.step,
        "Status": status,
        "StatusDetails": words,
        "ResponseCode": code(i),
        "ResponseStartDateTime": clock::json(i.started_ms),
        "ResponseFinishDateTime": clock::json(i.ended_ms),
        "Output": cut(&output, SHORT, CUT),
    });
    json!({
        "CommandId": command.id,
        "InstanceId": id,
        "InstanceName": "",
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": clock::json(command.requested_ms),
        "Status": status,
        "StatusDetails": words,
        "CommandPlugins": if details { vec![plugin] } else { Vec::new() },
    })
}

pub(super) fn commands(shared: &Shared, body: &Value, signer: &Signer) -> Result<Value, ApiError> {
    let list: List = fields::read(body)?;
    shared.keys.allow(signer, "ssm:ListCommands", "*")?;
    let size = list.size()?;
    let all: Vec<_> = list.chosen(shared)?.iter().map(|c| view(c)).collect();
    let (page, next) = fields::page(all, list.next_token.as_deref(), size)?;
    Ok(json!({ "Commands": page, "NextToken": next }))
}
