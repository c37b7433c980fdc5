//! `palisade firewall load`: the rules of the kept lists, into the kernel, once. Run at boot before
//! the network comes up, and after another tool flushed all rules while no agent runs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use palisade_agent::{
    clock::{SystemClock, WallClock as _},
    config,
    firewall::{
        self, Elements, Feed, FeedLocation, FetchError, Fetched, Kernel as _, Observed, Owner,
        Ports, State, Status, Table,
        history::{self, Who},
        safety::{self, BootClock as _},
    },
    sys::{
        boot_clock::KernelBootClock, feed_files::DiskFiles, nft_events::NftEvents,
        nftables::NftTable,
    },
    task::Scope,
};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{cli::Place, exit, exit::Failed, firewall_wiring, printer::Printer, wiring};

/// How long the kernel may take. A boot waits for it.
const WITHIN: Duration = Duration::from_secs(20);

/// No network yet: the lists are the agent's to read.
#[derive(Debug)]
struct Offline;

impl Feed for Offline {
    async fn fetch(&self, _: &FeedLocation, _: Option<&str>) -> Result<Fetched, FetchError> {
        Err(FetchError::new("lists are read by the agent, not at boot"))
    }
}

/// Puts the rules in force, from the file or from the last one that had no mistakes.
pub(crate) async fn load(place: &Place, printer: &Printer) -> Result<ExitCode, Failed> {
    let settings = match config::load(&place.config) {
        Ok(settings) => settings,
        Err(mistakes) => {
            printer.note(&mistakes);
            let Some(settings) = config::last_good(&wiring::usual_safe_dir()) else {
                return Ok(ExitCode::from(exit::USAGE));
            };
            printer.note("the last configuration that had no mistakes is taken instead");
            settings
        }
    };
    let Some(wanted) = settings.firewall else {
        printer.line("firewall is not configured: nothing to load");
        return Ok(ExitCode::SUCCESS);
    };
    let there = match NftTable::here().read().await {
        Ok(Observed::Table(table)) => Some(table),
        // What cannot be read is told by whoever tries to change it.
        Ok(Observed::Absent | Observed::Unclear(_)) | Err(_) => None,
    };
    // While its owner lives, nobody else could have removed it.
    if there.as_ref().is_some_and(|t| matches!(t.claim.owner, Owner::Other(_))) {
        printer.line("a running agent owns the rules and keeps them: nothing to load");
        return Ok(ExitCode::SUCCESS);
    }
    let grants = there.map(|t| grants(&t)).unwrap_or_default();
    let status = settle(chosen(wanted, printer).await, grants).await?;
    match status.state {
        State::InForce { .. } => {
            for set in &status.sets {
                printer.line(format_args!("{}: {} ranges", set.source, set.ranges));
            }
            printer.line("rules in force");
            Ok(ExitCode::SUCCESS)
        }
        State::PlanOnly { .. } => {
            printer.line("firewall.enforce is false: nothing to load");
            Ok(ExitCode::SUCCESS)
        }
        State::Starting => Err(anyhow!("the kernel took no rules within {WITHIN:?}").into()),
        State::Failed { why, .. } => Err(anyhow!("load the firewall's rules: {why}").into()),
    }
}

/// Who may log in until when, by the kernel's word. A running agent put them there, and they end by
/// themselves: loading beside it is not to log anybody out.
fn grants(table: &Table) -> BTreeMap<IpAddr, u64> {
    let mut all = BTreeMap::new();
    for elements in table.sets.values() {
        match elements {
            Elements::Timed4(ends) => {
                all.extend(ends.iter().map(|(a, end)| (Ipv4Addr::from(*a).into(), *end)));
            }
            Elements::Timed6(ends) => {
                all.extend(ends.iter().map(|(a, end)| (Ipv6Addr::from(*a).into(), *end)));
            }
            Elements::V4(_) | Elements::V6(_) | Elements::Ports(_) | Elements::Strange(_) => {}
        }
    }
    all
}

/// The settings of the file, or those before if the file's were rolled back.
async fn chosen(wanted: firewall::Settings, printer: &Printer) -> firewall::Settings {
    let clock = KernelBootClock;
    let kept = safety::kept(&DiskFiles, &wanted).await;
    let (now_ms, boot_id) = (clock.now(), clock.boot_id());
    let start = safety::resolve(kept, wanted, now_ms, &boot_id, SystemClock.now());
    let refused = start.kept.refused.as_ref();
    match start.offered {
        Some(offered) if start.kept.trial.is_none() && !start.kept.has_refused(&offered) => offered,
        _ => {
            if let Some(refused) = refused {
                printer.note(format_args!(
                    "the settings of the file are kept back: {}",
                    refused.kept_back.why
                ));
            }
            start.settings
        }
    }
}

/// Runs the firewall until it knows what came of its first rules. They stay when it ends.
async fn settle(
    wanted: firewall::Settings,
    grants: BTreeMap<IpAddr, u64>,
) -> anyhow::Result<Status> {
    let ports = Ports {
        kernel: NftTable::here(),
        changes: None::<NftEvents>,
        feed: Offline,
        files: DiskFiles,
        clock: SystemClock,
    };
    let (book, _, record) = history::new();
    let mut scope = Scope::new(&CancellationToken::new());
    scope.spawn("firewall history", firewall_wiring::history(&wanted, record, scope.stop()));
    let (_keep, seen) = watch::channel(wanted);
    let (handle, task) = firewall::new(seen, ports);
    let (_grants, granted) = watch::channel(grants);
    let task = task.with_grants(granted).with_history(book, Who::Boot);
    let stop = scope.stop();
    scope.spawn("firewall", task.run(stop));
    let mut status = handle.watch();
    let settled = status.wait_for(|s| !matches!(s.state, State::Starting));
    // Nothing within the time is an answer too: still starting.
    if let Ok(ended) = time::timeout(WITHIN, settled).await {
        ended.context("the firewall's task ended")?;
    }
    let status = handle.watch().borrow().clone();
    scope.shut_down(Duration::from_secs(1)).await;
    Ok(status)
}
