//! Following the journal through `journalctl -o export`: for hosts without libsystemd, and for binaries that
//! cannot load it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use nix::poll::PollTimeout;
use tokio::runtime::Handle;

use super::{Teller, export::Export, found, matches};
use crate::{
    logs::{JOURNAL_FIELDS, JournalAsk, JournalEntry, JournalTold, cursor_hash},
    sys::{
        children::Children,
        exec::{self, Cmd},
    },
};

/// How long the looks before following may take.
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 64 << 10;

/// The program.
#[derive(Debug)]
pub(super) struct Ctl {
    pub(super) path: PathBuf,
    pub(super) directory: Option<PathBuf>,
    pub(super) children: Children,
    pub(super) runtime: Handle,
}

impl Ctl {
    /// Follows until nobody listens or the program ends.
    pub(super) fn follow(&self, ask: &JournalAsk, teller: &Teller) {
        if let Err(e) = self.run(ask, teller) {
            teller.tell(JournalTold::Failed(format!("journalctl: {e}")));
        }
    }

    fn run(&self, ask: &JournalAsk, teller: &Teller) -> io::Result<()> {
        let gone = match &ask.from.cursor {
            // Looked for among all entries: a filter may hide it.
            Some(cursor) => {
                let cmd = self.cmd().args([format!("--cursor={cursor}"), "--lines=1".to_owned()]);
                let first = self.entries(cmd)?.into_iter().next();
                first.is_none_or(|e| e.cursor != *cursor)
            }
            None => false,
        };
        let from = match ask.from.cursor.as_ref().filter(|_| !gone) {
            // Not --after-cursor, which passes over one entry more where a filter hides the cursor's own.
            Some(cursor) => format!("--cursor={cursor}"),
            None => {
                let us = ask.from.realtime_us;
                format!("--since=@{}.{:06}", us / 1_000_000, us % 1_000_000)
            }
        };
        let after = ask.from.cursor.as_deref().filter(|_| !gone);
        let wanted = match_args(&ask.units);
        let found = if ask.find.is_empty() {
            Vec::new()
        } else {
            let lines = format!("--lines={}", ask.within);
            let cmd = self.cmd().args([from.as_str(), &lines, "--output-fields=MESSAGE_ID"]);
            let ahead = self.entries(cmd.args(&wanted))?;
            let ahead = ahead.iter().filter(|e| Some(e.cursor.as_str()) != after);
            found(&ask.find, ahead.map(|e| cursor_hash(&e.cursor)))
        };
        if !teller.tell(JournalTold::Begun { gone, found }) {
            return Ok(());
        }
        let fields = format!("--output-fields={}", JOURNAL_FIELDS.join(","));
        let cmd = self.cmd().args([from.as_str(), "--follow", "--no-tail", &fields]).args(&wanted);
        let (child, out) = {
            let _inside = self.runtime.enter();
            exec::stream(&self.children, cmd).map_err(io::Error::other)?
        };
        let read = read_all(File::from(out), after, teller);
        // Killed when it is dropped, and waited for by the runtime.
        let _inside = self.runtime.enter();
        drop(child);
        read
    }

    fn cmd(&self) -> Cmd {
        let cmd = Cmd::new(&self.path).args(["--output=export", "--no-pager", "--quiet"]);
        let cmd = cmd.env("LC_ALL", "C").deadline(PATIENCE);
        match &self.directory {
            Some(dir) => cmd.args(["--directory"]).args([dir]),
            None => cmd,
        }
    }

    /// What the program prints until it ends; of very much, the first 16 MiB.
    fn entries(&self, cmd: Cmd) -> io::Result<Vec<JournalEntry>> {
        let out =
            self.runtime.block_on(exec::run(&self.children, cmd)).map_err(io::Error::other)?;
        let mut export = Export::default();
        export.push(&out.stdout);
        let mut entries = Vec::new();
        while let Some(e) = export.entry().map_err(io::Error::other)? {
            entries.push(e);
        }
        Ok(entries)
    }
}

/// Tells of entries until nobody listens, but for the one at the cursor `after`; an error when the program
/// has ended.
fn read_all(mut out: File, after: Option<&str>, teller: &Teller) -> io::Result<()> {
    let mut export = Export::default();
    let mut buf = vec![0; BLOCK];
    loop {
        if !teller.wait(out.as_fd(), PollTimeout::NONE)? {
            return Ok(());
        }
        let n = out.read(&mut buf)?;
        if n == 0 {
            return Err(io::Error::other("it ended"));
        }
        export.push(buf.get(..n).unwrap_or_default());
        while let Some(entry) = export.entry().map_err(io::Error::other)? {
            if Some(entry.cursor.as_str()) != after && !teller.tell(JournalTold::Entry(entry)) {
                return Ok(());
            }
        }
    }
}

fn match_args(units: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for all in matches(units) {
        if !out.is_empty() {
            out.push("+".to_owned());
        }
        out.extend(all);
    }
    out
}
