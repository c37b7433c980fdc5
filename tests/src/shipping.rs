//! A shipper of logs as a black box: the program `ship` (an example of `agent/aws`) against the
//! strict fake, with what tests and the benchmark need around it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    ops::Range,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::aws::logs::{Fake, Faults, Stats};

/// A running `ship`. It is killed when dropped.
#[derive(Debug)]
pub struct Ship {
    child: Child,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// Largest resident memory, in MiB.
    pub peak_rss_mib: f64,
}

impl Ship {
    /// Starts it against a fake, and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not start.
    #[expect(clippy::disallowed_methods, reason = "the harness starts the program under test")]
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        url: &str,
        args: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .env("AWS_ENDPOINT_URL", url)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut first = String::new();
        if let Some(out) = child.stdout.take() {
            let mut out = BufReader::new(out);
            out.read_line(&mut first)?;
            // Kept open and unread: a few lines fit into the pipe.
            child.stdout = Some(out.into_inner());
        }
        if first.trim() != "ready" {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("ship did not start: {first:?}")));
        }
        Ok(Self { child })
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for, or does not end well.
    pub fn terminate(mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }

    /// What it used so far.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub fn usage(&self) -> io::Result<Usage> {
        let pid = self.child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u32 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|t| t.parse::<u32>().ok())
            .sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let hwm = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib: u32 =
            hwm.and_then(|v| v.trim().split(' ').next()).and_then(|v| v.parse().ok()).unwrap_or(0);
        // The kernel counts in hundredths of a second on every platform that we run on.
        Ok(Usage { cpu_s: f64::from(ticks) / 100.0, peak_rss_mib: f64::from(kib) / 1024.0 })
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// One numbered line of access-log shape, `len` bytes with its newline.
#[must_use]
pub fn line(n: usize, len: usize) -> String {
    let head = format!(
        "{n:09} 203.0.113.{} - - \"GET /shop/item/{}?page={} HTTP/1.1\" 200 {} \"https://example.com/\" \"Mozilla/5.0\" ",
        n % 251,
        n % 9973,
        n % 17,
        n * 7919 % 60_000
    );
    let mut text = head;
    while text.len() + 1 < len {
        text.push(char::from(b'a' + u8::try_from((text.len() * 31 + n) % 26).unwrap_or(0)));
    }
    text.truncate(len.saturating_sub(1));
    text.push('\n');
    text
}

/// Appends numbered lines of 200 bytes to a file, made if absent.
///
/// # Errors
/// When it cannot be written.
pub fn write_lines(path: &Path, range: Range<usize>) -> io::Result<()> {
    let file = File::options().append(true).create(true).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for n in range {
        out.write_all(line(n, 200).as_bytes())?;
    }
    out.flush()
}

/// Looks at the fake again and again until it is so, for at most `cap`; the last look either way.
#[expect(clippy::disallowed_methods, reason = "bounded polling of another process in real time")]
pub fn wait_for(fake: &Fake, cap: Duration, cond: impl Fn(&Stats) -> bool) -> Stats {
    let start = Instant::now();
    loop {
        let stats = fake.stats();
        if cond(&stats) || start.elapsed() > cap {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Lines in the file.
    pub lines: usize,
    /// With gzip bodies.
    pub gzip: bool,
    /// Lines that did not arrive.
    pub lost: u64,
    /// Lines that arrived again.
    pub doubled: u64,
    /// Lines that arrived after a later one of their stream.
    pub out_of_order: u64,
    /// Rules of PutLogEvents that were broken.
    pub violations: u64,
    /// Time until the last line was in.
    pub seconds: f64,
    /// Processor time per million lines.
    pub cpu_s_per_million: f64,
    /// Largest resident memory, in MiB.
    pub peak_rss_mib: f64,
    /// Requests that were accepted.
    pub puts: u64,
    /// Bytes of all bodies.
    pub wire_bytes: u64,
}

/// Ships a file of `lines` lines of 200 bytes at full speed and measures `program` alone.
///
/// # Errors
/// When the program does not start or `/proc` does not tell.
#[expect(clippy::disallowed_methods, reason = "a measurement takes real time")]
pub fn bench(program: &Path, dir: &Path, lines: usize, gzip: bool) -> io::Result<Report> {
    let fake = Fake::start(Faults::default())?;
    let (log, state) = (dir.join("bench.log"), dir.join("state"));
    write_lines(&log, 0..lines)?;
    let mut args =
        vec![OsStr::new("--state"), state.as_os_str(), OsStr::new("--file"), log.as_os_str()];
    args.extend(gzip.then_some(OsStr::new("--compress")));
    let start = Instant::now();
    let ship = Ship::start(program, &fake.url(), args)?;
    let all = u64::try_from(lines).unwrap_or(u64::MAX);
    let stats = wait_for(&fake, Duration::from_secs(300), |s| s.distinct >= all);
    let seconds = start.elapsed().as_secs_f64();
    let usage = ship.usage()?;
    ship.terminate()?;
    let stats_after = fake.stats();
    Ok(Report {
        lines,
        gzip,
        lost: all.saturating_sub(stats_after.distinct),
        doubled: stats_after.duplicates,
        out_of_order: stats_after.out_of_order,
        violations: stats_after.violations.values().sum(),
        seconds,
        cpu_s_per_million: usage.cpu_s * 1e6 / f64::from(u32::try_from(lines).unwrap_or(u32::MAX)),
        peak_rss_mib: usage.peak_rss_mib,
        puts: stats.puts,
        wire_bytes: stats.wire_bytes,
    })
}
