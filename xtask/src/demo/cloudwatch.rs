//! The demo with `--cloudwatch`: the strict stand-in for CloudWatch Logs of the whole-product tests
//! runs on the origin's loopback address and keeps what it accepted.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

use super::world::{Host, World};
use crate::{cmd::Cmd, host, net::HttpArgs};

/// Where it listens, inside the origin's namespace.
const LISTEN: &str = "127.0.0.1:4566";

/// Starts it and waits for its first answer. Accepted lines go to files below `save`.
pub(crate) fn start(world: &World, binary: &Path, save: &Path) -> Result<()> {
    std::fs::create_dir_all(save)?;
    world
        .on(Host::Origin, binary)
        .bare_env()
        .args(["--listen", LISTEN, "--save"])
        .arg(save.join("accepted.ndjson"))
        .daemon(&world.dir.join("logs/cloudwatch.log"))?;
    host::wait_until("the CloudWatch stand-in's first answer", Duration::from_secs(10), || {
        let request = HttpArgs {
            to: LISTEN.parse()?,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            header: Vec::new(),
            body: String::new(),
            timeout_ms: 1_000,
        };
        let answer = super::look::http(world, Host::Origin, &request)?;
        ensure!(answer.status != 0, "{}", answer.error.unwrap_or_default());
        Ok(())
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
