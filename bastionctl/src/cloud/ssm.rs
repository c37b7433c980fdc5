//! The operations of Systems Manager that this tool uses, typed.

use std::collections::BTreeMap;

use palisade_cloud::Repeat;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cloud, CloudError};

/// Pages read at most.
const MAX_PAGES: usize = 200;

/// A session that was started; the token opens its channel once and is shown nowhere.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StartedSession {
    pub(crate) session_id: String,
    /// None when a session cannot be resumed.
    pub(crate) token_value: Option<String>,
    pub(crate) stream_url: Option<String>,
}

impl std::fmt::Debug for StartedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartedSession").field("id", &self.session_id).finish_non_exhaustive()
    }
}

/// A host that SSM knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Managed {
    pub(crate) instance_id: String,
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub(crate) ping_status: String,
    pub(crate) agent_version: String,
    pub(crate) platform_name: String,
    pub(crate) platform_version: String,
    #[serde(rename = "IPAddress")]
    pub(crate) ip_address: String,
    /// The Name of a host that is no EC2 instance.
    pub(crate) name: String,
    pub(crate) computer_name: String,
}

/// One host's part of a command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Invocation {
    pub(crate) instance_id: String,
    pub(crate) status: String,
    pub(crate) status_details: String,
    pub(crate) response_code: i32,
    pub(crate) standard_output_content: String,
    pub(crate) standard_error_content: String,
}

/// What to send to hosts.
#[derive(Clone, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) document: &'a str,
    pub(crate) parameters: &'a [(&'a str, Vec<String>)],
    pub(crate) instances: &'a [String],
    pub(crate) comment: &'a str,
    /// Until it must have begun on a host; SSM wants at least 30.
    pub(crate) delivery_s: u32,
    pub(crate) concurrency: Option<&'a str>,
    pub(crate) max_errors: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Page<T> {
    #[serde(alias = "InstanceInformationList", alias = "CommandInvocations")]
    items: Vec<T>,
    next_token: Option<String>,
}

impl Cloud {
    /// Starts a session with this document.
    pub(crate) async fn start_session(
        &self,
        target: &str,
        document: &str,
        parameters: &BTreeMap<&str, String>,
        reason: &str,
    ) -> Result<StartedSession, CloudError> {
        let operation = "StartSession";
        let parameters: BTreeMap<_, _> = parameters.iter().map(|(k, v)| (*k, vec![v])).collect();
        let mut body =
            json!({"Target": target, "DocumentName": document, "Parameters": parameters});
        // An empty reason is an error there.
        if !reason.is_empty()
            && let Some(map) = body.as_object_mut()
        {
            map.insert("Reason".into(), reason.into());
        }
        read(operation, self.ssm(operation, &body, Repeat::IfNotDone).await?)
    }

    /// A new token for a session whose channel was lost.
    pub(crate) async fn resume_session(&self, id: &str) -> Result<StartedSession, CloudError> {
        let operation = "ResumeSession";
        let body = json!({"SessionId": id});
        read(operation, self.ssm(operation, &body, Repeat::Always).await?)
    }

    /// Ends a session.
    pub(crate) async fn terminate_session(&self, id: &str) -> Result<(), CloudError> {
        self.ssm("TerminateSession", &json!({"SessionId": id}), Repeat::Always).await.map(|_| ())
    }

    /// Whether the host's agent holds its line to SSM.
    pub(crate) async fn is_connected(&self, target: &str) -> Result<bool, CloudError> {
        let body = json!({"Target": target});
        let answer = self.ssm("GetConnectionStatus", &body, Repeat::Always).await?;
        let status = answer.get("Status").and_then(Value::as_str).unwrap_or_default();
        Ok(status.eq_ignore_ascii_case("connected"))
    }

    /// Hosts that match all filters, by key and values.
    pub(crate) async fn managed(
        &self,
        filters: &[(String, Vec<String>)],
    ) -> Result<Vec<Managed>, CloudError> {
        let filters: Vec<_> =
            filters.iter().map(|(key, values)| json!({"Key": key, "Values": values})).collect();
        let mut body = json!({"MaxResults": 50});
        if !filters.is_empty()
            && let Some(map) = body.as_object_mut()
        {
            map.insert("Filters".into(), filters.into());
        }
        self.pages("DescribeInstanceInformation", body).await
    }

