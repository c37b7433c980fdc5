//! Commands in a guest by ssh: one connection is kept, and each command is a channel of it.
#![expect(clippy::disallowed_methods, reason = "a harness starts programs")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::bounded;

/// One question to the kept connection.
const ASK_WITHIN: Duration = Duration::from_secs(20);

/// How to reach a guest.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The network namespace where QEMU listens, if not ours.
    pub(super) netns: Option<String>,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) key: PathBuf,
}

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Shell {
    address: Address,
    socket: PathBuf,
    master: Child,
}

impl Shell {
    /// Connects as soon as the guest's sshd answers; `alive` says whether waiting makes sense.
    pub(super) fn connect(
        address: &Address,
        socket: &Path,
        patience: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut shell =
            Self { address: address.clone(), socket: socket.to_owned(), master: master(address, socket)? };
        let up = bounded::wait(patience, || {
            alive()?;
            if shell.is_up() {
                return Ok(Some(()));
            }
            // The guest closed the connection: its sshd is not there yet.
            if shell.master.try_wait().context("wait for ssh")?.is_some() {
                shell.master = master(address, socket)?;
            }
            Ok(None)
        })?;
        if up.is_none() {
            bail!("no ssh connection to the guest within {} s", patience.as_secs());
        }
        Ok(shell)
    }

    /// Runs a shell command as root.
    pub(super) fn run(&self, command: &str, stdin: Stdio, patience: Duration) -> Result<Output> {
        let line = if self.address.user == "root" {
            command.to_owned()
        } else {
            format!("sudo -n sh -c {}", quoted(command))
        };
        bounded::fed(client(&self.address, &self.socket).arg(line), stdin, patience)
    }

    fn is_up(&self) -> bool {
        if !self.socket.exists() {
            return false;
        }
        let mut ask = ssh(&self.address, &self.socket);
        ask.args(["-O", "check", "guest"]);
        bounded::output(&mut ask, ASK_WITHIN).is_ok_and(|o| o.status.success())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It ends by itself when the guest goes; then there is nothing to kill.
        drop(self.master.kill());
        drop(self.master.wait());
        drop(std::fs::remove_file(&self.socket));
    }
}

fn master(address: &Address, socket: &Path) -> Result<Child> {
    drop(std::fs::remove_file(socket));
    ssh(address, socket)
        .args(["-M", "-N", "guest"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start ssh")
}

fn client(address: &Address, socket: &Path) -> Command {
    let mut command = ssh(address, socket);
    command.args(["-o", "ControlMaster=no", "guest", "--"]);
    command
}

fn ssh(address: &Address, socket: &Path) -> Command {
    let mut command = match &address.netns {
        None => Command::new("ssh"),
        Some(name) => {
            let mut enter = Command::new("nsenter");
            enter.arg(format!("--net=/run/netns/{name}")).args(["--", "ssh"]);
            enter
        }
    };
    command.args(["-q", "-F", "none", "-S"]).arg(socket).arg("-i").arg(&address.key);
    command.args(["-p", &address.port.to_string(), "-l", &address.user]);
    // The cheapest algorithms for an emulated processor.
    for option in [
        "HostName=127.0.0.1",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=60",
        "Ciphers=aes128-gcm@openssh.com",
        "KexAlgorithms=curve25519-sha256",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_whatever_is_in_it() {
        let text = "a 'b' $c \\ \"d\"\n`e`";
        let mut echo = Command::new("sh");
        echo.args(["-c", &format!("printf %s {}", quoted(text))]);
        assert_eq!(bounded::run(&mut echo, Duration::from_secs(10)).unwrap(), text);
    }
}
