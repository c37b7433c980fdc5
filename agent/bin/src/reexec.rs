//! Upgrade in place: which binary, whether it may take over, and the step into it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_agent::sys::{
    children::Children,
    exec::{self, Cmd},
    inherit::NamedFds,
    reexec,
};
use palisade_types::control::{Failure, FailureKind};

use crate::rollback::{self, WayBack};

/// How often this process has replaced its binary: handed on in the environment.
const UPGRADES: &str = "PALISADE_UPGRADES";
/// What systemd gave at the start, which was taken then and stands for nothing now.
const NOT_AGAIN: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
const CHECK_WITHIN: Duration = Duration::from_secs(20);

/// How this process was started, remembered so that it can be started again.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The binary's path as it was called, absolute. Not what `/proc/self/exe` says: after a package
    /// upgrade that is the deleted old file.
    pub(crate) binary: PathBuf,
    args: Vec<OsString>,
    /// How often the binary was replaced under this pid.
    pub(crate) upgrades: u32,
}

impl Origin {
    /// Reads it from the process itself.
    pub(crate) fn of_this_process() -> anyhow::Result<Self> {
        let mut args: Vec<OsString> = std::env::args_os().collect();
        let stands_for = std::env::var_os(rollback::STANDS_FOR).or_else(|| args.first().cloned());
        let called = stands_for.map(PathBuf::from).unwrap_or_default();
        let binary = if called.components().count() > 1 || called.is_absolute() {
            std::path::absolute(&called)?
        } else {
            in_path(&called).map_or_else(std::env::current_exe, Ok)?
        };
        // The copy was called by a path of its own, which is nobody's to remember.
        if let Some(called) = args.first_mut() {
            *called = binary.clone().into();
        }
        let upgrades = std::env::var(UPGRADES).ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Self { binary, args, upgrades })
    }

    /// Whether the binary at the path runs here and understands the configuration on disk.
    pub(crate) async fn check(&self, children: &Children, config: &Path) -> Result<(), Failure> {
        let refuse = |why: String| {
            Failure::new(
                FailureKind::Failed,
                format!("upgrade to {}: {why}", self.binary.display()),
            )
            .hint("the running agent goes on unchanged; mend this and run palisade upgrade")
        };
        let check = Cmd::new(&self.binary)
            .args(["check".as_ref(), "-c".as_ref(), config.as_os_str()])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .deadline(CHECK_WITHIN);
        let out = exec::run(children, check)
            .await
            .map_err(|e| refuse(palisade_agent::errors::Chain(&e).to_string()))?;
        if out.code == Some(0) {
            return Ok(());
        }
        let said =
            String::from_utf8_lossy(if out.stdout.is_empty() { &out.stderr } else { &out.stdout });
        let first = said.lines().next().unwrap_or("it ended without a word").to_owned();
        Err(refuse(format!("it does not accept the configuration: {first}")))
    }

    /// Becomes the binary at the path. Returns only if the kernel refused.
    pub(crate) fn become_it(&self, way: &WayBack, fds: NamedFds) -> (std::io::Error, NamedFds) {
        let upgrades = self.upgrades.saturating_add(1).to_string();
        let env = kept_env().chain([(UPGRADES.into(), upgrades.into()), way.trial()]);
        match reexec::exec(&self.binary, &self.args, env, fds) {
            Ok(never) => match never {},
            Err(failed) => failed,
        }
    }

    /// Becomes the binary before this one, which finds the programs as after a crash. Returns only if
    /// the kernel refused.
    pub(crate) fn go_back(&self, way: &WayBack, why: &str) -> std::io::Error {
        let told = rollback::told(&self.binary, why);
        let upgrades = (UPGRADES.into(), self.upgrades.to_string().into());
        let env = kept_env().chain(told).chain([upgrades]);
        match reexec::exec(&way.previous(), &self.args, env, NamedFds::new()) {
            Ok(never) => match never {},
            Err((e, _)) => e,
        }
    }
}

/// The environment without what is said anew at each exec.
fn kept_env() -> impl Iterator<Item = (OsString, OsString)> {
    let anew = NOT_AGAIN.iter().chain(&rollback::SAID).chain([&UPGRADES]);
    std::env::vars_os().filter(move |(k, _)| !anew.clone().any(|name| k == name))
}

fn in_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_absolute() && p.is_file())
}
