//! Access for a moment: the grant on the host.
//!
//! Invariant: whatever way a request for a grant ends, either its reply is in hand or the grant is
//! being taken back, and a command that nobody waits for any more is cancelled.

use std::time::Duration;

use palisade_types::{
    Ed25519Key,
    grant::{
        GRANT_DOCUMENT, GrantId, GrantReply, GrantRequest, Only, Owner, Reason, Source, Target,
        Ttl, UserName,
    },
};
use tokio::time::Instant;

use crate::{
    clock,
    cloud::{
        Cloud, CloudError,
        ssm::{Command, Invocation},
    },
    debts::{Debt, Debts},
    failed::{Failed, Kind, Outcome},
};
use palisade_cloud::terminal::clean;

/// The document that takes a grant back.
pub(crate) const REVOKE_DOCUMENT: &str = "Palisade-RevokeAccess";

/// Longest wait for a host's answer. A host takes a grant that is two minutes old for late, so one
/// that comes after this wait is refused there.
const DEADLINE: Duration = Duration::from_secs(45);
/// Waits between two questions.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_millis(400);

/// What to ask a host for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// From [`new_id`].
    pub(crate) id: GrantId,
    pub(crate) instance: String,
    pub(crate) user: UserName,
    pub(crate) key: Ed25519Key,
    pub(crate) ttl: Ttl,
    pub(crate) only: Only,
    pub(crate) target: Option<Target>,
    pub(crate) source: Source,
    pub(crate) reason: Reason,
}

/// A grant's name, made before it is asked for, so that the session may carry it too: CloudTrail has
/// both, and they are found by it.
///
/// # Errors
/// When the machine has no chance to give.
pub(crate) fn new_id() -> Outcome<GrantId> {
    let id = uuid::Uuid::new_v4().to_string();
    id.parse().map_err(|e| Failed::plain(format!("make a grant id: {e}")))
}

/// Who asks: the ARN behind the credentials.
///
/// # Errors
/// When STS does not say, or says what no host would take.
pub(crate) async fn owner(cloud: &Cloud) -> Outcome<Owner> {
    let arn = cloud.caller().await?;
    arn.parse().map_err(|e| {
        Failed::plain(format!("{e}")).hint("use an IAM user or a role: the root user gets no grant")
    })
}

/// A request that is on its way to a host.
#[derive(Debug)]
pub(crate) struct Asked {
    cloud: Cloud,
    debts: Debts,
    command: String,
    instance: String,
    request: GrantRequest,
}

/// Asks for a grant.
///
/// # Errors
/// When SSM does not take the request.
pub(crate) async fn ask(cloud: &Cloud, debts: &Debts, wish: Wish) -> Outcome<Asked> {
    let owner = owner(cloud).await?;
    let id = wish.id;
    let instance = wish.instance;
    let request = GrantRequest {
        id: id.clone(),
        user: wish.user,
        key: wish.key,
        ttl: wish.ttl,
        only: wish.only,
        target: wish.target,
        source: wish.source,
        owner,
        issued_at: clock::unix(clock::now()),
        reason: wish.reason,
    };
    // Optional parameters that are empty are left to the document's defaults.
    let parameters: Vec<_> = request
        .parameters()
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, vec![value]))
        .collect();
    let comment = format!("palisade grant {id}");
    debts.add(cloud, Debt::Grant { instance: instance.clone(), id: id.clone() });
    match send(cloud, &instance, GRANT_DOCUMENT, &parameters, &comment).await {
        Ok(command) => {
            debts.add(cloud, command_debt(&command, &instance));
            Ok(Asked { cloud: cloud.clone(), debts: debts.clone(), command, instance, request })
        }
        Err(e) => {
            // An answer that was an error means that nothing was sent to the host.
            if e.code().is_some() {
                debts.forget(&Debt::Grant { instance, id });
            }
            Err(e.into())
        }
    }
}

fn command_debt(command: &str, instance: &str) -> Debt {
    Debt::Command { id: command.to_owned(), instance: Some(instance.to_owned()) }
}

