//! Commands in a guest by ssh: one connection is kept, and each command is a channel of it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    exec::{Cmd, Output},
    lab::Lab,
    wait,
};

/// One question to the kept connection.
const ASK_WITHIN: Duration = Duration::from_secs(20);

/// How to reach a guest.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// In whose network QEMU listens, if not ours.
    pub(super) lab: Option<Lab>,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) key: PathBuf,
    /// Where the connection's socket and log are.
    pub(super) dir: PathBuf,
}

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Shell {
    address: Address,
    master: Child,
}

impl Shell {
    /// Connects as soon as the guest's sshd answers; `alive` says whether waiting makes sense.
    pub(super) fn connect(
        address: &Address,
        patience: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut shell = Self { address: address.clone(), master: address.master()? };
        let up = wait::try_for(patience, || match shell.is_up(&mut alive) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(e) => Some(Err(e)),
        });
        match up {
            Some(done) => done.map(|()| shell),
            None => bail!("no ssh connection to the guest within {patience:?}"),
        }
    }

    /// Runs a shell command as root; its input is a file or nothing.
    pub(super) fn run(
        &self,
        command: &str,
        input: Option<File>,
        patience: Duration,
    ) -> Result<Output> {
        let line = if self.address.user == "root" {
            command.to_owned()
        } else {
            format!("sudo -n sh -c {}", quoted(command))
        };
        let mut ssh = self.address.ssh().args(["-o", "ControlMaster=no", "guest", "--"]).arg(line);
        if let Some(file) = input {
            ssh = ssh.input_file(file);
        }
        ssh.within(patience).said()
    }

    fn is_up(&mut self, alive: &mut impl FnMut() -> Result<()>) -> Result<bool> {
        alive()?;
        if self.address.socket().exists() {
            let ask = self.address.ssh().args(["-O", "check", "guest"]).within(ASK_WITHIN);
            if ask.said().is_ok_and(|o| o.success()) {
                return Ok(true);
            }
        }
        // The guest closed the connection: its sshd is not there yet.
        if self.master.try_wait().context("wait for ssh")?.is_some() {
            self.master = self.address.master()?;
        }
        Ok(false)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It ends by itself when the guest goes; then there is nothing to kill.
        drop(self.master.kill());
        drop(self.master.wait());
        drop(fs::remove_file(self.address.socket()));
    }
}

impl Address {
    fn socket(&self) -> PathBuf {
        self.dir.join("ssh")
    }

    fn master(&self) -> Result<Child> {
        drop(fs::remove_file(self.socket()));
        self.ssh().args(["-M", "-N", "guest"]).daemon(&self.dir.join("ssh.log"))
    }

    fn ssh(&self) -> Cmd {
        let ssh = self.lab.as_ref().map_or_else(|| Cmd::new("ssh"), |lab| lab.cmd("ssh"));
        let ssh = ssh.args(["-q", "-F", "none", "-S"]).arg(self.socket()).arg("-i").arg(&self.key);
        let ssh = ssh.args(["-p", &self.port.to_string(), "-l", &self.user]);
        // The cheapest algorithms for an emulated processor.
        [
            "HostName=127.0.0.1",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=60",
            "Ciphers=aes128-gcm@openssh.com",
            "KexAlgorithms=curve25519-sha256",
        ]
        .iter()
        .fold(ssh, |ssh, option| ssh.args(["-o", option]))
    }
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The file to be copied, opened.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_whatever_is_in_it() {
        let text = "a 'b' $c \\ \"d\"\n`e`";
        let echo = format!("printf %s {}", quoted(text));
        assert_eq!(Cmd::new("sh").args(["-c", &echo]).run().unwrap(), text);
    }
}
