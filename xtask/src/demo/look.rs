//! Looking at the origin from one of the other hosts, through helpers that run there.

use std::{net::SocketAddr, process::Child, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use super::world::{Host, World};
use crate::{
    host,
    net::{Answer, HttpArgs, KnockResult, LoadResult},
};

/// The origin's web port.
pub(crate) fn web() -> Result<SocketAddr> {
    at(Host::Origin.address(), 80)
}

/// An address and a port.
pub(crate) fn at(address: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse().context("read an address")?, port))
}

/// One request from a host.
pub(crate) fn http(world: &World, from: Host, args: &HttpArgs) -> Result<Answer> {
    let mut cmd = world.on(from, host::own_program()?).arg("__http").args([
        "--to",
        &args.to.to_string(),
        "--method",
        &args.method,
        "--path",
        &args.path,
        "--timeout-ms",
        &args.timeout_ms.to_string(),
        "--body",
        &args.body,
    ]);
    for header in &args.header {
        cmd = cmd.args(["--header", header]);
    }
    let text = cmd.within(Duration::from_millis(args.timeout_ms + 20_000)).run()?;
    serde_json::from_str(&text).context("read a helper's answer")
}

/// `GET` of the site from a host.
pub(crate) fn get(world: &World, from: Host, path: &str) -> Result<Answer> {
    let args = HttpArgs {
        to: web()?,
        method: "GET".to_owned(),
        path: path.to_owned(),
        header: Vec::new(),
        body: String::new(),
        timeout_ms: 3_000,
    };
    http(world, from, &args)
}

/// `GET` of the site that must be answered well.
pub(crate) fn page(world: &World, from: Host, path: &str) -> Result<Answer> {
    let answer = get(world, from, path)?;
    if let Some(why) = &answer.error {
        anyhow::bail!("GET {path} from the {}: {why}", from.name());
    }
    ensure!(answer.status == 200, "GET {path} from the {}: status {}", from.name(), answer.status);
    Ok(answer)
}

/// A helper at work.
#[derive(Debug)]
pub(crate) struct AtWork(Child);

impl AtWork {
    /// Waits for its end and reads its answer.
    pub(crate) fn result<T: DeserializeOwned>(self) -> Result<T> {
        let output = self.0.wait_with_output().context("wait for a helper")?;
        ensure!(output.status.success(), "a helper ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("read a helper's answer")
    }
}

/// A steady load of requests from the edge.
pub(crate) fn load(world: &World, rate: u32, seconds: u32, tag: &str) -> Result<AtWork> {
    let child = world
        .on(Host::Edge, host::own_program()?)
        .arg("__load")
        .args(["--to", &web()?.to_string(), "--rate", &rate.to_string()])
        .args(["--seconds", &seconds.to_string(), "--tag", tag])
        .piped()?;
    Ok(AtWork(child))
}

/// Connections tried over and over.
pub(crate) fn knock(
    world: &World,
    from: Host,
    to: SocketAddr,
    every_ms: u64,
    seconds: f64,
) -> Result<AtWork> {
    let child = world
        .on(from, host::own_program()?)
        .arg("__knock")
        .args(["--to", &to.to_string(), "--every-ms", &every_ms.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .piped()?;
    Ok(AtWork(child))
}

/// Whether a host is let in: tries for a third of a second, and waits for late answers.
pub(crate) fn knocks(world: &World, from: Host, to: SocketAddr) -> Result<KnockResult> {
    knock(world, from, to, 20, 0.3)?.result()
}

/// A load as evidence, or why it is none.
pub(crate) fn no_failures(result: &LoadResult) -> Result<String> {
    ensure!(result.sent > 0, "no request was sent");
    ensure!(
        result.failed == 0,
        "{} of {} requests failed:\n{}",
        result.failed,
        result.sent,
        result.reasons.join("\n")
    );
    Ok(format!(
        "{} requests, 0 failed; half answered within {:.0} ms, 99 % within {:.0} ms, the slowest in {:.0} ms",
        result.sent, result.p50_ms, result.p99_ms, result.max_ms
    ))
}
