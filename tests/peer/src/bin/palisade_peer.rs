//! The peer as a program: for tests in other processes, hosts in a lab, and by hand.
//!
//! `GET /_peer/sessions`, `/_peer/violations` and `/_peer/journal` say what happened;
//! `POST /_peer/faults` and `/_peer/do` with JSON change what goes wrong.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use palisade_peer::{Peer, config::Config};

/// A strict stand-in for Systems Manager with its sessions and commands.
#[derive(Debug, Parser)]
struct Args {
    /// Instances, keys and faults, as JSON. Without it: one key and one instance, this machine.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where to listen, instead of what the configuration says; port 0 takes a free one.
    #[arg(long)]
    listen: Option<String>,
}

#[expect(clippy::print_stdout, reason = "a program for people: it says where it listens")]
fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?
        }
        None => Config::default(),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let peer = Peer::start(config)?;
    println!("listening on {}", peer.url());
    peer.wait();
    Ok(())
}
