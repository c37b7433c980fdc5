//! Run Command: documents, states, limits, and scripts that really run.

use crate::support::{INSTANCE, bad, good, soon};
use palisade_peer::{
    Peer,
    config::{Config, Instance, Ping, Runner, Trouble},
};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

const DOCUMENT: &str = r#"{"schemaVersion":"2.2","parameters":{
    "Name":{"type":"String","allowedPattern":"^[a-z]{1,8}$"}},
    "mainSteps":[{"action":"aws:runShellScript","name":"greet","inputs":{"runCommand":[
    "cat <<'EOF'","hello {{ Name }} from $SSM_COMMAND_ID","EOF","echo $SSM_COMMAND_ID >&2"]}}]}"#;

fn peer(change: impl FnOnce(&mut Config)) -> (Peer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Palisade-Greet.json"), DOCUMENT).unwrap();
    let mut config = Config { documents: Some(folder.path().to_owned()), ..Config::default() };
    config.timing.timeout_second_ms = 10;
    change(&mut config);
    (Peer::start(config).unwrap(), folder)
}

async fn shell(peer: &Peer, script: &str) -> String {
    let body = json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": [INSTANCE],
        "TimeoutSeconds": 30, "Parameters": { "commands": [script] } });
    let sent = good(peer, "SendCommand", body).await;
    sent["Command"]["CommandId"].as_str().unwrap().to_owned()
}

async fn get(peer: &Peer, id: &str) -> Value {
    good(peer, "GetCommandInvocation", json!({ "CommandId": id, "InstanceId": INSTANCE })).await
}