    /// Sends a command and returns its id.
    pub(crate) async fn send_command(&self, command: &Command<'_>) -> Result<String, CloudError> {
        let operation = "SendCommand";
        let parameters: BTreeMap<_, _> = command.parameters.iter().map(|(k, v)| (*k, v)).collect();
        let mut body = json!({
            "DocumentName": command.document,
            "InstanceIds": command.instances,
            "Parameters": parameters,
            "TimeoutSeconds": command.delivery_s.max(30),
        });
        if let Some(map) = body.as_object_mut() {
            if !command.comment.is_empty() {
                map.insert("Comment".into(), command.comment.into());
            }
            if let Some(n) = command.concurrency {
                map.insert("MaxConcurrency".into(), n.into());
            }
            if let Some(n) = command.max_errors {
                map.insert("MaxErrors".into(), n.into());
            }
        }
        let answer = self.ssm(operation, &body, Repeat::IfNotDone).await?;
        let id = answer.pointer("/Command/CommandId").and_then(Value::as_str);
        id.map(str::to_owned)
            .ok_or_else(|| CloudError::Answer { operation, why: "no CommandId".into() })
    }

    /// How a command goes on one host; None while SSM does not know of it yet.
    pub(crate) async fn invocation(
        &self,
        command: &str,
        instance: &str,
    ) -> Result<Option<Invocation>, CloudError> {
        let operation = "GetCommandInvocation";
        let body = json!({"CommandId": command, "InstanceId": instance});
        match self.ssm(operation, &body, Repeat::Always).await {
            Ok(answer) => read(operation, answer).map(Some),
            Err(e) if e.code() == Some("InvocationDoesNotExist") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How a command goes on all of its hosts, without output.
    pub(crate) async fn invocations(&self, command: &str) -> Result<Vec<Invocation>, CloudError> {
        let body = json!({"CommandId": command, "MaxResults": 50});
        self.pages("ListCommandInvocations", body).await
    }

    /// Stops a command where it has not ended: on these hosts, or on all.
    pub(crate) async fn cancel_command(
        &self,
        command: &str,
        instances: &[String],
    ) -> Result<(), CloudError> {
        let mut body = json!({"CommandId": command});
        if !instances.is_empty()
            && let Some(map) = body.as_object_mut()
        {
            map.insert("InstanceIds".into(), json!(instances));
        }
        self.ssm("CancelCommand", &body, Repeat::Always).await.map(|_| ())
    }

    async fn pages<T: for<'de> Deserialize<'de> + Default>(
        &self,
        operation: &'static str,
        mut body: Value,
    ) -> Result<Vec<T>, CloudError> {
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page<T> = read(operation, self.ssm(operation, &body, Repeat::Always).await?)?;
            found.extend(page.items);
            let Some(token) = page.next_token.filter(|t| !t.is_empty()) else { return Ok(found) };
            if let Some(map) = body.as_object_mut() {
                map.insert("NextToken".into(), token.into());
            }
        }
        Err(CloudError::Answer { operation, why: format!("more than {MAX_PAGES} pages") })
    }
}

fn read<T: for<'de> Deserialize<'de>>(
    operation: &'static str,
    answer: Value,
) -> Result<T, CloudError> {
    serde_json::from_value(answer).map_err(|e| CloudError::Answer { operation, why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_nowhere_and_a_missing_one_is_none() {
        let text = json!({"SessionId": "s-1", "TokenValue": "hush", "StreamUrl": "wss://x/"});
        let started: StartedSession = read("StartSession", text).unwrap();
        assert!(!format!("{started:?}").contains("hush"));
        let gone: StartedSession = read("ResumeSession", json!({"SessionId": "s-1"})).unwrap();
        assert!(gone.token_value.is_none());
    }

    #[test]
    fn pages_of_hosts_and_of_invocations_are_read() {
        let text = json!({"InstanceInformationList": [{"InstanceId": "i-1", "PingStatus": "Online",
            "IPAddress": "10.0.0.1", "Extra": 1}], "NextToken": "t"});
        let page: Page<Managed> = serde_json::from_value(text).unwrap();
        assert_eq!(
            (page.items[0].ip_address.as_str(), page.next_token.as_deref()),
            ("10.0.0.1", Some("t"))
        );
        let text = json!({"CommandInvocations": [{"InstanceId": "i-1", "Status": "Success"}]});
        let page: Page<Invocation> = serde_json::from_value(text).unwrap();
        assert_eq!(page.items[0].status, "Success");
    }
}
