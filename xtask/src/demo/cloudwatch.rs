//! The demo with `--cloudwatch`: the strict stand-in for CloudWatch Logs of the whole-product tests
//! runs on the origin's loopback address, keeps what it takes, and counts broken rules of the service.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    look,
    report::Report,
    world::{Host, World},
};
use crate::{cmd::Cmd, host, net::HttpArgs};

/// Where it listens, inside the origin's namespace.
const LISTEN: &str = "127.0.0.1:4580";

/// Starts it and waits for its first answer.
pub(crate) fn start(world: &World, binary: &Path) -> Result<()> {
    world
        .on(Host::Origin, binary)
        .bare_env()
        .args(["--listen", LISTEN, "--keep"])
        .daemon(&world.dir.join("logs/cloudwatch.log"))?;
    host::wait_until("the CloudWatch stand-in's first answer", Duration::from_secs(10), || {
        stats(world).map(drop)
    })
}

/// What tells an AWS client to go there. The credentials are made up: the stand-in takes any.
pub(crate) fn environment(cmd: Cmd) -> Cmd {
    cmd.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", format!("http://{LISTEN}"))
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "AKIADEMO")
        .env("AWS_SECRET_ACCESS_KEY", "demo")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// Every message of every stream that it took, as one text.
pub(crate) fn text(world: &World) -> Result<String> {
    let stats = stats(world)?;
    let streams = stats["streams"].as_object().context("the stand-in tells no streams")?;
    let mut text = String::new();
    for name in streams.keys() {
        let (group, stream) = name.split_once(' ').context("a stream without its group")?;
        let mut from = json!({ "logGroupName": group, "logStreamName": stream });
        loop {
            let page = call(world, "POST", "/", &from)?;
            let events = page["events"].as_array().context("GetLogEvents gave no events")?;
            if events.is_empty() {
                break;
            }
            for event in events {
                text += event["message"].as_str().unwrap_or_default();
                text.push('\n');
            }
            from["nextToken"] = page["nextForwardToken"].clone();
        }
    }
    Ok(text)
}

/// No request of the whole run broke a rule of the service.
pub(crate) fn rules(world: &World, report: &mut Report) {
    report.check("CloudWatch's rules were kept in every request", || {
        let stats = stats(world)?;
        let broken = stats["violations"].as_object().context("the stand-in tells no violations")?;
        ensure!(broken.is_empty(), "broken rules: {broken:?}");
        ensure!(stats["lines"].as_u64().unwrap_or_default() > 0, "nothing arrived at all");
        Ok(vec![format!(
            "{} lines in {} calls of PutLogEvents, {} bytes sent for {} bytes of messages",
            stats["lines"], stats["puts"], stats["wire_bytes"], stats["message_bytes"]
        )])
    });
}

fn stats(world: &World) -> Result<Value> {
    call(world, "GET", "/_fake/stats", &Value::Null)
}

fn call(world: &World, method: &str, path: &str, body: &Value) -> Result<Value> {
    let header = [
        "X-Amz-Target: Logs_20140328.GetLogEvents",
        "Content-Type: application/x-amz-json-1.1",
        "Authorization: AWS4-HMAC-SHA256 Credential=demo",
        "X-Amz-Date: 20260101T000000Z",
    ];
    let request = HttpArgs {
        to: LISTEN.parse()?,
        method: method.to_owned(),
        path: path.to_owned(),
        header: header.map(str::to_owned).into(),
        body: if body.is_null() { String::new() } else { body.to_string() },
        timeout_ms: 10_000,
    };
    let answer = look::http(world, Host::Origin, &request)?;
    if let Some(why) = answer.error {
        anyhow::bail!("the CloudWatch stand-in: {why}");
    }
    ensure!(answer.status == 200, "the CloudWatch stand-in: {} {}", answer.status, answer.body);
    serde_json::from_str(&answer.body).context("read the stand-in's answer")
}
