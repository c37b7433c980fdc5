//! `cargo xtask`: the project's chores. `cargo xtask demo` shows the product, `cargo xtask test` runs
//! every test, `cargo xtask ci` checks what a reviewer would.

mod ami;
mod bench;
mod cargo;
mod changelog;
mod ci;
mod cmd;
mod demo;
mod fuzz;
mod host;
mod hosts;
mod net;
mod package;
mod process;
mod record;
mod release;
mod say;
mod setup;
mod sizes;
mod spec;
mod test;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Palisade's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Show the product on this machine, in network namespaces (root, Debian or Ubuntu)
    Demo(demo::Options),
    /// Run every test, the demo included, and count
    Test,
    /// Check the sources: format, lints, layers, documentation, dependencies, sizes, promises
    Ci,
    /// Measure Supervisor and palisade side by side, into docs/benchmarks.md
    Bench(bench::Options),
    /// Run the demo and draw it as docs/demo.svg
    Record(record::Options),
    /// Check or build the image of an origin host
    #[command(subcommand)]
    Ami(ami::Chore),
    /// Build the .deb and .rpm packages, and check them
    Package(package::Options),
    /// Steps of a release, each usable on its own
    #[command(subcommand)]
    Release(release::Step),
    /// Give hostile input to the parsers, by libFuzzer
    Fuzz(fuzz::Options),
    /// Install what the demo, the tests and the benchmarks need
    Setup,
    /// Make the root file systems that test hosts boot from; only what is missing or out of date
    Hosts(hosts::Options),
    #[command(name = "__http", hide = true)]
    Http(net::HttpArgs),
    #[command(name = "__load", hide = true)]
    Load(net::LoadArgs),
    #[command(name = "__beacon", hide = true)]
    Beacon {
        record: PathBuf,
        /// End at once.
        #[arg(long)]
        brief: bool,
    },
    #[command(name = "__site", hide = true)]
    Site,
    #[command(name = "__talk", hide = true)]
    Talk(bench::chatter::TalkArgs),
    #[command(name = "__flood", hide = true)]
    Flood(bench::supervise::FloodArgs),
    #[command(name = "__tick", hide = true)]
    Tick,
    #[command(name = "__knock", hide = true)]
    Knock(net::KnockArgs),
}

fn main() -> ExitCode {
    // First of all: what a beacon writes down is when this line is reached.
    let began = bench::beacon::clock();
    match began.and_then(|began| run(Args::parse().chore, began)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            say::progress(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well; what went wrong was told already.
fn run(chore: Chore, began: u64) -> Result<bool> {
    let done = |result: Result<()>| result.map(|()| true);
    match chore {
        Chore::Demo(options) => demo::run(&options),
        Chore::Test => test::run(),
        Chore::Ci => ci::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Record(options) => record::run(&options),
        Chore::Ami(chore) => done(ami::run(&chore)),
        Chore::Package(options) => done(package::run(&options)),
        Chore::Release(step) => done(release::run(&step)),
        Chore::Fuzz(options) => done(fuzz::run(&options)),
        Chore::Setup => done(setup::run().and_then(|_| setup::infra_tools::run())),
        Chore::Hosts(options) => done(hosts::run(&options)),
        Chore::Http(args) => done(net::helper(net::http(args))),
        Chore::Load(args) => done(net::helper(net::load(args))),
        Chore::Beacon { record, brief } => done(bench::beacon::shine(began, &record, brief)),
        Chore::Site => done(net::block_on(bench::storm::site::serve())),
        Chore::Talk(args) => done(bench::chatter::talk(&args)),
        Chore::Flood(args) => done(bench::supervise::flood(&args)),
        Chore::Tick => done(bench::supervise::tick()),
        Chore::Knock(args) => done(net::helper(net::knock(args))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Args::command().debug_assert();
    }
}
