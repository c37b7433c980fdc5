//! Lists read from files, and the small files in which good lists are kept.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::files;
use crate::firewall::{Feed, FeedLocation, FetchError, Fetched, Files, MAX_FEED_BYTES};

/// Reads a whole file of at most `max` bytes, with what tells its versions apart.
fn read_bounded_blocking(path: &Path, max: usize) -> io::Result<(Vec<u8>, String)> {
    // A pipe in its place is not waited for; a regular file takes no notice.
    let mut open = OpenOptions::new();
    let file = open.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok((bytes, tag_of(&meta)))
}

fn tag_of(meta: &std::fs::Metadata) -> String {
    let (s, ns) = (meta.mtime(), meta.mtime_nsec());
    format!("{}-{}-{s}.{ns:09}-{}", meta.dev(), meta.ino(), meta.size())
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(f).await.map_err(io::Error::other)?
}

/// Lists in files by ourselves, all others through `remote`.
#[derive(Clone, Debug)]
pub struct Feeds<U> {
    remote: U,
}

impl<U: Feed> Feeds<U> {
    /// Reads what is in no file through `remote`.
    pub fn new(remote: U) -> Self {
        Self { remote }
    }
}

impl<U: Feed> Feed for Feeds<U> {
    async fn fetch(
        &self,
        location: &FeedLocation,
        tag: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        let path = match location {
            FeedLocation::Url(_) | FeedLocation::Ec2(_) => {
                return self.remote.fetch(location, tag).await;
            }
            FeedLocation::File(path) => path.clone(),
        };
        let fail = |e| FetchError::because(format!("read {}", path.display()), e);
        let (file, before) = (path.clone(), tag.map(str::to_owned));
        let read = blocking(move || {
            if before.is_some() && before == std::fs::metadata(&file).ok().map(|m| tag_of(&m)) {
                return Ok(None);
            }
            read_bounded_blocking(&file, MAX_FEED_BYTES).map(Some)
        });
        Ok(match read.await.map_err(fail)? {
            None => Fetched::NotModified,
            Some((bytes, tag)) => Fetched::Body { bytes, tag: Some(tag) },
        })
    }

    async fn own_networks(&self) -> Vec<String> {
        self.remote.own_networks().await
    }
}

/// For a host that reads no URL.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoUrls;

impl Feed for NoUrls {
    async fn fetch(&self, location: &FeedLocation, _: Option<&str>) -> Result<Fetched, FetchError> {
        Err(FetchError::new(format!("this agent cannot read {location:?}")))
    }
}

/// Small files on disk, 0600 in directories of 0700.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    async fn read(&self, path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || match read_bounded_blocking(&path, max) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
        .await
    }

    async fn write(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let path: PathBuf = path.to_owned();
        blocking(move || {
            if let Some(dir) = path.parent() {
                files::ensure_dir(dir, 0o700)?;
            }
            files::write_atomic(&path, &bytes, 0o600)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_once_for_each_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.json");
        let at = FeedLocation::File(path.clone());
        let feeds = Feeds::new(NoUrls);
        assert!(feeds.fetch(&at, None).await.is_err());

        files::write_atomic(&path, b"one", 0o600).unwrap();
        let Fetched::Body { bytes, tag } = feeds.fetch(&at, None).await.unwrap() else { panic!() };
        assert_eq!(bytes, b"one");
        assert_eq!(feeds.fetch(&at, tag.as_deref()).await.unwrap(), Fetched::NotModified);
        files::write_atomic(&path, b"two", 0o600).unwrap();
        let again = feeds.fetch(&at, tag.as_deref()).await.unwrap();
        assert!(matches!(again, Fetched::Body { bytes, .. } if bytes == b"two"));
    }

    #[tokio::test]
    async fn an_oversized_or_special_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        std::fs::File::create(&path).unwrap().set_len(u64::MAX >> 2).unwrap_or_default();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(50 << 20).unwrap();
        let feeds = Feeds::new(NoUrls);
        for bad in [path, "/dev/zero".into(), dir.path().to_owned()] {
            assert!(feeds.fetch(&FeedLocation::File(bad.clone()), None).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn kept_files_are_written_and_read_and_absent_ones_are_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.json");
        assert_eq!(DiskFiles.read(&path, 10).await.unwrap(), None);
        DiskFiles.write(&path, b"{}".to_vec()).await.unwrap();
        assert_eq!(DiskFiles.read(&path, 10).await.unwrap().unwrap(), b"{}");
        assert!(DiskFiles.read(&path, 1).await.is_err());
    }
}
