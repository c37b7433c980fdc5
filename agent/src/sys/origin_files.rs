//! Files of the origin guard: secrets read from a file, what nginx notes about requests, the state.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{files, secret_file};
use crate::origin::{
    Answer, Hits, Location, MAX_STATE_BYTES, Offered, Secret, SecretSource, SourceError, Stage,
    Store,
};

/// Largest file with secrets.
const MAX_SECRETS: u64 = 4096;
/// Most that is read of notes at once.
const MAX_PIECE: u64 = 4 << 20;
/// Notes that were read are thrown away once there are so many.
const MAX_READ: u64 = 1 << 20;
const STATE: &str = "state.json";

/// Secrets in files by ourselves, all others through `cloud`.
#[derive(Clone, Debug)]
pub struct SecretFiles<C> {
    cloud: C,
}

impl<C: SecretSource> SecretFiles<C> {
    /// Reads what is in AWS through `cloud`.
    pub fn new(cloud: C) -> Self {
        Self { cloud }
    }
}

/// Reads nothing: where no AWS is configured.
#[derive(Clone, Copy, Debug)]
pub struct NoCloud;

impl SecretSource for NoCloud {
    async fn read(&self, from: &Location, _: Option<&str>) -> Result<Answer, SourceError> {
        Err(SourceError {
            what: format!("{from} is in AWS, which is not configured"),
            hint: Some("add an aws section to palisade.yaml".to_owned()),
            source: None,
        })
    }
}

impl<C: SecretSource> SecretSource for SecretFiles<C> {
    async fn read(&self, from: &Location, tag: Option<&str>) -> Result<Answer, SourceError> {
        let Location::File(path) = from else { return self.cloud.read(from, tag).await };
        let fail = |e: io::Error| SourceError {
            what: format!("read {}", path.display()),
            hint: Some(format!("chown root: {0}; chmod 600 {0}", path.display())),
            source: Some(Box::new(e)),
        };
        let (file, before) = (path.clone(), tag.map(str::to_owned));
        let read = spawn_blocking(move || secrets_of(&file, before.as_deref()));
        read.await.map_err(io::Error::other).and_then(|r| r).map_err(fail)
    }
}

/// One secret a line: the first is the current one, the second the next.
fn secrets_of(path: &Path, tag: Option<&str>) -> io::Result<Answer> {
    let (file, meta) = secret_file::open(path, MAX_SECRETS)?;
    let (s, ns) = (meta.mtime(), meta.mtime_nsec());
    let now = format!("{}-{}-{s}.{ns:09}-{}", meta.dev(), meta.ino(), meta.size());
    if tag == Some(now.as_str()) {
        return Ok(Answer::Unchanged);
    }
    let mut text = Zeroizing::new(String::with_capacity(5000));
    file.take(MAX_SECRETS).read_to_string(&mut text)?;
    let (mut offered, mut refused) = (Vec::new(), Vec::new());
    let lines = text.lines().map(str::trim_end).enumerate().filter(|(_, l)| !l.is_empty());
    for (place, (n, line)) in lines.enumerate() {
        let stage = match place {
            0 => Stage::Current,
            1 => Stage::Pending,
            _ => {
                refused.push(format!("line {} is a third secret; two are allowed", n + 1));
                break;
            }
        };
        match Secret::parse(line) {
            Ok(secret) => {
                let version = format!("line {}", n + 1);
                offered.push(Offered { secret, stage, version, created: None });
            }
            Err(e) => refused.push(format!("line {} {e}", n + 1)),
        }
    }
    Ok(Answer::Offer { offered, refused, tag: Some(now) })
}

/// What nginx notes about requests, read as it grows and thrown away when read.
#[derive(Debug)]
pub struct HitsFile {
    path: PathBuf,
    at: Option<(u64, u64)>,
}

impl HitsFile {
    /// The notes at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, at: None }
    }
}

impl Hits for HitsFile {
    async fn read(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let (path, at) = (self.path.clone(), self.at);
        let read = spawn_blocking(move || piece(&path, at));
        let (lines, is_all, at) = read.await.map_err(io::Error::other)??;
        self.at = at;
        Ok((lines, is_all))
    }
}

type Piece = (Vec<u8>, bool, Option<(u64, u64)>);

/// The whole lines after a place, which is of one file.
fn piece(path: &Path, at: Option<(u64, u64)>) -> io::Result<Piece> {
    let mut open = OpenOptions::new();
    // To throw away what was read; nginx appends, whatever the length is.
    open.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let mut file = match open.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true, None)),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other(format!("{} is not a regular file", path.display())));
    }
    let from = match at {
        Some((inode, offset)) if inode == meta.ino() && offset <= meta.len() => offset,
        _ => 0,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_PIECE).read_to_end(&mut bytes)?;
    let is_all = u64::try_from(bytes.len()).is_ok_and(|n| n < MAX_PIECE);
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    // Without a single end of line in so much, none of it is a note.
    let skipped = if !is_all && end == 0 { bytes.len() } else { end };
    let offset = from + u64::try_from(skipped).unwrap_or(0);
    bytes.truncate(end);
    if is_all && offset > MAX_READ && offset == file.metadata()?.len() {
        file.set_len(0)?;
        return Ok((bytes, true, Some((meta.ino(), 0))));
    }
    Ok((bytes, is_all, Some((meta.ino(), offset))))
}

