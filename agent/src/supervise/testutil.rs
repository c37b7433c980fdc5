//! Ready-made settings for tests.

use std::{collections::BTreeSet, time::Duration};

use nix::sys::signal::Signal;
use palisade_types::{ByteSize, ProcessName};

use super::{AutoRestart, Limits, LogFile, LogPath, ProcessSpec, Ready};

/// Supervisor's defaults for a program `name` that sleeps, alone in its group, without log files.
///
/// # Panics
/// When `name` is no name.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a test gives a good name")]
pub fn spec(name: &str) -> ProcessSpec {
    let log = LogFile { path: LogPath::None, maxbytes: ByteSize::mib(50), backups: 10 };
    ProcessSpec {
        name: name.parse::<ProcessName>().unwrap(),
        program: name.parse().unwrap(),
        group: name.parse().unwrap(),
        priority: 999,
        argv: vec!["/bin/sleep".to_owned(), "1000".to_owned()],
        directory: None,
        user: None,
        environment: [].into(),
        umask: None,
        autostart: true,
        autorestart: AutoRestart::Unexpected,
        startsecs: Duration::from_secs(1),
        startretries: 3,
        exitcodes: BTreeSet::from([0]),
        stopsignal: Signal::SIGTERM,
        stopwaitsecs: Duration::from_secs(10),
        stopasgroup: false,
        killasgroup: false,
        sockets: vec![],
        ready: Ready::Delay,
        stdout: log.clone(),
        stderr: log,
        redirect_stderr: false,
        limits: Limits::default(),
        after: BTreeSet::new(),
    }
}
