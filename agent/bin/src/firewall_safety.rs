//! Safe changes of the firewall, filled with this host, and what is told of them.

use std::{path::Path, sync::Arc};

use palisade_agent::{
    clock::SystemClock,
    firewall::safety::{KeptBack, SafetyPorts, SafetyStatus},
    sys::{
        boot_clock::KernelBootClock, children::Children, feed_files::DiskFiles,
        guardian::ProcGuardians, scratch::Scratch, sessions::ProcView,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::modules::Trouble;

/// Under which name it is told that settings are kept back.
pub(crate) const TROUBLE: &str = "firewall settings";

/// The host, as safe changes want it. `binary` is what is run outside of our sandbox.
pub(crate) fn ports(
    children: &Children,
    binary: &Path,
) -> SafetyPorts<ProcView, ProcGuardians, Scratch, DiskFiles, SystemClock> {
    SafetyPorts {
        view: ProcView::new(children.clone()),
        guardians: ProcGuardians::new(children.clone()),
        prober: Scratch::new(children.clone()).or_by(binary),
        files: DiskFiles,
        clock: SystemClock,
        boot: Arc::new(KernelBootClock),
    }
}

/// Tells in the record and in `status` what is kept back.
pub(crate) async fn tell(
    mut status: watch::Receiver<SafetyStatus>,
    trouble: Trouble,
    stop: CancellationToken,
) {
    loop {
        let now = status.borrow_and_update().clone();
        let kept_back = now.kept_back.map(|k| format!("kept back: {}; {}", k.why, KeptBack::HINT));
        let on_trial = now.trial.map(|t| {
            format!("on trial, rolled back at {} unless palisade firewall confirm", t.until)
        });
        trouble.is(on_trial.or(kept_back).or(now.trouble));
        // Losing the wait loses nothing: the state is looked at again.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
    }
}
