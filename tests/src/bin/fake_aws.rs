//! The strict fakes of CloudWatch Logs and SSM as one program, for the demo, the benchmark, hosts in
//! a lab and tests by hand.
//!
//! `GET /_fake/stats` says what arrived at CloudWatch Logs and `GET /_fake/ssm` what SSM has;
//! `POST /_fake/faults` and `POST /_fake/ssm/faults` with JSON change what goes wrong.

use std::net::SocketAddr;

use clap::Parser;
use palisade_e2e::aws::{Fake, logs::Faults};

/// A strict stand-in for CloudWatch Logs and SSM.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4580")]
    listen: SocketAddr,
    /// Hold all events in memory, so that GetLogEvents gives them back.
    #[arg(long)]
    keep: bool,
    /// What goes wrong with logs from the start, as JSON: {"throttle":0.3,"error":0.1,"drop_ack":0.1,...}
    #[arg(long, default_value = "{}")]
    faults: String,
}

#[expect(clippy::print_stdout, reason = "a program for people: it says where it listens")]
fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let faults: Faults = serde_json::from_str(&args.faults)?;
    let fake = Fake::listen(args.listen, faults, args.keep)?;
    println!("listening on {}", fake.url());
    fake.wait();
    Ok(())
}
