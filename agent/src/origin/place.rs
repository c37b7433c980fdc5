//! Puts the files in place, so that whatever fails and whoever is killed, nginx finds files that it takes.
//!
//! 1. nginx tests the new files by themselves, in another place: what it refuses is never put in place.
//! 2. They are put in place one by one, each whole; any mixture of old and new is good.
//! 3. nginx tests its configuration as it is now. If it refuses that, the old files come back, and a
//!    second test tells whose fault it was.

use std::{io, path::PathBuf};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    ports::{Server, TestError},
    render::{File, Site, When},
};
use crate::errors::Chain;

/// The files are in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Whether anything had to be put there.
    pub is_new: bool,
    /// What tells these files, as they are, from others.
    pub digest: String,
}

/// Why the files are not in place. The old ones are, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file that is there cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// nginx does not take the files by themselves.
    #[error("test the files for nginx")]
    Apart(#[source] TestError),
    /// A file cannot be written.
    #[error("write {path}")]
    Put {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// nginx does not take its configuration, and not with the old files either.
    #[error("nginx refuses its own configuration, with the old files as with the new ones")]
    Site(#[source] TestError),
    /// nginx takes its configuration with the old files only.
    #[error("nginx refuses its configuration with the new files; it has the old ones")]
    Refused(#[source] TestError),
}

impl PlaceError {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Put { .. } => {
                "make the directory of origin_guard.nginx.map one that the agent can write"
            }
            Self::Apart(TestError::Ask(_)) => {
                "install nginx, or say in origin_guard.nginx.program where it is"
            }
            Self::Apart(TestError::Refused(_)) => {
                "the secrets before stay in force; origin_guard.nginx.hits needs a directory that is there, \
                 and health and real_ip need nginx's realip module"
            }
            Self::Site(_) => {
                "nginx -t shows it; mend the site: until then nginx goes on as it is, and would not start"
            }
            Self::Refused(_) => {
                "the site may set what a file of the guard sets too: nginx -t, palisade doctor"
            }
        }
    }
}

/// Puts the files of a site in place, if they are not there.
///
/// # Errors
/// When they cannot be, or nginx does not take them.
pub async fn place(server: &impl Server, site: &Site<'_>) -> Result<Placed, PlaceError> {
    let mut wanted = Vec::new();
    let mut sum = Sha256::new();
    for file in site.files() {
        let old = server.read(&file.path).await;
        let old = old.map_err(|source| PlaceError::Read { path: file.path.clone(), source })?;
        let is_there = match (&old, file.when) {
            (Some(_), When::Absent) => true,
            (Some(old), When::Always) => *old == *file.content,
            (None, _) => false,
        };
        let stays = if is_there { old.as_deref() } else { None };
        sum.update(file.path.as_os_str().as_encoded_bytes());
        sum.update([0]);
        sum.update(Sha256::digest(stays.unwrap_or(&file.content)));
        if !is_there {
            wanted.push((file, old.map(Zeroizing::new)));
        }
    }
    let digest = sum.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if wanted.is_empty() {
        return Ok(Placed { is_new: false, digest });
    }
    server.test_apart(site).await.map_err(PlaceError::Apart)?;
    for (n, (file, _)) in wanted.iter().enumerate() {
        if let Err(source) = server.put(file).await {
            let path = file.path.clone();
            restore(server, wanted.iter().take(n)).await;
            return Err(PlaceError::Put { path, source });
        }
    }
    let Err(refusal) = server.test().await else {
        return Ok(Placed { is_new: true, digest });
    };
    restore(server, wanted.iter()).await;
    match server.test().await {
        Ok(()) => Err(PlaceError::Refused(refusal)),
        Err(own) => Err(PlaceError::Site(own)),
    }
}

/// Brings back what was there, the last first.
async fn restore<'a>(
    server: &impl Server,
    changed: impl DoubleEndedIterator<Item = &'a (File, Option<Zeroizing<Vec<u8>>>)>,
) {
    for (file, old) in changed.rev() {
        let back = match old {
            Some(content) => server.put(&File { content: content.clone(), ..file.clone() }).await,
            None => server.remove(&file.path).await,
        };
        if let Err(e) = back {
            // The new file is good by itself; the next try comes soon.
            tracing::error!(file = %file.path.display(), error = %Chain(&e), "an old file could not be brought back");
        }
    }
}
