//! What shipping costs: processor time and memory of the whole agent, at full speed, at 200 lines a second,
//! and at rest; and of rsyslog, which only reads the file and writes to a socket.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::rig::{LINE, Rig, Usage, usage};
use crate::{
    cmd::{Cmd, find},
    host,
    process::signal,
    say,
};

const PATIENCE: Duration = Duration::from_secs(300);
/// How long the slow and the idle agent are watched.
const WATCHED: Duration = Duration::from_secs(30);

/// A file shipped at full speed.
pub(super) struct Full {
    pub(super) name: &'static str,
    pub(super) cpu_s_per_million: f64,
    pub(super) lines_a_second: f64,
    pub(super) peak_mib: f64,
    /// Bytes of all bodies for each byte of the lines; none where there are no bodies.
    pub(super) wire: Option<f64>,
    pub(super) puts: u64,
    pub(super) out_of_order: u64,
}

/// Ways of shipping that are measured, with the keys that make them.
const WAYS: [(&str, &str); 3] = [
    ("palisade, plain bodies", "  compress: false\n"),
    ("palisade, gzip", "  compress: true\n"),
    ("palisade, gzip and card numbers redacted", "  compress: true\n  redact: [pan]\n"),
];

pub(super) fn full_speed(palisade: &Path, fake: &Path, lines: usize) -> Result<Vec<Full>> {
    let mut all = Vec::new();
    for (name, keys) in WAYS {
        say::progress(&format!("bench: {name}, {lines} lines"));
        let mut rig =
            Rig::new(palisade, fake, &format!("  files: [{{ path: '@LOG@/app.log' }}]\n{keys}"))?;
        rig.write("app.log", lines)?;
        let begin = host::now();
        rig.start()?;
        let arrived = rig.settle(PATIENCE)?;
        let seconds = begin.elapsed().as_secs_f64();
        let used = rig.usage()?;
        ensure!(arrived.distinct == rig.written(), "{name}: {} lines arrived", arrived.distinct);
        ensure!(arrived.violations.is_empty(), "{name}: {:?}", arrived.violations);
        all.push(Full {
            name,
            cpu_s_per_million: a_million(used.cpu_s, lines),
            lines_a_second: ratio(lines as u64, 1) / seconds,
            peak_mib: used.peak_mib,
            wire: Some(ratio(arrived.wire_bytes, arrived.message_bytes)),
            puts: arrived.puts,
            out_of_order: arrived.out_of_order,
        });
    }
    if let Some(floor) = rsyslog(lines)? {
        all.push(floor);
    }
    Ok(all)
}

/// Of one core in per cent, and memory, while so many lines a second come.
pub(super) fn slow(palisade: &Path, fake: &Path, a_second: usize) -> Result<(f64, f64)> {
    say::progress(&format!("bench: {a_second} lines a second"));
    let mut rig = Rig::new(palisade, fake, "  files: [{ path: '@LOG@/*.log' }]\n")?;
    for n in 0..20 {
        rig.write(&format!("{n}.log"), 1)?;
    }
    rig.start()?;
    rig.settle(PATIENCE)?;
    // What a start costs is over by then.
    host::pause(Duration::from_secs(10));
    let before = rig.usage()?;
    if a_second > 0 {
        rig.live("0.log", a_second, WATCHED)?;
    } else {
        host::pause(WATCHED);
    }
    let Usage { cpu_s, now_mib, .. } = rig.usage()?;
    Ok(((cpu_s - before.cpu_s) / WATCHED.as_secs_f64() * 100.0, now_mib))
}

/// rsyslog's `imfile` into a plain TCP socket: no HTTP, no signatures, no acknowledgement.
fn rsyslog(lines: usize) -> Result<Option<Full>> {
    if find("rsyslogd").is_none() {
        say::line("rsyslog is not measured: rsyslogd is not installed");
        return Ok(None);
    }
    say::progress(&format!("bench: rsyslog, {lines} lines"));
    let dir = tempfile::tempdir().context("make a directory")?;
    let at = dir.path().display();
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let port = listener.local_addr().context("listen")?.port();
    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    // It connects more than once. The threads end with its connections, the first one with this program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || count_lines(stream, &count));
        }
    });
    host::write(
        &dir.path().join("rsyslog.conf"),
        format!(
            "global(workDirectory=\"{at}\")\nmodule(load=\"imfile\" mode=\"inotify\")\n\
             template(name=\"raw\" type=\"string\" string=\"%msg%\\n\")\n\
             input(type=\"imfile\" File=\"{at}/app.log\" Tag=\"b\" ruleset=\"out\")\n\
             ruleset(name=\"out\") {{ action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\" template=\"raw\") }}\n"
        ),
    )?;
    let mut file = std::fs::File::create(dir.path().join("app.log")).context("write the log")?;
    let line = format!("{:x<width$}\n", "", width = LINE - 1);
    file.write_all(line.repeat(lines).as_bytes()).context("write the log")?;
    let begin = host::now();
    let mut child = Cmd::new("rsyslogd")
        .args(["-n", "-f"])
        .arg(dir.path().join("rsyslog.conf"))
        .arg("-i")
        .arg(dir.path().join("pid"))
        .daemon(&dir.path().join("output"))?;
    let arrived = host::wait_until("rsyslog's last line", PATIENCE, || {
        ensure!(seen.load(Ordering::Relaxed) >= lines as u64, "it has not come");
        Ok(())
    });
    let seconds = begin.elapsed().as_secs_f64();
    let pid = i32::try_from(child.id()).context("a process id is a positive number")?;
    let used = usage(pid);
    signal(pid, Signal::SIGKILL)?;
    child.wait().context("wait for rsyslog")?;
    arrived?;
    let used = used?;
    Ok(Some(Full {
        name: "rsyslog, plain TCP",
        cpu_s_per_million: a_million(used.cpu_s, lines),
        lines_a_second: ratio(lines as u64, 1) / seconds,
        peak_mib: used.peak_mib,
        wire: None,
        puts: 0,
        out_of_order: 0,
    }))
}

fn count_lines(mut stream: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        let ends = buffer.iter().take(n).filter(|b| **b == b'\n').count();
        count.fetch_add(ends as u64, Ordering::Relaxed);
    }
}

fn a_million(cpu_s: f64, lines: usize) -> f64 {
    cpu_s * 1e6 / ratio(lines as u64, 1)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
