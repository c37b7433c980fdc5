//! What the fuzz targets of `fuzz/src/bin/log_*.rs` do with their input; and, as tests, what they do with
//! the seeds, what was once found by them, and mutations of both.
//!
//! Each panics where an invariant does not hold.

use std::{path::Path, sync::Arc};

use super::{
    assemble::{Assembler, Line},
    batch::Batch,
    checkpoint::{ACK_BYTES, Store},
    content::{
        Carry, Counts, Custom, Kind, LineRules, Multiline, Pattern, Redactor, TimeReader, Zone,
    },
    line,
    ports::SpoolFs as _,
    reading::Reading,
    redaction::Redaction,
    spool::{LaneKey, Reader, Spool},
    testutil::MemFs,
};
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_787_411_825);
/// The head of a segment.
const HEADER: usize = 16;

/// Redaction: line breaks stay, what was changed is counted and what was not is not, and in parts as
/// in one piece.
pub fn redact(data: &[u8]) {
    let Some((cut, text)) = data.split_first_chunk::<2>() else { return };
    let kinds = Kind::ALL.map(|(_, kind)| kind);
    let custom = Pattern::new("(?i)iban:? [A-Z]{2}[0-9]{2,30}").into_iter();
    let custom = custom.map(|pattern| Custom { name: "iban".to_owned(), pattern }).collect();
    let redactor = Redactor::new(&kinds, custom, "X-Origin-Verify");
    let breaks = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count();
    let mut counts = Counts::new();
    let whole = redactor.lines(text, &mut counts).into_owned();
    assert_eq!(breaks(&whole), breaks(text));
    assert_eq!(counts.is_empty(), redactor.is_clean(text));
    assert!(!counts.is_empty() || whole == text);
    let one_by_one: Vec<Vec<u8>> = text
        .split(|b| *b == b'\n')
        .map(|l| redactor.lines(l, &mut Counts::new()).into_owned())
        .collect();
    assert_eq!(one_by_one.join(&b'\n'), whole);
    let cut = usize::from(u16::from_le_bytes(*cut)) % (text.len() + 1);
    let (head, tail) = text.split_at(cut);
    let mut carry = Carry::default();
    let head = redactor.part(head, &mut carry, false, &mut Counts::new()).into_owned();
    let tail = redactor.part(tail, &mut carry, true, &mut Counts::new());
    assert_eq!(breaks(&head) + breaks(&tail), breaks(text));
    assert_eq!(carry, Carry::default());
}

/// Multi-line: the events of two streams are the lines that came, in order, however they came in.
pub fn multiline(data: &[u8]) {
    let Some(([rule, cut], text)) = data.split_first_chunk::<2>() else { return };
    let multiline = match rule % 4 {
        0 => Multiline::Python,
        1 => Multiline::Timestamp,
        2 => Multiline::Json,
        _ => Pattern::new("^[#-]").map_or(Multiline::None, Multiline::Start),
    };
    let rules = LineRules { multiline, timestamps: Some(Zone::of_host()) };
    let lines: Vec<_> = text.split(|b| *b == b'\n').map(|l| line::decode(l).0).collect();
    // A line of an odd length is of the other stream.
    let stream = |text: &str| u8::try_from(text.len() % 2).unwrap_or(0);
    let read = |from: usize, upto: usize, still: bool, events: &mut Vec<String>| {
        let mut position = from;
        while position < upto {
            let mut batch = Batch::new(1, position as u64);
            let mut assembler = Assembler::new(&rules, i64::MAX, &batch, position as u64);
            let (mut full, mut pieces) = (false, 0);
            for (n, text) in lines.iter().enumerate().take(upto).skip(position) {
                let (start, end) = (n as u64, n as u64 + 1);
                let line = Line { stream: stream(text), text, at: NOW, start, end };
                full = assembler.add(&mut batch, line, &mut pieces).is_err();
                if full {
                    break;
                }
            }
            let back = if full {
                assembler.cut(&mut batch)
            } else {
                // It fits: what is open was not counted as room yet, but one event always does.
                assembler.end(&mut batch, NOW, still).unwrap_or_else(|_| assembler.cut(&mut batch))
            };
            let next = back.and_then(|b| usize::try_from(b).ok()).unwrap_or(upto);
            assert_eq!(batch.upto(), next as u64);
            let texts =
                batch.events().filter_map(|(_, t)| serde_json::from_slice::<String>(t).ok());
            events.extend(texts);
            if next == position {
                return position;
            }
            position = next;
            if !full {
                return position;
            }
        }
        position
    };
    let cut = usize::from(*cut) % (lines.len() + 1);
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    let end = read(0, lines.len(), true, &mut once);
    let middle = read(0, cut, false, &mut twice);
    let same = read(middle, lines.len(), true, &mut twice);
    // A batch that an open event keeps from getting on is the reader's to solve.
    if end < lines.len() || same < lines.len() {
        return;
    }
    once.sort();
    twice.sort();
    assert_eq!(once, twice);
    let mut back: Vec<&str> =
        once.iter().flat_map(|e| e.split('\n')).filter(|l| !l.is_empty()).collect();
    let mut came: Vec<&str> = lines.iter().map(AsRef::as_ref).filter(|l| !l.is_empty()).collect();
    back.sort_unstable();
    came.sort_unstable();
    assert_eq!(back, came);
}

