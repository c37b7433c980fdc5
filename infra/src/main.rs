//! `palisade-infra`: checks the stacks of infra/templates, and makes them what they say.
//!
//! Decisions are pure: `policy`, `schedule`, `tell`, `show`, `unit` and the model. Edges touch
//! the world: `cfn` and `aws` the cloud, `find` the files, `printer` the terminal; `follow`, `plan`,
//! `apply` and `destroy` lead from one to the other.

mod apply;
mod aws;
mod cfn;
mod check;
mod cli;
mod consent;
mod deployment;
mod destroy;
mod diagram;
mod failed;
mod find;
mod follow;
mod plan;
mod policy;
mod printer;
mod reach;
mod schedule;
mod show;
mod tell;
mod unit;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    cli::{Cli, Verb},
    deployment::Slot,
    failed::{Failed, Outcome},
};

fn main() -> ExitCode {
    match work(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            printer::failure(&failed);
            ExitCode::from(failed.kind.code())
        }
    }
}

fn work(cli: &Cli) -> Outcome<()> {
    // One thread: AWS does the work.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failed::because("start", &e))?;
    let outcome = runtime.block_on(async {
        let aws = Slot::default();
        let outcome = until_signal(cli, &aws).await;
        aws.settle().await;
        outcome
    });
    // A read of standard input may be under way in a thread; nobody waits for what it gets.
    runtime.shutdown_background();
    outcome
}

async fn until_signal(cli: &Cli, aws: &Slot) -> Outcome<()> {
    let take = |kind| signal(kind).map_err(|e| Failed::because("take signals", &e));
    let (mut interrupt, mut terminate): (Signal, Signal) =
        (take(SignalKind::interrupt())?, take(SignalKind::terminate())?);
    // What the work began is in the ledger before it is sent: dropping the work forgets nothing.
    tokio::select! {
        done = dispatch(cli, aws) => done,
        _ = interrupt.recv() => Err(interrupted()),
        _ = terminate.recv() => Err(interrupted()),
    }
}

fn interrupted() -> Failed {
    Failed::plain("interrupted").hint("run it again: it waits for what is under way, and goes on")
}

async fn dispatch(cli: &Cli, aws: &Slot) -> Outcome<()> {
    match &cli.verb {
        Verb::Plan(args) => Box::pin(deployment::plan(&cli.common, args, aws)).await,
        Verb::Apply(args) => Box::pin(deployment::apply(&cli.common, args, aws)).await,
        Verb::Destroy(args) => Box::pin(deployment::destroy(&cli.common, args, aws)).await,
        Verb::Check(args) => check::check(&cli.common, args),
        Verb::Reach(args) => reach::reach(&cli.common, args),
        Verb::Diagram(args) => diagram::draw(&cli.common, args),
    }
}
