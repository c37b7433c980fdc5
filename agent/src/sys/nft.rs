//! Our table in the kernel, by way of the program `nft` and its JSON interface.
//!
//! Only `table inet palisade` is ever listed: other tables may hold what no reader understands. nft
//! runs through [`exec`], so it has a deadline, is dead before a failure is reported, and what it
//! says on standard error becomes the error.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    children::Children,
    exec::{self, Cmd, ExecError, Output},
};
use crate::firewall::{Change, Kernel, KernelError, Observed, TABLE, parse_listing, transaction};

/// Where Debian, Ubuntu and Amazon Linux install it.
const NFT: &str = "/usr/sbin/nft";
/// nft needs some 20 ms for our table; a minute of a stuck host is not waited for.
const DEADLINE: Duration = Duration::from_secs(20);
/// As much of nft's own words as goes into an error.
const MAX_WORDS: usize = 600;

/// Our table in the kernel.
#[derive(Clone, Debug)]
pub struct Nft {
    children: Children,
    program: PathBuf,
    prefix: Vec<OsString>,
}

impl Nft {
    /// The table of this network namespace.
    #[must_use]
    pub fn new(children: Children) -> Self {
        Self { children, program: NFT.into(), prefix: Vec::new() }
    }

    /// The table of another network namespace, given by a path such as `/run/netns/NAME`.
    #[must_use]
    pub fn in_namespace(children: Children, namespace: &Path) -> Self {
        let mut net = OsString::from("--net=");
        net.push(namespace);
        Self { prefix: vec!["/usr/bin/nsenter".into(), net], ..Self::new(children) }
    }

    /// The same with another nft than the usual one.
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..self }
    }

    async fn run(&self, args: &[&str], stdin: Vec<u8>) -> Result<Output, KernelError> {
        let mut words = self.prefix.iter().cloned().chain([self.program.clone().into_os_string()]);
        let first = words.next().unwrap_or_default();
        let cmd = Cmd::new(first).args(words).args(args).stdin(stdin).deadline(DEADLINE);
        exec::run(&self.children, cmd).await.map_err(|e| {
            let missing = matches!(&e, ExecError::Start { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound);
            KernelError {
                what: "run nft".to_owned(),
                hint: missing.then(|| {
                    format!("install the package nftables, which has {}", self.program.display())
                }),
                source: Some(Box::new(e)),
            }
        })
    }
}

fn refused(what: &str, out: &Output) -> KernelError {
    let words: String = String::from_utf8_lossy(&out.stderr).chars().take(MAX_WORDS).collect();
    let hint = words.contains("Operation not permitted").then(|| {
        "the agent needs to be root, or to have CAP_NET_ADMIN, to see to the firewall".to_owned()
    });
    let code = out.code.map_or("by a signal".to_owned(), |c| format!("with code {c}"));
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    KernelError { what: format!("{what}: nft ended {code}: {words}"), hint, source: None }
}

impl Kernel for Nft {
    async fn read(&mut self) -> Result<Observed, KernelError> {
        let out = self.run(&["-j", "list", "table", "inet", TABLE], Vec::new()).await?;
        match out.code {
            Some(0) => Ok(parse_listing(&out.stdout)),
            // Messages are English: the environment is empty.
            _ if String::from_utf8_lossy(&out.stderr).contains("No such file or directory") => {
                Ok(Observed::Absent)
            }
            _ => Err(refused("read our table", &out)),
        }
    }

    async fn apply(&mut self, change: &Change) -> Result<(), KernelError> {
        let json = transaction(change).map_err(|e| KernelError {
            what: "write the transaction as JSON".to_owned(),
            hint: None,
            source: Some(Box::new(e)),
        })?;
        let out = self.run(&["-j", "-f", "-"], json).await?;
        if out.code == Some(0) { Ok(()) } else { Err(refused("change our table", &out)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{errors::Chain, firewall::Ruleset};

    fn fake(script: &str) -> (tempfile::TempDir, Nft) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nft");
        crate::sys::files::write_atomic(&path, format!("#!/bin/sh\n{script}\n").as_bytes(), 0o700)
            .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        (dir, Nft::new(Children::default()).program(path))
    }

    #[tokio::test]
    async fn a_host_without_nft_is_told_what_to_install() {
        let mut nft = Nft::new(Children::default()).program("/nowhere/nft");
        let e = nft.read().await.unwrap_err();
        assert_eq!(
            Chain(&e).to_string(),
            "run nft: start /nowhere/nft: No such file or directory (os error 2)"
        );
        assert!(e.hint.unwrap().contains("install the package nftables"));
    }

    #[tokio::test]
    async fn what_nft_says_becomes_the_error() {
        let (_dir, mut nft) = fake("echo 'Error: Operation not permitted' >&2; exit 1");
        let e = nft.read().await.unwrap_err();
        assert_eq!(e.what, "read our table: nft ended with code 1: Error: Operation not permitted");
        assert!(e.hint.unwrap().contains("CAP_NET_ADMIN"));
        let change =
            crate::firewall::compare(&Ruleset::default(), &Observed::Absent, None).unwrap();
        assert!(nft.apply(&change).await.unwrap_err().what.starts_with("change our table: "));
    }
}
