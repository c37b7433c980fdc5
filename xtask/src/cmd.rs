//! Starting other programs: every one has a deadline, and an error that shows what it said.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::host;

/// How long a program may take unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program to be run.
#[derive(Debug)]
pub(crate) struct Cmd {
    command: Command,
    patience: Duration,
    shown: String,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Both outputs as one, for messages.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Cmd {
    /// A program by name or path.
    #[expect(clippy::disallowed_methods, reason = "the one place where chores start processes")]
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = Path::new(program.as_ref())
            .file_name()
            .unwrap_or(program.as_ref())
            .to_string_lossy()
            .into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, patience: PATIENCE, shown }
    }

    /// A program inside a network namespace. `nsenter` and not `ip netns exec`, which would mount
    /// another `/sys`. It becomes the program, so the process id is the program's own.
    pub(crate) fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Self {
        let mut cmd = Self::new("nsenter").arg(format!("--net=/run/netns/{namespace}")).arg("--");
        cmd.command.arg(program.as_ref());
        cmd.shown = Path::new(program.as_ref())
            .file_name()
            .unwrap_or(program.as_ref())
            .to_string_lossy()
            .into_owned();
        cmd
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Only `PATH`, and what is added after this call.
    pub(crate) fn bare_env(mut self) -> Self {
        self.command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub(crate) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn said(mut self) -> Result<Said> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start()?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let status = self.wait(&mut child)?;
        Ok(Said { status, stdout: joined(stdout), stderr: joined(stderr) })
    }

    /// Runs it to a good end and returns its standard output.
    pub(crate) fn run(self) -> Result<String> {
        let shown = self.shown.clone();
        let said = self.said()?;
        if !said.status.success() {
            bail!("`{shown}` ended with {}: {}", said.status, said.all().trim());
        }
        Ok(said.stdout)
    }

    /// Runs it to its end with our own output.
    pub(crate) fn show(mut self) -> Result<ExitStatus> {
        let mut child = self.start()?;
        self.wait(&mut child)
    }

    /// Runs it and hands each line of its standard output on as it comes; stderr is ours.
    pub(crate) fn lines(mut self, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
        use std::io::BufRead as _;
        self.command.stdout(Stdio::piped());
        let mut child = self.start()?;
        if let Some(out) = child.stdout.take() {
            for line in std::io::BufReader::new(out).split(b'\n') {
                each(&String::from_utf8_lossy(&line.context("read its output")?));
            }
        }
        self.wait(&mut child)
    }

    /// Runs it to its end with its standard output in one new file, and stderr in another.
    pub(crate) fn into_files(mut self, out: &Path, err: &Path) -> Result<ExitStatus> {
        let new = |p: &Path| File::create(p).with_context(|| format!("make {}", p.display()));
        self.command.stdout(new(out)?).stderr(new(err)?);
        let mut child = self.start()?;
        self.wait(&mut child)
    }

    /// Becomes it; comes back only with what hindered it.
    pub(crate) fn replace_us(mut self) -> anyhow::Error {
        anyhow::Error::from(self.command.exec()).context(format!("start {}", self.shown))
    }

    /// Starts it in a process group of its own with its output in a file, and lets it run.
    pub(crate) fn daemon(mut self, log: &Path) -> Result<Child> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let again = file.try_clone().context("share the log file")?;
        self.command.stdout(file).stderr(again).process_group(0);
        self.start()
    }

    /// Starts it with its standard output piped to us, and lets it run.
    pub(crate) fn piped(mut self) -> Result<Child> {
        self.command.stdout(Stdio::piped());
        self.start()
    }

    fn start(&mut self) -> Result<Child> {
        self.command.spawn().with_context(|| format!("start {}", self.shown))
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let end = host::now() + self.patience;
        loop {
            if let Some(status) = child.try_wait().context("wait for a program")? {
                return Ok(status);
            }
            if host::now() >= end {
                // It may end by itself this instant; then there is nothing to kill.
                drop(child.kill());
                child.wait().context("wait for a killed program")?;
                bail!(
                    "`{}` took longer than {} s and was killed",
                    self.shown,
                    self.patience.as_secs()
                );
            }
            host::pause(Duration::from_millis(1));
        }
    }
}

/// The path of a program on this machine, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before the error is still the best that can be shown.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

fn joined(reader: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_was_run_and_said() {
        let e = Cmd::new("sh").args(["-c", "echo no >&2; exit 3"]).run().unwrap_err();
        let text = format!("{e:#}");
        assert!(text.contains("`sh -c") && text.contains("exit status: 3") && text.contains("no"));
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_its_deadline() {
        let e = Cmd::new("sleep").arg("60").within(Duration::from_millis(50)).said().unwrap_err();
        assert!(e.to_string().contains("was killed"), "{e:#}");
    }
}
