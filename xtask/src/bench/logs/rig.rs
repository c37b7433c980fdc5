//! An agent that follows one file, the stand-in for CloudWatch Logs, and who writes the file.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::{
    bench::chatter::{Endpoint, ticks},
    cmd::Cmd,
    host,
    process::signal,
};

/// Length of a line with its end.
pub(super) const LINE: usize = 200;
/// How long an agent may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the stand-in counted.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Arrived {
    pub(super) lines: u64,
    pub(super) distinct: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    pub(super) puts: u64,
    pub(super) wire_bytes: u64,
    pub(super) message_bytes: u64,
    pub(super) violations: std::collections::BTreeMap<String, u64>,
}

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    pub(super) peak_mib: f64,
    pub(super) now_mib: f64,
}

pub(super) struct Rig {
    dir: tempfile::TempDir,
    palisade: PathBuf,
    fake: Endpoint,
    agent: Option<Child>,
    written: usize,
}

impl Rig {
    /// Everything but the agent; `more` are further keys of the section `logs`.
    pub(super) fn new(palisade: &Path, fake: &Path, more: &str) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a directory")?;
        fs::create_dir(dir.path().join("log")).context("make a directory")?;
        let at = dir.path().display();
        let text = format!(
            "version: 1\nhost: {{ role: origin, state_dir: {at}/state, run_dir: {at}/run, cgroup: off }}\n\
             control: {{ socket: {at}/sock, group: root }}\naws: {{ region: eu-central-1 }}\n\
             logs:\n  group: /bench\n  stream: one\n  sink: cloudwatch\n  agent: false\n{more}"
        );
        host::write(
            &dir.path().join("palisade.yaml"),
            text.replace("@LOG@", &format!("{at}/log")),
        )?;
        let fake = Endpoint::start(fake, dir.path())?;
        Ok(Self { dir, palisade: palisade.to_owned(), fake, agent: None, written: 0 })
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let config = self.dir.path().join("palisade.yaml");
        let cmd = Cmd::new(&self.palisade)
            .args(["run", "--log", "text", "-c"])
            .arg(config)
            .env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", self.fake.url())
            .env("AWS_ACCESS_KEY_ID", "AKIABENCH")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        self.agent = Some(cmd.daemon(&self.dir.path().join("agent.log"))?);
        let socket = self.dir.path().join("sock");
        host::wait_until("the agent", PATIENCE, || {
            ensure!(socket.exists(), "it does not answer");
            Ok(())
        })
    }

    /// SIGKILL; what was on its way is in doubt.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// SIGTERM, and waits for its end.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, how: Signal) -> Result<()> {
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        signal(pid_of(&agent)?, how)?;
        host::wait_until("the agent's end", PATIENCE, || {
            agent.try_wait()?.context("it still runs")
        })?;
        // A socket of the dead would look like an agent that is there.
        fs::remove_file(self.dir.path().join("sock")).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })?;
        Ok(())
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        usage(pid_of(self.agent.as_ref().context("no agent runs")?)?)
    }

    /// Appends so many new lines to a file at once.
    pub(super) fn write(&mut self, name: &str, lines: usize) -> Result<()> {
        let range = self.written..self.written + lines;
        self.written = range.end;
        append(&self.log(name), range)
    }

    /// Appends lines for so long, at most so many a second, in hundredths of a second.
    pub(super) fn live(&mut self, name: &str, a_second: usize, span: Duration) -> Result<()> {
        let begin = host::now();
        let mut sent = 0;
        while begin.elapsed() < span {
            let due = usize::try_from(begin.elapsed().as_millis())? * a_second / 1000;
            if due > sent {
                self.write(name, due - sent)?;
                sent = due;
            }
            host::pause(Duration::from_millis(10));
        }
        Ok(())
    }

    /// `app.log` becomes `app.log.1`, and so on; a new one begins.
    pub(super) fn rename(&self) -> Result<()> {
        self.shift()?;
        fs::rename(self.log("app.log"), self.log("app.log.1")).context("rotate")?;
        File::create(self.log("app.log")).context("rotate").map(drop)
    }

    /// `app.log` is copied to `app.log.1` and emptied.
    pub(super) fn copy(&self) -> Result<()> {
        self.shift()?;
        fs::copy(self.log("app.log"), self.log("app.log.1")).context("rotate")?;
        let file = File::options().write(true).open(self.log("app.log")).context("rotate")?;
        file.set_len(0).context("rotate")
    }

    fn shift(&self) -> Result<()> {
        for n in (1..9).rev() {
            let from = self.log(&format!("app.log.{n}"));
            if from.exists() {
                fs::rename(from, self.log(&format!("app.log.{}", n + 1))).context("rotate")?;
            }
        }
        Ok(())
    }

    /// What goes wrong at the service from now on, as JSON; `{}` is nothing.
    pub(super) fn faults(&self, json: &str) -> Result<()> {
        self.fake.ask("POST", "/_fake/faults", json).map(drop)
    }

    pub(super) fn delete_streams(&self) -> Result<()> {
        self.fake.ask("POST", "/_fake/delete-streams", "").map(drop)
    }

    pub(super) fn arrived(&self) -> Result<Arrived> {
        let text = self.fake.ask("GET", "/_fake/stats", "")?;
        serde_json::from_str(&text).context("read the stand-in's figures")
    }

    /// How many lines were written.
    pub(super) fn written(&self) -> u64 {
        self.written as u64
    }

    /// Waits until every line that was written has arrived, or no more do.
    pub(super) fn settle(&self, within: Duration) -> Result<Arrived> {
        let begin = host::now();
        loop {
            let arrived = self.arrived()?;
            if arrived.distinct >= self.written() || begin.elapsed() > within {
                return Ok(arrived);
            }
            host::pause(Duration::from_millis(20));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Ours to end, whatever state it is in.
        drop(self.kill());
    }
}

fn pid_of(child: &Child) -> Result<i32> {
    i32::try_from(child.id()).context("a process id is a positive number")
}

/// What a process used.
pub(super) fn usage(pid: i32) -> Result<Usage> {
    let stat = host::read(Path::new(&format!("/proc/{pid}/stat")))?;
    let ticks = ticks(&stat).context("read the kernel's figures")?;
    let status = host::read(Path::new(&format!("/proc/{pid}/status")))?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).context("no such figure")?;
        let kib: f64 = line.trim().split(' ').next().unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    };
    #[expect(clippy::cast_precision_loss, reason = "ticks of minutes")]
    let cpu_s = ticks as f64 / 100.0;
    Ok(Usage { cpu_s, peak_mib: mib("VmHWM:")?, now_mib: mib("VmRSS:")? })
}

/// Numbered lines of access-log shape.
fn append(path: &Path, range: Range<usize>) -> Result<()> {
    let file = File::options().append(true).create(true).open(path).context("open the log")?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for n in range {
        let mut line = format!(
            "{n:09} 203.0.113.{} - - \"GET /shop/item/{}?page={} HTTP/1.1\" 200 {} \"https://example.com/\" \
             \"Mozilla/5.0\" ",
            n % 251,
            n % 9973,
            n % 17,
            n * 7919 % 60_000
        );
        while line.len() + 1 < LINE {
            line.push(char::from(b'a' + u8::try_from((line.len() * 31 + n) % 26)?));
        }
        line.truncate(LINE - 1);
        writeln!(out, "{line}").context("write the log")?;
    }
    out.flush().context("write the log")
}
