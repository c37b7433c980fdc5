//! Programs that end: each has a deadline, and its output is read while it runs.
#![expect(clippy::disallowed_methods, reason = "a harness waits for the real world")]

use std::{
    io::Read,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How often something that takes seconds is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// No more of a program's output is kept; the rest is read and dropped, so that it never blocks.
const KEPT: usize = 8 << 20;

/// Runs it to its end; one that takes longer than `patience` is killed, which is an error.
pub(super) fn output(command: &mut Command, patience: Duration) -> Result<Output> {
    fed(command, Stdio::null(), patience)
}

/// The same with a standard input.
pub(super) fn fed(command: &mut Command, stdin: Stdio, patience: Duration) -> Result<Output> {
    let shown = shown(command);
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{shown}`"))?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let ended = wait(patience, || child.try_wait().context("wait for a program"))?;
    let Some(status) = ended else {
        // It may end by itself this instant; then there is nothing to kill.
        drop(child.kill());
        child.wait().context("wait for a killed program")?;
        bail!("`{shown}` took longer than {} s and was killed", patience.as_secs());
    };
    let joined = |r: thread::JoinHandle<Vec<u8>>| r.join().unwrap_or_default();
    Ok(Output { status, stdout: joined(stdout), stderr: joined(stderr) })
}

/// Runs it to a good end and returns what it printed.
pub(crate) fn run(command: &mut Command, patience: Duration) -> Result<String> {
    let shown = shown(command);
    let done = output(command, patience)?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("`{shown}` ended with {}: {}{}", done.status, text.trim(), errors.trim());
    }
    Ok(text)
}

/// Looks again and again until there is something, for at most `patience`; then `None`.
pub(super) fn wait<T>(
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// A program's name and arguments; of a whole script as an argument only that it is one.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let texts = words.map(|w| w.to_string_lossy());
    let short: Vec<_> =
        texts.map(|t| if t.contains('\n') { "(script)".into() } else { t }).collect();
    short.join(" ").chars().take(600).collect()
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut piece = vec![0; 64 << 10];
        let Some(mut pipe) = pipe else { return kept };
        while let Ok(n) = pipe.read(&mut piece) {
            let Some(read) = piece.get(..n).filter(|p| !p.is_empty()) else { break };
            let room = KEPT.saturating_sub(kept.len()).min(n);
            kept.extend(read.iter().take(room));
        }
        kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_at_its_deadline() {
        let e = output(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(e.to_string().contains("`sleep 60` took longer"), "{e:#}");
    }

    #[test]
    fn a_failure_shows_both_outputs() {
        let mut sh = Command::new("sh");
        let e = run(sh.args(["-c", "echo out; echo no >&2; exit 3"]), Duration::from_secs(30));
        let text = format!("{:#}", e.unwrap_err());
        assert!(text.contains("exit status: 3: outno"), "{text}");
    }
}
