//! Following the journal through libsystemd.

use std::{io, path::Path};

use nix::poll::PollTimeout;

use super::{
    Teller, UNTOLD_MS, found,
    libsystemd::{Journal, Library},
    matches,
};
use crate::logs::{
    JOURNAL_FIELDS, JournalAsk, JournalEntry, JournalPlace, JournalTold, cursor_hash,
};

/// Follows until nobody listens or the journal cannot be read.
pub(super) fn follow(
    library: &Library,
    directory: Option<&Path>,
    ask: &JournalAsk,
    teller: &Teller,
) {
    if let Err(e) = run(library, directory, ask, teller) {
        teller.tell(JournalTold::Failed(format!("libsystemd: {e}")));
    }
}

fn run(
    library: &Library,
    directory: Option<&Path>,
    ask: &JournalAsk,
    teller: &Teller,
) -> io::Result<()> {
    let place = &ask.from;
    // Looked for among all entries: a filter may hide it.
    let gone = match &place.cursor {
        Some(cursor) => {
            let mut all = Journal::open(library, directory)?;
            // A cursor that makes no sense is at no entry.
            !(all.seek_cursor(cursor).is_ok() && all.next()? && all.is_at(cursor)?)
        }
        None => false,
    };
    let open = || -> io::Result<At<'_>> {
        let mut journal = Journal::open(library, directory)?;
        journal.only(&matches(&ask.units))?;
        At::go(journal, place, gone)
    };
    let found = if ask.find.is_empty() {
        Vec::new()
    } else {
        let mut ahead = open()?;
        let mut hashes = Vec::new();
        while hashes.len() < ask.within && ahead.next()? {
            hashes.push(cursor_hash(&ahead.journal.cursor()?));
        }
        found(&ask.find, hashes.into_iter())
    };
    let mut at = open()?;
    if !teller.tell(JournalTold::Begun { gone, found }) {
        return Ok(());
    }
    loop {
        while at.next()? {
            if !teller.tell(JournalTold::Entry(read(&mut at.journal)?)) {
                return Ok(());
            }
        }
        let (fd, reliable) = at.journal.fd()?;
        let timeout = if reliable { PollTimeout::NONE } else { PollTimeout::from(UNTOLD_MS) };
        if !teller.wait(fd, timeout)? {
            return Ok(());
        }
        at.journal.process()?;
    }
}

/// An open journal, and the cursor whose own entry is not to be given.
struct At<'a> {
    journal: Journal<'a>,
    after: Option<String>,
}

impl<'a> At<'a> {
    fn go(mut journal: Journal<'a>, place: &JournalPlace, gone: bool) -> io::Result<Self> {
        let after = place.cursor.clone().filter(|_| !gone);
        match &after {
            Some(cursor) => journal.seek_cursor(cursor)?,
            None => journal.seek_realtime(place.realtime_us)?,
        }
        Ok(Self { journal, after })
    }

    fn next(&mut self) -> io::Result<bool> {
        if !self.journal.next()? {
            return Ok(false);
        }
        // The first one may be the one at the cursor, or the next one if a filter hides that.
        match self.after.take() {
            Some(cursor) if self.journal.is_at(&cursor)? => self.journal.next(),
            Some(_) | None => Ok(true),
        }
    }
}

fn read(journal: &mut Journal<'_>) -> io::Result<JournalEntry> {
    let mut entry = JournalEntry {
        cursor: journal.cursor()?,
        realtime_us: journal.realtime()?,
        ..JournalEntry::default()
    };
    for name in JOURNAL_FIELDS {
        match journal.field(name) {
            Ok(Some(value)) => drop(entry.fields.insert(name, value)),
            Ok(None) => {}
            // A damaged entry holds nothing up, and is not passed over in silence.
            Err(e) if name == "MESSAGE" => {
                let text = format!("[palisade] this entry of the journal cannot be read: {e}");
                entry.fields.insert(name, text.into_bytes());
            }
            Err(_) => {}
        }
    }
    Ok(entry)
}
