//! The processes that the agent starts for the firewall beside itself: `palisade firewall guardian`, which
//! puts rules back although the agent is dead, and `palisade firewall scratch`, which tries rules outside
//! of the agent's sandbox.

use std::{
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use palisade_agent::{
    clock::SystemClock,
    firewall::{
        Kernel,
        history::{self, Entry, HistoryFile as _},
        safety::{Ended, Order, stand_by},
    },
    sys::{
        boot_clock::KernelBootClock, feed_files::DiskFiles, guardian, history_file::DiskHistory,
        nftables::NftTable, scratch,
    },
};

use crate::{exit::Failed, printer::Printer};

/// Largest task: some thousand ranges and packets come to a tenth of it.
const MAX_TASK: u64 = 64 << 20;

/// The kernel's rules, by the socket that owns our table where the agent handed one over.
fn kernel(socket: Option<OwnedFd>) -> impl Kernel {
    let owner = socket.and_then(|fd| NftTable::from_socket(fd).ok());
    owner.unwrap_or_else(NftTable::here)
}

/// Waits for the end of a trial.
pub(crate) fn guardian(printer: &Printer) -> Result<ExitCode, Failed> {
    let (order, socket) = guardian::receive().context("take the order from the agent")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let watch = async {
        let (kernel, clock) = (&mut kernel(socket), KernelBootClock);
        let ended = stand_by(&order, kernel, &DiskFiles, &clock, &SystemClock).await;
        if let Ended::PutBack(Some(entry)) = &ended {
            record(&order, entry, printer).await;
        }
        ended
    };
    match runtime.block_on(watch) {
        Ended::NotNeeded => Ok(ExitCode::SUCCESS),
        Ended::PutBack(_) => {
            printer.note("firewall guardian: not confirmed in time; the rules before are in force");
            Ok(ExitCode::SUCCESS)
        }
        Ended::Failed(why) => {
            Err(anyhow::anyhow!("firewall guardian: put the rules before back: {why}").into())
        }
    }
}

/// Writes into the record of the agent, which cannot do it itself.
async fn record(order: &Order, entry: &Entry, printer: &Printer) {
    let dir = order.state.parent().unwrap_or(Path::new("/"));
    if let Err(e) = DiskHistory::new(dir).append(history::encode(entry)).await {
        printer.note(format_args!("firewall guardian: keep the record of firewall changes: {e}"));
    }
}

/// Tries rules.
pub(crate) fn scratch(printer: &Printer) -> Result<ExitCode, Failed> {
    let mut told = Vec::new();
    io::stdin().take(MAX_TASK).read_to_end(&mut told).context("read what to try")?;
    let answers = scratch::work(&told).context("try the rules")?;
    printer.bytes(&answers).context("tell what came of it")?;
    Ok(ExitCode::SUCCESS)
}