/// Waits until the details of the status are these.
async fn reaches(peer: &Peer, id: &str, details: &str) -> Value {
    soon(details, async {
        loop {
            let got = get(peer, id).await;
            if got["StatusDetails"] == details {
                return got;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_document_runs_with_its_parameters_and_its_command_id() {
    let (peer, _folder) = peer(|_| {});
    let body = json!({ "DocumentName": "Palisade-Greet", "InstanceIds": [INSTANCE],
        "Parameters": { "Name": ["web"] } });
    let sent = good(&peer, "SendCommand", body).await;
    assert_eq!(sent["Command"]["Status"], "Pending");
    let id = sent["Command"]["CommandId"].as_str().unwrap();
    let got = reaches(&peer, id, "Success").await;
    assert_eq!(got["StandardOutputContent"], "hello web from $SSM_COMMAND_ID\n");
    assert_eq!(got["StandardErrorContent"], format!("{id}\n"));
    assert_eq!((got["ResponseCode"].as_i64(), &got["PluginName"]), (Some(0), &json!("greet")));
    let record = peer.journal().into_iter().find(|r| r["eventName"] == "SendCommand").unwrap();
    assert_eq!(record["requestParameters"]["parameters"]["Name"][0], "web");
    assert_eq!(record["userIdentity"]["arn"], "arn:aws:iam::123456789012:user/alice");
    assert_eq!(record["responseElements"]["command"]["CommandId"], id);
}

#[tokio::test]
async fn bad_requests_are_refused_by_the_documented_error() {
    let (peer, _folder) = peer(|c| {
        c.instances.push(Instance {
            id: "i-00000000000000000".to_owned(),
            ping: Ping::Inactive,
            ..Instance::default()
        });
    });
    let good = json!({ "DocumentName": "Palisade-Greet", "InstanceIds": [INSTANCE],
        "Parameters": { "Name": ["web"] } });
    for (field, value, error) in [
        ("DocumentName", json!("Palisade-None"), "InvalidDocument"),
        ("DocumentName", json!("a b"), "ValidationException"),
        ("TimeoutSeconds", json!(29), "ValidationException"),
        ("MaxConcurrency", json!("0"), "ValidationException"),
        ("MaxErrors", json!("101%"), "ValidationException"),
        ("Comment", json!("x".repeat(101)), "ValidationException"),
        ("Targets", json!([{ "Key": "tag:Name", "Values": ["web-1"] }]), "ValidationException"),
        ("InstanceIds", json!([]), "ValidationException"),
        ("InstanceIds", json!([INSTANCE, INSTANCE]), "DuplicateInstanceId"),
        ("InstanceIds", json!(["i-00000000000000000"]), "InvalidInstanceId"),
        ("InstanceIds", json!(["i-11111111111111111"]), "InvalidInstanceId"),
        ("Parameters", json!({ "Name": ["web"], "Other": ["x"] }), "InvalidParameters"),
        ("Parameters", json!({}), "InvalidParameters"),
        ("Parameters", json!({ "Name": ["$(id)"] }), "InvalidParameters"),
        ("Parameters", json!({ "Name": ["web\n"] }), "InvalidParameters"),
        ("Surprise", json!(1), "SerializationException"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        assert_eq!(bad(&peer, "SendCommand", body).await.0, error, "{field} {value}");
    }
}

#[tokio::test]
async fn a_failure_has_its_code_and_output_is_cut_with_a_mark() {
    let (peer, _folder) = peer(|_| {});
    let script =
        "head -c 30000 /dev/zero | tr '\\0' o; head -c 9000 /dev/zero | tr '\\0' e >&2; exit 7";
    let id = shell(&peer, script).await;
    let got = reaches(&peer, &id, "Failed").await;
    assert_eq!(got["ResponseCode"], 7);
    let out = got["StandardOutputContent"].as_str().unwrap();
    assert!(out.len() == 24_000 && out.ends_with("o--output truncated--"));
    assert_eq!(got["StandardErrorContent"].as_str().unwrap().len(), 8000);
    let body = json!({ "CommandId": id, "Details": true });
    let list = good(&peer, "ListCommandInvocations", body).await;
    let output = list["CommandInvocations"][0]["CommandPlugins"][0]["Output"].as_str().unwrap();
    assert!(output.len() == 2500 && output.ends_with("o\n---Output truncated---"));
}

#[tokio::test]
async fn each_trouble_ends_in_its_state() {
    for (trouble, details) in [
        (Trouble::NeverDelivered, "DeliveryTimedOut"),
        (Trouble::Undeliverable, "Undeliverable"),
        (Trouble::Late(50), "Success"),
        (Trouble::OutOfOrder, "Success"),
    ] {
        let (peer, _folder) =
            peer(|c| c.instances[0].runner = Runner { trouble, ..Runner::default() });
        let id = shell(&peer, "true").await;
        reaches(&peer, &id, details).await;
        if trouble == Trouble::OutOfOrder {
            reaches(&peer, &id, "InProgress").await;
            reaches(&peer, &id, "Success").await;
        }
    }
}

#[tokio::test]
async fn an_invocation_does_not_exist_at_first() {
    let (peer, _folder) = peer(|c| c.timing.invocation_ms = 3000);
    let id = shell(&peer, "true").await;
    let body = json!({ "CommandId": id, "InstanceId": INSTANCE });
    assert_eq!(bad(&peer, "GetCommandInvocation", body.clone()).await.0, "InvocationDoesNotExist");
    soon("invocation", async {
        while crate::support::ssm(&peer, "GetCommandInvocation", body.clone()).await.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_command_ends_with_its_children() {
    let (peer, _folder) = peer(|_| {});
    let mark = format!("3{}", std::process::id());
    let id = shell(&peer, &format!("sleep {mark} & sleep {mark}")).await;
    reaches(&peer, &id, "InProgress").await;
    good(&peer, "CancelCommand", json!({ "CommandId": id })).await;
    reaches(&peer, &id, "Cancelled").await;
    let runs = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|p| {
            let line = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
            line == format!("sleep\0{mark}\0").as_bytes()
        })
    };
    crate::support::until("end of the children", || !runs()).await;
}

#[tokio::test]
async fn a_fleet_command_stops_after_its_errors_and_is_listed_in_pages() {
    let (peer, _folder) = peer(|c| {
        c.instances = (0..12)
            .map(|n| {
                let mut runner = Runner::default();
                runner.env.insert("N".to_owned(), n.to_string());
                Instance {
                    id: format!("i-0000000000000000{n:x}"),
                    tags: [("Role".to_owned(), "web".to_owned())].into(),
                    runner,
                    ..Instance::default()
                }
            })
            .collect();
    });
    let target = json!([{ "Key": "tag:Role", "Values": ["web"] }]);
    let body = json!({ "DocumentName": "AWS-RunShellScript", "Targets": target,
        "MaxConcurrency": "1", "MaxErrors": "1",
        "Parameters": { "commands": ["[ $N != 2 ] && [ $N != 5 ]"] } });
    let sent = good(&peer, "SendCommand", body).await;
    assert_eq!(sent["Command"]["TargetCount"], 12);
    let id = sent["Command"]["CommandId"].as_str().unwrap();
    let done = soon("end", async {
        loop {
            let list = good(&peer, "ListCommands", json!({ "CommandId": id })).await;
            if list["Commands"][0]["CompletedCount"] == 12 {
                return list["Commands"][0].clone();
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(done["Status"], "Failed");
    let (mut all, mut token) = (Vec::new(), Value::Null);
    loop {
        let body = json!({ "CommandId": id, "MaxResults": 5, "NextToken": token });
        let list = good(&peer, "ListCommandInvocations", body).await;
        all.extend(list["CommandInvocations"].as_array().unwrap().clone());
        token = list["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    let count = |details: &str| all.iter().filter(|i| i["StatusDetails"] == details).count();
    assert_eq!((all.len(), count("Success"), count("Failed"), count("Terminated")), (12, 4, 2, 6));
}

#[tokio::test]
async fn a_prefix_runs_the_script_on_another_host() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another namespace needs root");
        return;
    }
    let (peer, _folder) = peer(|c| {
        let words = ["/usr/bin/unshare", "--uts", "--"];
        c.instances[0].runner.prefix = words.map(str::to_owned).to_vec();
    });
    let id = shell(&peer, "hostname elsewhere && hostname && echo $AWS_SSM_INSTANCE_ID").await;
    let got = reaches(&peer, &id, "Success").await;
    assert_eq!(got["StandardOutputContent"], format!("elsewhere\n{INSTANCE}\n"));
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(here.trim(), "elsewhere");
}
