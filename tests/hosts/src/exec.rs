//! Starting other programs: every one has a deadline, and an error that shows what it said. Output
//! goes through files, so that a grandchild that keeps it open holds nobody up.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

/// How long a program may take unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// More output than this is cut off.
const MAX_OUTPUT: u64 = 16 << 20;

/// A program to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    patience: Duration,
    shown: String,
}

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Both outputs as one, for messages.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The exit code, if it was not killed.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether it ended with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

impl Cmd {
    /// A program by name or path, without input.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, patience: PATIENCE, shown }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// A variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Where it starts.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What it reads from its standard input.
    ///
    /// # Errors
    /// When there is no room for a temporary file.
    pub fn input(mut self, bytes: &[u8]) -> Result<Self> {
        let mut file = tempfile::tempfile().context("make a file for input")?;
        file.write_all(bytes).context("write input")?;
        file.rewind().context("rewind input")?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Lets it read a file from its standard input.
    #[must_use]
    pub fn input_file(mut self, file: File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub fn said(mut self) -> Result<Output> {
        let stdout = tempfile::tempfile().context("make a file for output")?;
        let stderr = tempfile::tempfile().context("make a file for errors")?;
        self.command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let mut child = self.start()?;
        let ended = self.wait(&mut child);
        let (stdout, stderr) = (content(stdout)?, content(stderr)?);
        let status = ended.with_context(|| format!("it had said: {stdout}{stderr}"))?;
        Ok(Output { status, stdout, stderr })
    }

    /// Runs it to a good end and returns its standard output.
    ///
    /// # Errors
    /// As [`Cmd::said`], and when it ends badly.
    pub fn run(self) -> Result<String> {
        let shown = self.shown.clone();
        let said = self.said()?;
        if !said.success() {
            bail!("`{shown}` ended with {}: {}", said.status, said.all().trim());
        }
        Ok(said.stdout)
    }

    /// Starts it with its output in a file and a pipe to its standard input, and lets it run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn piped(mut self, log: &Path) -> Result<Child> {
        self.command.stdin(Stdio::piped());
        self.daemon(log)
    }

    /// Starts it with its output in a file, and lets it run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn daemon(mut self, log: &Path) -> Result<Child> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        self.start()
    }

    fn start(&mut self) -> Result<Child> {
        self.command.spawn().with_context(|| format!("start `{}`", self.shown))
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(status) = child.try_wait().context("wait for a program")? {
                return Ok(status);
            }
            go_on(child);
            if Instant::now() >= end {
                // It may end by itself this instant; then there is nothing to kill.
                drop(child.kill());
                child.wait().context("wait for a killed program")?;
                bail!("`{}` took longer than {:?} and was killed", self.shown, self.patience);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Lets a program go on that stopped. A host that shuts down stops all its processes for a moment;
/// `nsenter` then stops itself, for ever, and does not reap the program that it entered the host with,
/// which the host waits for until its own deadlines, three minutes in all.
fn go_on(child: &Child) {
    let Ok(pid) = i32::try_from(child.id()).map(Pid::from_raw) else { return };
    let stopped = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    if matches!(stopped, Ok(WaitStatus::Stopped(..))) {
        // It may be gone this instant; then it needs no signal.
        kill(pid, Signal::SIGCONT).ok();
    }
}

fn content(mut file: File) -> Result<String> {
    file.rewind().context("rewind output")?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT).read_to_end(&mut bytes).context("read output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a program is installed on this machine.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into))
        .any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_stops_itself_is_let_go_on() {
        let said = Cmd::new("sh").args(["-c", "kill -STOP $$; echo on"]).run().unwrap();
        assert_eq!(said, "on\n");
    }

    #[test]
    fn a_failure_shows_what_was_run_and_said() {
        let e = Cmd::new("sh").args(["-c", "echo no >&2; exit 3"]).run().unwrap_err();
        let text = format!("{e:#}");
        assert!(text.contains("`sh -c") && text.contains("exit status: 3") && text.contains("no"));
    }

    #[test]
    fn a_grandchild_that_keeps_the_output_open_holds_nobody_up() {
        let start = Instant::now();
        let cmd = Cmd::new("sh").args(["-c", "sleep 20 & echo $!; exec sleep 20"]);
        let e = format!("{:#}", cmd.within(Duration::from_millis(300)).said().unwrap_err());
        assert!(e.contains("was killed") && start.elapsed() < Duration::from_secs(10), "{e}");
        let (_, said) = e.split_once("it had said: ").unwrap();
        let pid = said.lines().next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(Cmd::new("cat").input(b"a\nb").unwrap().run().unwrap(), "a\nb");
    }
}
