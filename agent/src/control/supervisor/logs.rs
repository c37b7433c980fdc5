//! Parts of log files by offset, as `readLog`, `readProcessStdoutLog` and `tailProcessStdoutLog` give them.
//!
//! Which part is pure arithmetic, and Supervisor's. Read here and not in the supervisor's task, which has
//! better to do than to wait for a disk.

use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use super::{
    fault::{Code, Fault},
    value::Value,
};
use crate::{
    control::follow::open_regular,
    supervise::{Info, Stream},
};

/// More is sent to nobody at once: it all goes into memory. A client reads on at the offset it has got to.
pub(super) const MOST: u64 = 16 << 20;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: u64,
    bytes: u64,
}

impl Part {
    /// How much of a file of `size` bytes it really is.
    fn of(self, size: u64) -> u64 {
        self.bytes.min(size.saturating_sub(self.from))
    }
}

/// The part that `read*Log` means of a file of `size` bytes: from `offset` on, `length` bytes or all if that
/// is 0; or the last `-offset` bytes.
fn part(size: u64, offset: i64, length: i64) -> Result<Part, Fault> {
    let bad = || Fault::new(Code::BadArguments);
    if offset < 0 {
        if length != 0 {
            return Err(bad());
        }
        let bytes = offset.unsigned_abs().min(MOST);
        return Ok(Part { from: size.saturating_sub(bytes), bytes });
    }
    let from = u64::try_from(offset).map_err(|_| bad())?;
    let length = u64::try_from(length).map_err(|_| bad())?;
    let bytes = if length == 0 { MOST } else { length.min(MOST) };
    Ok(Part { from, bytes })
}

/// The part that `tail*Log` means, and whether more came than was asked for.
fn tail_part(size: u64, offset: i64, length: i64) -> (Part, bool) {
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let (mut offset, mut length) = (offset, length.min(most));
    let overflow = size > offset.saturating_add(length);
    if overflow {
        offset = size - 1;
    }
    if offset.saturating_add(length) > size {
        if offset > size - 1 {
            length = 0;
        }
        offset = size.saturating_sub(length);
    }
    let part = Part {
        from: u64::try_from(offset).unwrap_or(0),
        bytes: u64::try_from(length).unwrap_or(0),
    };
    (part, overflow)
}

/// A log file, and whether it counts as there while it is not.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    /// Supervisor makes the file with the first start, and one named by itself at once; ours begins with the
    /// first line.
    pub(super) is_promised: bool,
}

/// The log of a stream, if it has one.
pub(super) fn of(info: &Info, stream: Stream) -> Option<Log> {
    let (path, setting) = match stream {
        Stream::Stdout => (&info.stdout_log, &info.spec.stdout),
        Stream::Stderr => (&info.stderr_log, &info.spec.stderr),
    };
    let is_promised = setting.path.is_automatic() || info.last.started.is_some();
    path.clone().map(|path| Log { path, is_promised })
}

impl Log {
    /// Opens the file, as `log_place` finds it safe.
    async fn open(&self) -> io::Result<Option<(File, u64)>> {
        let file = match open_regular(&self.path, false).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let size = file.metadata().await?.len();
        Ok(Some((file, size)))
    }

    /// Whether it can be read, also while it is empty and not made yet.
    pub(super) async fn is_there(&self) -> bool {
        match self.open().await {
            Ok(Some(_)) => true,
            Ok(None) => self.is_promised,
            // A link, or no file: it will not be read.
            Err(_) => false,
        }
    }

    fn no_file(&self) -> Fault {
        Fault::about(Code::NoFile, &self.path.to_string_lossy())
    }
}

/// Whoever has asked for much already, in the same request, is not told less than there is but to ask again.
pub(super) fn too_much() -> Fault {
    Fault::about(Code::Failed, "this is too much for one request; send one for it alone")
}

/// `read*Log`: the text of a part, if there is room for it.
pub(super) async fn read(
    log: Option<Log>,
    offset: i64,
    length: i64,
    room: u64,
) -> Result<Value, Fault> {
    let Some(log) = log else { return Err(Fault::new(Code::NoFile)) };
    match log.open().await {
        Ok(Some((file, size))) => {
            let part = part(size, offset, length)?;
            if part.of(size) > room {
                return Err(too_much());
            }
            take(file, part).await.map(Value::Text).map_err(|e| failed(&log.path, &e))
        }
        Ok(None) if log.is_promised => part(0, offset, length).map(|_| Value::text("")),
        Ok(None) => Err(log.no_file()),
        Err(e) => Err(failed(&log.path, &e)),
    }
}

/// `tail*Log`: the text of a part, where it ends, and whether more came than was asked for.
pub(super) async fn tail(
    log: Option<Log>,
    offset: i64,
    length: i64,
    room: u64,
) -> Result<Value, Fault> {
    let nothing =
        |offset| Value::Array(vec![Value::text(""), Value::Int(offset), Value::Bool(false)]);
    let Some(log) = log else { return Ok(nothing(0)) };
    let (file, size) = match log.open().await {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(nothing(0)),
        Err(_) => return Ok(nothing(offset)),
    };
    let (part, overflow) = tail_part(size, offset, length);
    if part.of(size) > room {
        return Err(too_much());
    }
    Ok(match take(file, part).await {
        Ok(text) => {
            let end = Value::Int(i64::try_from(size).unwrap_or(i64::MAX));
            Value::Array(vec![Value::Text(text), end, Value::Bool(overflow)])
        }
        Err(_) => nothing(offset),
    })
}

