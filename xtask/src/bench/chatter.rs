//! Log lines for each second of CPU that the supervisor itself spends: Supervisor writes them to a
//! file, palisade ships them to the strict stand-in for CloudWatch Logs. That is more work for
//! palisade (a spool on disk, signed and compressed requests), and the figure includes it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::peers::{Peer, Running, Tools};
use crate::{
    cmd::Cmd,
    host,
    net::{self, HttpArgs},
};

/// How long all lines may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Length of a line without its end.
pub(crate) const LINE: usize = 100;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) peer: Peer,
    pub(crate) lines: u32,
    /// CPU that the supervisor used from its start to the last line's arrival.
    pub(crate) cpu_seconds: f64,
}

impl Figures {
    pub(crate) fn lines_per_cpu_second(self) -> f64 {
        f64::from(self.lines) / self.cpu_seconds.max(0.001)
    }
}

/// What `__talk` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TalkArgs {
    lines: u32,
    /// Begin once this file is there.
    #[arg(long)]
    after: Option<PathBuf>,
    /// Write each line by itself, and not 64 KiB at a time.
    #[arg(long)]
    each: bool,
    /// Stay when all is said.
    #[arg(long)]
    stay: bool,
}

/// The program that talks: so many different lines, as fast as they are taken.
pub(crate) fn talk(args: &TalkArgs) -> Result<()> {
    use std::io::Write as _;
    if let Some(word) = &args.after {
        host::wait_until("the word to begin", PATIENCE, || {
            ensure!(word.exists(), "it is not there");
            Ok(())
        })?;
    }
    let room = if args.each { LINE + 1 } else { 1 << 16 };
    let mut out = std::io::BufWriter::with_capacity(room, std::io::stdout().lock());
    let lines = args.lines;
    for n in 0..lines {
        writeln!(out, "{n:010} {:x<width$}", "", width = LINE - 11).context("write a line")?;
    }
    out.flush().context("write the last line")?;
    if !args.stay {
        return Ok(());
    }
    loop {
        host::pause(Duration::from_secs(3_600));
    }
}

/// Measures one supervisor.
pub(crate) fn figures(
    peer: Peer,
    tools: &Tools,
    fake: &Path,
    dir: &Path,
    lines: u32,
) -> Result<Figures> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let program = format!("{} __talk {lines}", host::own_program()?.display());
    let shown = dir.display();
    let (text, endpoint) = match peer {
        Peer::Circus | Peer::S6 | Peer::Runit => bail!("{} ships nothing", peer.name()),
        Peer::Supervisord => {
            let text = format!(
                "[supervisord]\nlogfile={shown}/supervisord.log\npidfile={shown}/pid\n\
                 [program:talker]\ncommand={program}\nautorestart=false\nstartsecs=0\n\
                 stdout_logfile={shown}/talker.log\nstdout_logfile_maxbytes=0\n"
            );
            (text, None)
        }
        Peer::Palisade => {
            let text = format!(
                "version: 1\nhost: {{ role: origin, state_dir: {shown}/state, run_dir: {shown}/run }}\n\
                 control: {{ socket: {shown}/sock }}\naws: {{ region: eu-central-1 }}\n\
                 programs:\n  talker:\n    command: {program}\n    autorestart: false\n    \
                 startsecs: 0s\n    stdout_logfile: NONE\n    stderr_logfile: NONE\n\
                 logs: {{ group: /bench, stream: \"{{process}}\", programs: true, agent: false, sink: cloudwatch }}\n"
            );
            (text, Some(Endpoint::start(fake, dir)?))
        }
    };
    let url = endpoint.as_ref().map(|e| e.url.as_str());
    let running = peer.start_with(tools, dir, &text, url)?;
    let file = dir.join("talker.log");
    host::wait_until("arrival of the last line", PATIENCE, || {
        let arrived = match &endpoint {
            None => fs::metadata(&file).map_or(0, |m| m.len()) / (LINE as u64 + 1),
            Some(endpoint) => endpoint.lines()?,
        };
        // A look costs the stand-in something, and the supervisor nothing.
        host::pause(Duration::from_millis(50));
        ensure!(arrived >= u64::from(lines), "{arrived} of {lines} lines arrived");
        Ok(())
    })
    .with_context(|| running.output())?;
    Ok(Figures { peer, lines, cpu_seconds: cpu_seconds(&running)? })
}

/// The stand-in for CloudWatch Logs, on a free port of loopback.
#[derive(Debug)]
pub(super) struct Endpoint {
    child: Child,
    url: String,
}

impl Endpoint {
    pub(super) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let log = dir.join("fake.log");
        let mut child =
            Cmd::new(binary).args(["--listen", "127.0.0.1:0"]).bare_env().daemon(&log)?;
        let url = host::wait_until("the stand-in's address", Duration::from_secs(10), || {
            let text = host::read(&log)?;
            let said = text.split_once("listening on ").context("it does not listen yet")?.1;
            Ok(said.lines().next().unwrap_or_default().trim().to_owned())
        });
        match url {
            Ok(url) => Ok(Self { child, url }),
            Err(e) => {
                // Ours, and of no use without an address.
                drop(child.kill());
                Err(e)
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The body of its answer.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let request = HttpArgs {
            to: self.url.trim_start_matches("http://").parse().context("read its address")?,
            method: method.to_owned(),
            path: path.to_owned(),
            header: Vec::new(),
            body: body.to_owned(),
            timeout_ms: 10_000,
        };
        let answer = net::block_on(net::http(request))?;
        ensure!(answer.status == 200, "{path}: {}", answer.body);
        Ok(answer.body)
    }

    fn lines(&self) -> Result<u64> {
        let text = self.ask("GET", "/_fake/stats", "")?;
        let stats: Value = serde_json::from_str(&text).context("read its figures")?;
        stats["lines"].as_u64().context("it tells no lines")
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Ours, and it keeps nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// User and system time of a process, threads that have ended included.
fn cpu_seconds(running: &Running) -> Result<f64> {
    let stat = host::read(Path::new(&format!("/proc/{}/stat", running.pid()?)))?;
    let ticks = ticks(&stat).context("read the kernel's figures")?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    #[expect(clippy::cast_precision_loss, reason = "ticks of minutes")]
    Ok(ticks as f64 / hertz as f64)
}

pub(crate) fn ticks(stat: &str) -> Option<u64> {
    // The name before the last parenthesis may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_figures() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 1000 10";
        assert_eq!(ticks(stat), Some(42));
    }
}