impl Asked {
    /// Waits for the host's reply.
    ///
    /// # Errors
    /// When it is refused, or nobody answers in time; what may have come of it stays a debt.
    pub(crate) async fn reply(self) -> Outcome<GrantReply> {
        let waited = wait(&self.cloud, &self.command, &self.instance, DEADLINE).await;
        let ended = waited.map_err(|f| f.during(format!("ask {} for a grant", self.instance)))?;
        self.debts.forget(&command_debt(&self.command, &self.instance));
        if ended.status == "Failed" {
            let id = self.request.id.clone();
            self.debts.forget(&Debt::Grant { instance: self.instance.clone(), id });
        }
        read_reply(&self.instance, &ended, &self.request)
    }
}

/// Takes a grant back, within a bound, whatever comes of it: it ends by itself anyway.
pub(crate) async fn revoke_quietly(cloud: &Cloud, instance: &str, id: &GrantId) {
    let parameters = [("GrantId", vec![id.to_string()])];
    let sent = send(cloud, instance, REVOKE_DOCUMENT, &parameters, "palisade revoke").await;
    drop(sent);
}

/// Sends a document of ours to one host.
///
/// # Errors
/// When SSM does not take it.
pub(crate) async fn send(
    cloud: &Cloud,
    instance: &str,
    document: &str,
    parameters: &[(&str, Vec<String>)],
    comment: &str,
) -> Result<String, CloudError> {
    let command = Command {
        document,
        parameters,
        instances: &[instance.to_owned()],
        comment,
        delivery_s: 30,
        concurrency: None,
        max_errors: None,
    };
    cloud.send_command(&command).await
}

/// Waits for the end of a command on one host. An end is an end: answers that arrive out of order
/// do not bring it back.
///
/// # Errors
/// When it does not end in time, or SSM refuses to say.
pub(crate) async fn wait(
    cloud: &Cloud,
    command: &str,
    instance: &str,
    at_most: Duration,
) -> Outcome<Invocation> {
    let deadline = Instant::now() + at_most;
    let mut pause = FIRST_WAIT;
    let mut last = "Pending".to_owned();
    loop {
        if let Some(now) = cloud.invocation(command, instance).await? {
            if is_end(&now.status) {
                return Ok(now);
            }
            last = now.status;
        }
        if Instant::now() + pause > deadline {
            let text = format!("no answer within {} s (state {})", at_most.as_secs(), clean(&last));
            return Err(Failed::new(Kind::Unreachable, text).hint(
                "is the host's SSM agent working? bastionctl hosts shows when it last reported",
            ));
        }
        tokio::time::sleep(clock::jitter(pause)).await;
        pause = (pause * 3 / 2).min(LAST_WAIT);
    }
}

/// Whether a command in this state has ended.
pub(crate) fn is_end(status: &str) -> bool {
    !matches!(status, "Pending" | "InProgress" | "Delayed" | "Cancelling" | "")
}

/// The host's reply, or why there is none.
fn read_reply(instance: &str, ended: &Invocation, asked: &GrantRequest) -> Outcome<GrantReply> {
    if ended.status != "Success" {
        return Err(refusal(instance, ended));
    }
    let text = ended.standard_output_content.trim();
    let reply: GrantReply = serde_json::from_str(text).map_err(|e| {
        Failed::because(format!("{instance}: read the host's reply"), &e)
            .hint("is the same version of palisade on the host?")
    })?;
    let same = reply.id == asked.id
        && reply.user == asked.user
        && reply.only == asked.only
        && reply.fingerprint == asked.key.fingerprint();
    if !same {
        return Err(Failed::plain(format!(
            "{instance}: the host's reply is to another request than ours"
        )));
    }
    if reply.host_keys.is_empty() {
        return Err(Failed::plain(format!(
            "{instance}: the host told no host key, so its sshd cannot be known"
        ))
        .hint("is sshd installed there, with keys in /etc/ssh?"));
    }
    Ok(reply)
}

