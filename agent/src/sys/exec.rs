//! Running a helper program to its end: absolute path, cleared environment, bounded output, deadline.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time,
};

use super::children::{Children, Ours};

/// Output beyond this is read and thrown away.
const MAX_OUTPUT: u64 = 16 << 20;

/// A helper program to run.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Cmd {
    /// A program by absolute path, with no arguments, no environment, no input and ten seconds.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            deadline: Duration::from_secs(10),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Adds one variable to the empty environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads on its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may take before it is killed.
    #[must_use]
    pub fn deadline(mut self, d: Duration) -> Self {
        self.deadline = d;
        self
    }
}

/// How a helper program ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code, or none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, cut at 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, cut at 16 MiB.
    pub stderr: Vec<u8>,
}

/// Why a helper program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Not an absolute path.
    #[error("program {0} is not given by absolute path")]
    Relative(PathBuf),
    /// The kernel would not start it.
    #[error("start {program}")]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its pipes broke in a way that is not its end.
    #[error("talk to {program}")]
    Pipe {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long and was killed. What it did until then is done.
    #[error("{program} did not end within {deadline:?} and was killed")]
    Deadline {
        /// Which.
        program: PathBuf,
        /// The deadline.
        deadline: Duration,
    },
}

/// Runs the program to its end.
///
/// # Errors
/// When it cannot be started or does not end in time. A bad exit code is not an error here.
pub async fn run(children: &Children, cmd: Cmd) -> Result<Output, ExecError> {
    let program = cmd.program.clone();
    if !program.is_absolute() {
        return Err(ExecError::Relative(program));
    }
    let (mut child, ours) = children
        .start(|| {
            let child = command(&cmd).spawn()?;
            let pid = child.id().and_then(|p| i32::try_from(p).ok()).unwrap_or(0);
            Ok((child, pid))
        })
        .map_err(|source| ExecError::Start { program: program.clone(), source })?;

    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut pipe) = stdin {
            // A program that does not read all its input is free to: its exit code counts.
            if pipe.write_all(&cmd.stdin).await.is_ok() {
                pipe.shutdown().await.unwrap_or_default();
            }
        }
        Ok(())
    };
    let talk = async { tokio::try_join!(feed, read_bounded(stdout), read_bounded(stderr)) };
    let whole = async {
        let ((), out, err) = talk.await?;
        Ok::<_, io::Error>((child.wait().await?, out, err))
    };
    let ended = time::timeout(cmd.deadline, whole).await;
    let result = match ended {
        Ok(Ok((status, stdout, stderr))) => Ok(Output { code: status.code(), stdout, stderr }),
        Ok(Err(source)) => Err(ExecError::Pipe { program, source }),
        Err(_) => {
            // Killed and reaped before we answer, so that "failed" means "does nothing more".
            child.kill().await.unwrap_or_default();
            Err(ExecError::Deadline { program, deadline: cmd.deadline })
        }
    };
    drop(ours);
    result
}

/// A helper program that goes on until it is dropped; it is killed then.
#[derive(Debug)]
pub(super) struct Running {
    _child: tokio::process::Child,
    _ours: Ours,
}

/// Starts a program that goes on, without input; what it prints can be read from the descriptor.
///
/// # Errors
/// When it cannot be started.
pub(super) fn stream(children: &Children, cmd: Cmd) -> Result<(Running, OwnedFd), ExecError> {
    let program = cmd.program.clone();
    if !program.is_absolute() {
        return Err(ExecError::Relative(program));
    }
    let (mut child, ours) = children
        .start(|| {
            let child = command(&cmd).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let pid = child.id().and_then(|p| i32::try_from(p).ok()).unwrap_or(0);
            Ok((child, pid))
        })
        .map_err(|source| ExecError::Start { program: program.clone(), source })?;
    let pipe = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"));
    let out = pipe
        .and_then(tokio::process::ChildStdout::into_owned_fd)
        .map_err(|source| ExecError::Pipe { program, source })?;
    Ok((Running { _child: child, _ours: ours }, out))
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
fn command(cmd: &Cmd) -> Command {
    let mut c = Command::new(Path::new(&cmd.program));
    c.args(&cmd.args)
        .env_clear()
        .envs(cmd.env.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    c
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut pipe).take(MAX_OUTPUT).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_goes_in_and_output_and_code_come_out() {
        let cmd = Cmd::new("/bin/sh").args(["-c", "cat; echo bad >&2; exit 3"]).stdin("hello");
        let out = run(&Children::default(), cmd).await.unwrap();
        assert_eq!(
            (out.code, &out.stdout[..], &out.stderr[..]),
            (Some(3), &b"hello"[..], &b"bad\n"[..])
        );
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_before_the_answer() {
        let cmd = Cmd::new("/bin/sleep").args(["60"]).deadline(Duration::from_millis(50));
        let err = run(&Children::default(), cmd).await.unwrap_err();
        assert!(matches!(err, ExecError::Deadline { .. }), "{err}");
    }

    #[tokio::test]
    async fn a_relative_program_is_refused() {
        assert!(matches!(
            run(&Children::default(), Cmd::new("sh")).await,
            Err(ExecError::Relative(_))
        ));
    }
}