/// Empties a file.
pub(super) async fn empty(log: &Log) -> Result<(), Fault> {
    let emptied = match open_regular(&log.path, true).await {
        Ok(file) => file.set_len(0).await,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(log.no_file()),
        Err(e) => Err(e),
    };
    emptied.map_err(|e| failed(&log.path, &e))
}

async fn take(mut file: File, part: Part) -> io::Result<String> {
    file.seek(SeekFrom::Start(part.from)).await?;
    let mut bytes = Vec::new();
    file.take(part.bytes).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn failed(path: &Path, error: &io::Error) -> Fault {
    Fault::about(Code::Failed, &format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_part_is_from_an_offset_or_from_the_end() {
        let p = |size, offset, length| part(size, offset, length).map(|p| (p.from, p.bytes));
        assert_eq!(p(100, -16, 0), Ok((84, 16)));
        assert_eq!(p(10, -16, 0), Ok((0, 16)));
        assert_eq!(p(100, 10, 5), Ok((10, 5)));
        assert_eq!(p(100, 0, 0), Ok((0, MOST)));
        assert_eq!(p(100, 0, i64::MAX), Ok((0, MOST)));
        let bad = Err(Fault::new(Code::BadArguments));
        assert_eq!(p(100, -16, 5), bad);
        assert_eq!(p(100, 5, -1), bad);
        assert_eq!(p(100, i64::MIN, 0), Ok((0, MOST)));
    }

    /// Each case was asked of Supervisor 4.3.0: size, offset, length; offset of the bytes, their number,
    /// and whether more came.
    #[test]
    fn a_tail_is_supervisors() {
        for (size, offset, length, from, bytes, overflow) in [
            (100, 0, 10, 90, 10, true),
            (100, 95, 10, 90, 10, false),
            (100, 90, 10, 90, 10, false),
            (100, 100, 10, 100, 0, false),
            (100, 200, 10, 100, 0, false),
            (5, 0, 10, 0, 10, false),
            (0, 0, 10, 0, 0, false),
            (100, 0, 0, 99, 0, true),
            (100, 0, -5, 99, 0, true),
        ] {
            let expected = (Part { from, bytes }, overflow);
            assert_eq!(tail_part(size, offset, length), expected, "{size} {offset} {length}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            let (part, _) = tail_part(u64::MAX, extreme, extreme);
            assert!(part.bytes <= MOST);
        }
    }

    fn log(path: &Path, is_promised: bool) -> Option<Log> {
        Some(Log { path: path.to_owned(), is_promised })
    }

    #[tokio::test]
    async fn files_are_read_and_emptied_and_missing_ones_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let missing = read(log(&path, false), 0, 0, MOST).await.unwrap_err();
        assert_eq!(missing.text, format!("NO_FILE: {}", path.display()));
        assert_eq!(read(log(&path, true), -5, 0, MOST).await, Ok(Value::text("")));
        assert_eq!(read(None, 0, 0, MOST).await, Err(Fault::new(Code::NoFile)));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"one\ntwo\xff\n").unwrap();
        assert_eq!(read(log(&path, false), -5, 0, MOST).await, Ok(Value::text("two\u{fffd}\n")));
        assert_eq!(read(log(&path, false), 2, 3, MOST).await, Ok(Value::text("e\nt")));
        assert_eq!(read(log(&path, false), 500, 0, MOST).await, Ok(Value::text("")));
        let told = tail(log(&path, false), 0, 4, MOST).await.unwrap();
        let part = Value::text("wo\u{fffd}\n");
        assert_eq!(told, Value::Array(vec![part, Value::Int(9), Value::Bool(true)]));
        // What there is no room for is refused, and what there is less of than was asked for is not.
        assert_eq!(read(log(&path, false), 0, 0, 8).await, Err(too_much()));
        assert_eq!(tail(log(&path, false), 0, 9, 8).await, Err(too_much()));
        assert_eq!(read(log(&path, false), 1, 0, 8).await.unwrap().weight(), 10 + 32);
        empty(&log(&path, false).unwrap()).await.unwrap();
        assert_eq!(read(log(&path, false), 0, 0, MOST).await, Ok(Value::text("")));
    }

    #[tokio::test]
    async fn a_link_that_others_can_make_or_a_pipe_in_its_place_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(read(log(&path, true), 0, 0, MOST).await.is_ok());
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(read(log(&path, true), 0, 0, MOST).await.unwrap_err().code, Code::Failed);
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(log(&path, true), 0, 0, MOST).await.unwrap_err().code, Code::Failed);
        assert!(empty(&log(&path, true).unwrap()).await.is_err());
    }
}