/// What the host said on standard error: its `error:` and `hint:` lines, and the exit code's kind.
pub(crate) fn refusal(instance: &str, ended: &Invocation) -> Failed {
    let said = &ended.standard_error_content;
    let line = |mark: &str| {
        let found = said.lines().find_map(|l| l.trim().strip_prefix(mark));
        found.map(|l| l.trim().to_owned())
    };
    let kind = match (ended.status.as_str(), ended.response_code) {
        ("Failed", 5) => Kind::Refused,
        ("Failed", 4) => Kind::Unreachable,
        ("Failed", _) | ("Cancelled", _) => Kind::Failed,
        _ => Kind::Unreachable,
    };
    let state = if ended.status_details.is_empty() { &ended.status } else { &ended.status_details };
    let last = said.lines().rev().map(str::trim).find(|l| {
        !l.is_empty() && !l.starts_with("failed to run commands") && !l.starts_with("hint:")
    });
    let why = line("error:").or_else(|| last.map(str::to_owned));
    let text = match why {
        Some(why) => format!("{instance}: {why}"),
        None => {
            format!("{instance}: the command ended as {state} (exit code {})", ended.response_code)
        }
    };
    let failed = Failed::new(kind, text);
    match (line("hint:"), kind) {
        (Some(hint), _) => failed.hint(hint),
        (None, Kind::Unreachable) => {
            failed.hint("the host's agent does not answer: systemctl status palisade there")
        }
        (None, Kind::Failed | Kind::Usage | Kind::Refused) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: &str, code: i32, out: &str, err: &str) -> Invocation {
        Invocation {
            instance_id: "i-1".into(),
            status: status.into(),
            status_details: String::new(),
            response_code: code,
            standard_output_content: out.into(),
            standard_error_content: err.into(),
        }
    }

    fn request() -> GrantRequest {
        serde_json::from_value(serde_json::json!({
            "v": 1, "id": "7d1f7c1e-2f55-4a1b-9d6c-3a1c0d9e7b10", "user": "deploy",
            "key": "AAAAC3NzaC1lZDI1NTE5AAAAIGVqNAXp4K6wkQ0RJMVLbZ4cLqyqiMh1bWwBhmQp1KuU",
            "ttl_s": 600, "owner": "arn:aws:iam::123456789012:user/alice", "issued_at": 1}))
        .unwrap()
    }

    #[test]
    fn what_the_host_refuses_is_told_in_its_words_with_its_exit_code() {
        let err = "error: grant for root: not allowed by policy\nhint: access.users\nfailed to run commands: exit status 5\n";
        let failed = refusal("i-1", &ended("Failed", 5, "", err));
        assert_eq!(failed.to_string(), "i-1: grant for root: not allowed by policy");
        assert_eq!((failed.what_to_do(), failed.kind), (Some("access.users"), Kind::Refused));
        let failed = refusal("i-1", &ended("TimedOut", -1, "", ""));
        assert_eq!(failed.kind, Kind::Unreachable);
        assert!(failed.to_string().contains("TimedOut"), "{failed}");
        let failed = refusal(
            "i-1",
            &ended(
                "Failed",
                127,
                "",
                "sh: palisade: not found\nfailed to run commands: exit status 127",
            ),
        );
        assert_eq!(failed.to_string(), "i-1: sh: palisade: not found");
    }

    #[test]
    fn a_reply_to_another_request_or_without_host_keys_is_refused() {
        let asked = request();
        let reply = |id: &str, keys: &[&str]| {
            serde_json::json!({"v": 1, "id": id, "user": "deploy", "fingerprint": asked.key.fingerprint(),
                "expires_at": 600, "ttl_s": 600, "only": "shell", "ssh_port": 22, "host_keys": keys,
                "binding": "strict"}).to_string()
        };
        let key = "ssh-ed25519 AAAA";
        let good = ended("Success", 0, &reply(asked.id.as_str(), &[key]), "");
        assert_eq!(read_reply("i-1", &good, &asked).unwrap().ssh_port, 22);
        let other = reply("00000000-2f55-4a1b-9d6c-3a1c0d9e7b10", &[key]);
        for bad in [other, reply(asked.id.as_str(), &[]), String::new(), "{}".to_owned()] {
            assert!(read_reply("i-1", &ended("Success", 0, &bad, ""), &asked).is_err(), "{bad}");
        }
    }

    #[test]
    fn states_that_go_on_are_no_end() {
        for going in ["Pending", "InProgress", "Delayed", "Cancelling"] {
            assert!(!is_end(going));
        }
        for end in ["Success", "Failed", "TimedOut", "Cancelled", "Undeliverable", "Terminated"] {
            assert!(is_end(end));
        }
    }
}