/// Times: what is taken is one that the service takes.
pub fn time(line: &[u8]) {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    for zone in ["UTC", "Europe/Berlin"].into_iter().filter_map(Zone::named) {
        let mut reader = TimeReader::new(&zone, 14 * DAY_MS);
        if let Some(ms) = reader.time_of(line, NOW.as_millis()) {
            let age = NOW.as_millis() - ms;
            assert!((-2 * 3600 * 1000..=14 * DAY_MS).contains(&age), "{age}");
        }
    }
}

/// A segment of the spool with any bytes in it: it is read to its end, and what is appended after it
/// comes back.
pub fn spool(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let mut bytes = b"PLSDSPL\x01\x01\0\0\0\0\0\0\0".to_vec();
    if mode & 1 == 0 {
        bytes.clear();
    }
    bytes.extend_from_slice(data);
    if mode & 2 != 0 {
        mend(&mut bytes);
    }
    let fs = MemFs::default();
    put(&fs, "/s/web/web/seg-0000000000000001.spl", &bytes);
    let Ok(spool) = Spool::open(Arc::new(fs), "/s".into()) else { return };
    let (Ok(program), Ok(process)) = ("web".parse(), "web".parse()) else { return };
    let Ok(lane) = spool.lane(&LaneKey { program, process }) else { return };
    // Numbers that are used up leave nothing to append with.
    if lane.facts().last_seq > u64::MAX / 2 {
        return;
    }
    let appended = lane.append(1, NOW, b"the last line\n").is_ok();
    let rules = LineRules::plain();
    let redaction = Redaction::new(Redactor::none());
    let how =
        Reading { now: NOW, rules: &rules, oldest_ms: 0, still_at: None, redaction: &redaction };
    let mut reader = Reader::new(lane.clone(), 0);
    let mut last = None;
    loop {
        let mut batch = Batch::new(1, reader.position());
        let Ok(filled) = reader.fill(&mut batch, &how) else { return };
        last = batch.events().last().map(|(_, t)| t.to_vec()).or(last);
        if !filled.full {
            break;
        }
    }
    assert!(!appended || last.as_deref() == Some(b"\"the last line\""), "{last:?}");
    assert_eq!(reader.position(), lane.facts().last_seq);
}

/// Checkpoint and notes with any bytes in them: they are read or put aside, and the next ones are good.
pub fn checkpoint(data: &[u8]) {
    let Some(([mode, at], data)) = data.split_first_chunk::<2>() else { return };
    let (json, acks) = data.split_at(usize::from(*at) * 8 % (data.len() + 1));
    let mut bytes = Vec::new();
    if mode & 1 != 0 {
        bytes = format!("palisade-checkpoint {:08x}\n", crc32fast::hash(json)).into_bytes();
    }
    bytes.extend_from_slice(json);
    let mut acks = acks.to_vec();
    if mode & 2 != 0 {
        for record in acks.chunks_exact_mut(ACK_BYTES) {
            if let Some((body, crc)) = record.split_last_chunk_mut::<4>() {
                *crc = crc32fast::hash(body).to_le_bytes();
            }
        }
    }
    let fs = MemFs::default();
    put(&fs, "/c/checkpoint", &bytes);
    put(&fs, "/c/acks", &acks);
    let open = || Store::open(Arc::new(fs.clone()), "/c".into()).ok();
    let Some((mut store, found, _)) = open() else { return };
    assert!(store.place().save(&found).is_ok());
    assert_eq!(open().map(|(_, again, problem)| (again, problem)), Some((found, None)));
}

/// Makes records of what follows a segment's head: short lengths, and the sums that they need.
fn mend(bytes: &mut [u8]) {
    let mut at = HEADER;
    while let Some((head, body)) = bytes.get_mut(at..).and_then(|r| r.split_first_chunk_mut::<8>())
    {
        let len = usize::from(head[0]);
        let Some(body) = body.get(..len) else { return };
        let crc = crc32fast::hash(body).to_le_bytes();
        *head = [head[0], 0, 0, 0, crc[0], crc[1], crc[2], crc[3]];
        at += 8 + len;
    }
}

fn put(fs: &MemFs, path: &str, bytes: &[u8]) {
    let written = fs.open(Path::new(path)).and_then(|f| f.write_all_at(bytes, 0).and(f.sync()));
    assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn redaction_holds() {
        fuzz("log_redact", redact);
    }

    #[test]
    fn multiline_holds() {
        fuzz("log_multiline", multiline);
    }

    #[test]
    fn times_hold() {
        fuzz("log_time", time);
    }

    #[test]
    fn the_spool_holds() {
        fuzz("log_spool", spool);
    }

    #[test]
    fn the_checkpoint_holds() {
        fuzz("log_checkpoint", checkpoint);
    }
}
