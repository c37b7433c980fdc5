//! The worker on a host: the connection's local end, and the file that names the owner.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    client::Client,
    support::{INSTANCE, echo, good, pattern, peer, until},
};
use palisade_peer::channel::frame::payload;
use serde_json::Value;

fn worker(root: &Path) -> impl FnOnce(&mut palisade_peer::config::Config) {
    let root = root.to_str().unwrap().to_owned();
    move |c| {
        c.instances[0].dialer.worker = vec![env!("CARGO_BIN_EXE_ssm-session-worker").to_owned()];
        c.instances[0].dialer.state_root = root;
    }
}

#[tokio::test]
async fn a_worker_relays_and_names_the_owner_as_long_as_it_runs() {
    let root = tempfile::tempdir().unwrap();
    let address = echo().await;
    let port = address.rsplit(':').next().unwrap().to_owned();
    let peer = peer(&address, worker(root.path()));
    let body = serde_json::json!({ "Target": INSTANCE, "DocumentName": "AWS-StartSSHSession",
        "Parameters": { "portNumber": [port] } });
    let started = good(&peer, "StartSession", body).await;
    let session = started["SessionId"].as_str().unwrap();
    let mut client = Client::open(&peer, &started).await;
    client.run("completion", |c| c.complete).await;
    let sent = pattern(50_000);
    for part in sent.chunks(1000) {
        client.send(payload::OUTPUT, part).await;
    }
    client.run("echo", |c| c.data.len() == 50_000).await;
    assert!(client.data == sent);

    let folder = root.path().join(format!("var/lib/amazon/ssm/{INSTANCE}/document/state/current"));
    let file = folder.join(session);
    let state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let owner = &state["InstancePluginsInformation"][0]["Configuration"]["SessionOwner"];
    assert_eq!(owner, "arn:aws:iam::123456789012:user/alice");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    good(&peer, "TerminateSession", serde_json::json!({ "SessionId": session })).await;
    until("removal of the file", || !file.exists()).await;
    assert_eq!(peer.violations(), []);
}

#[tokio::test]
async fn a_refused_port_ends_the_session_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = peer("127.0.0.1:1", worker(root.path()));
    let body = serde_json::json!({ "Target": INSTANCE, "DocumentName": "AWS-StartSSHSession",
        "Parameters": { "portNumber": [unused.port().to_string()] } });
    let mut client = Client::open(&peer, &good(&peer, "StartSession", body).await).await;
    client.run("end", |c| c.closed.is_some()).await;
    let text = client.closed.unwrap();
    assert!(text.contains("Unable to connect") && text.contains("refused"), "{text}");
}
