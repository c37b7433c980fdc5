//! Runs the commands around a start, one after the other, each within its time.
//!
//! A command has its own cgroup beside that of its process, and dies with the agent. What it leaves
//! behind goes with it where there is a cgroup. However the run ends, none of its commands runs then.

use std::{fmt, os::fd::OwnedFd, sync::Arc, time::Duration};

use palisade_types::ProcessName;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{Child as _, Exit, Hook, HookLaunch, Host, ProcessSpec, SpawnError, Whom};
use crate::errors::one_line;

/// How long a killed command may take to be gone; one that is stuck in the kernel is left.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Before or after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before each start.
    PreStart,
    /// Once the process is up; its main process.
    PostStart(i32),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PreStart => "pre_start",
            Self::PostStart(_) => "post_start",
        })
    }
}

/// Why not all commands of a stage did their work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// Nobody wants it any more, or the agent comes to a rest.
    Cancelled,
    /// One failed: which, and how.
    Failed(String, String),
}

/// All commands of one stage.
pub(super) struct Hooks<H> {
    pub(super) host: H,
    pub(super) name: ProcessName,
    pub(super) spec: Arc<ProcessSpec>,
    pub(super) stage: Stage,
    /// Each with where its output goes.
    pub(super) hooks: Vec<(Hook, OwnedFd)>,
    /// Taken while they run.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) cancel: CancellationToken,
}

impl<H: Host> Hooks<H> {
    pub(super) async fn run(self) -> Result<(), Undone> {
        let Self { host, name, spec, stage, hooks, turn, cancel } = self;
        let _turn = cancel.run_until_cancelled(turn.lock()).await.ok_or(Undone::Cancelled)?;
        for (number, (hook, output)) in (1..).zip(hooks) {
            // Its arguments may be secret, and this is shown to many.
            let command = hook.argv.first().map(|c| one_line(c)).unwrap_or_default();
            let shown = || format!("{stage} hook {number} ({command})");
            let failed = |why: String| Undone::Failed(shown(), why);
            if cancel.is_cancelled() {
                return Err(Undone::Cancelled);
            }
            let launch = HookLaunch { name: &name, spec: &spec, argv: &hook.argv, stage, output };
            let child = host.spawn_hook(launch).map_err(|e| failed(e.to_string()))?;
            child.release();
            let story = async {
                child.execed().await?;
                Ok::<_, SpawnError>(child.ended().await.0)
            };
            let ended = cancel.run_until_cancelled(time::timeout(hook.timeout, story)).await;
            let outcome = match ended {
                Some(Ok(Ok(Exit::Code(0)))) => continue,
                Some(Ok(Ok(exit))) => failed(exit.to_string()),
                Some(Ok(Err(error))) => failed(error.to_string()),
                Some(Err(_)) => {
                    let limit = palisade_types::format_duration(hook.timeout);
                    failed(format!("took longer than {limit} and was killed"))
                }
                None => Undone::Cancelled,
            };
            if let Err(e) = child.kill(Whom::Group) {
                tracing::error!(process = %name, hook = shown(), error = %e, "not killed");
            }
            if time::timeout(GONE_WITHIN, child.ended()).await.is_err() {
                tracing::error!(process = %name, hook = shown(), "killed, and does not go away");
            }
            return Err(outcome);
        }
        Ok(())
    }
}