/// The state in a directory of the guard's own.
#[derive(Clone, Debug)]
pub struct StateFile {
    dir: PathBuf,
}

impl StateFile {
    /// In this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

impl Store for StateFile {
    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.dir.join(STATE);
        let read = spawn_blocking(move || match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(meta) if meta.len() > u64::try_from(MAX_STATE_BYTES).unwrap_or(u64::MAX) => {
                Err(io::Error::other(format!("it has more than {MAX_STATE_BYTES} bytes")))
            }
            Ok(_) => fs::read(&path).map(Some),
        });
        read.await.map_err(io::Error::other)?
    }

    async fn save(&self, bytes: &[u8]) -> io::Result<()> {
        let (dir, bytes) = (self.dir.clone(), Zeroizing::new(bytes.to_vec()));
        let saved = spawn_blocking(move || {
            files::ensure_dir(&dir, 0o700)?;
            files::write_atomic(&dir.join(STATE), &bytes, 0o600)
        });
        saved.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests put files there that others would")]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    const A: &str = "AAAAaaaaBBBBbbbb0001";
    const B: &str = "AAAAaaaaBBBBbbbb0002";

    async fn read(path: &Path, tag: Option<&str>) -> Result<Answer, String> {
        let from = Location::File(path.to_owned());
        let answer = SecretFiles::new(NoCloud).read(&from, tag).await;
        answer.map_err(|e| crate::errors::Chain(&e).to_string())
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_file_has_one_secret_a_line_and_is_read_again_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, &format!("{A}\n{B}\n"), 0o600);
        let Ok(Answer::Offer { offered, refused, tag }) = read(&path, None).await else { panic!() };
        let all: Vec<_> = offered.iter().map(|o| (o.secret.expose(), o.stage)).collect();
        assert_eq!(all, [(A, Stage::Current), (B, Stage::Pending)]);
        assert!(refused.is_empty());
        assert_eq!(read(&path, tag.as_deref()).await, Ok(Answer::Unchanged));
        files::write_atomic(&path, B.as_bytes(), 0o640).unwrap();
        let Ok(Answer::Offer { offered, .. }) = read(&path, tag.as_deref()).await else { panic!() };
        assert_eq!(offered.len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_secret_is_told_by_its_line_and_not_by_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, &format!("{A}\nshort\n{B}\n"), 0o600);
        let Ok(Answer::Offer { offered, refused, .. }) = read(&path, None).await else { panic!() };
        assert_eq!(offered.len(), 1);
        assert_eq!(refused.len(), 2);
        assert!(refused[0].starts_with("line 2 has 5 characters"), "{refused:?}");
        assert!(refused[1].contains("third"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("short"));
    }

    #[tokio::test]
    async fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for mode in [0o644, 0o604, 0o602] {
            write(&path, A, mode);
            let e = read(&path, None).await.unwrap_err();
            assert!(e.contains("everybody may use it"), "{e}");
        }
        let big = "a".repeat(5000);
        write(&path, &big, 0o600);
        assert!(read(&path, None).await.unwrap_err().contains("4096"));
        assert!(read(&dir.path().join("none"), None).await.unwrap_err().contains("none"));
    }

    #[tokio::test]
    async fn notes_are_read_once_by_whole_lines_and_thrown_away_when_there_are_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hits");
        let mut hits = HitsFile::new(path.clone());
        assert_eq!(hits.read().await.unwrap(), (Vec::new(), true));
        let mut nginx = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        nginx.write_all(b"one\ntw").unwrap();
        assert_eq!(hits.read().await.unwrap(), (b"one\n".to_vec(), true));
        nginx.write_all(b"o\n").unwrap();
        assert_eq!(hits.read().await.unwrap(), (b"two\n".to_vec(), true));
        assert_eq!(hits.read().await.unwrap(), (Vec::new(), true));
        let many = "0123456789abcde\n".repeat(70_000);
        nginx.write_all(many.as_bytes()).unwrap();
        let (bytes, is_all) = hits.read().await.unwrap();
        assert!(is_all && bytes == many.as_bytes());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        nginx.write_all(b"three\n").unwrap();
        assert_eq!(hits.read().await.unwrap(), (b"three\n".to_vec(), true));
        // Renamed away and made anew, as by a rotation of logs.
        fs::rename(&path, dir.path().join("hits.1")).unwrap();
        fs::write(&path, "four\n").unwrap();
        assert_eq!(hits.read().await.unwrap(), (b"four\n".to_vec(), true));
    }

    #[tokio::test]
    async fn the_state_is_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateFile::new(dir.path().join("origin"));
        assert_eq!(store.load().await.unwrap(), None);
        store.save(b"x").await.unwrap();
        assert_eq!(store.load().await.unwrap().as_deref(), Some(&b"x"[..]));
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("origin")), 0o700);
        assert_eq!(mode(&dir.path().join("origin/state.json")), 0o600);
    }
}
