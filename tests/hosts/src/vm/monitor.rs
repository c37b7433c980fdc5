//! QEMU's control socket (QMP): one command at a time, with a bound on the answer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Saving a guest's memory takes seconds on a loaded machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A connection that is ready for commands.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("connect to QEMU's monitor")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).context("bound QEMU's answers")?;
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.message().context("read QEMU's greeting")?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// A line as one would type it in QEMU's own monitor. What it prints is an error message.
    pub(super) fn human(&mut self, line: &str) -> Result<()> {
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        match said.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            text => bail!("QEMU refuses `{line}`: {text}"),
        }
    }

    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.lines.get_mut().write_all(line.as_bytes()).context("write to QEMU's monitor")?;
        loop {
            let mut message = self.message().with_context(|| format!("wait for `{command}`"))?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses `{command}`: {error}");
            }
            // Anything else is an event, which nobody here waits for.
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).context("read from QEMU's monitor")? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).context("understand QEMU's monitor")
    }
}
