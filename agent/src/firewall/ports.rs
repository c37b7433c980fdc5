//! What the firewall needs of the outside.

use std::{
    error::Error,
    future::Future,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{observe::Observed, plan::Change, settings::FeedLocation};

/// The part of the kernel that holds our table.
pub trait Kernel: Send + 'static {
    /// Reads our table.
    fn read(&mut self) -> impl Future<Output = Result<Observed, KernelError>> + Send;
    /// Makes a change as one transaction: wholly or not at all.
    fn apply(&mut self, change: &Change) -> impl Future<Output = Result<(), KernelError>> + Send;
    /// A copy of the socket that owns our table, for another process to write it by; none where no
    /// socket owns it and whoever may change rules can change ours.
    fn share(&self) -> Option<OwnedFd> {
        None
    }
}

/// Why the kernel's rules could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct KernelError {
    /// What was tried and what was answered.
    pub what: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Word from the kernel that rules were changed.
///
/// A hint: the truth is what [`Kernel::read`] says. Missing one costs time and nothing else.
pub trait Changes: Send + 'static {
    /// Waits for a change of our table. Losing the wait loses nothing.
    fn next(&mut self) -> impl Future<Output = Changed> + Send;
    /// Takes all that came so far, and returns the last.
    fn drain(&mut self) -> Option<Changed>;
    /// Whether word ever comes.
    fn is_watching(&self) -> bool {
        true
    }
}

/// A change of our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Process id and name of whoever made it, where the kernel said.
    pub by: Option<(u32, String)>,
    /// Where that program is from, if it was still there to be asked.
    pub place: Option<Place>,
}

/// Where a program is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its file.
    pub exe: Option<PathBuf>,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

impl<C: Changes> Changes for Option<C> {
    async fn next(&mut self) -> Changed {
        match self {
            Some(c) => c.next().await,
            None => std::future::pending().await,
        }
    }

    fn drain(&mut self) -> Option<Changed> {
        self.as_mut()?.drain()
    }

    fn is_watching(&self) -> bool {
        self.is_some()
    }
}

/// A place where lists are read.
pub trait Feed: Send + Sync + 'static {
    /// Reads a list, unless it is still the version called `tag`. The answer comes within a bounded
    /// time and with at most [`super::feed::MAX_BYTES`].
    fn fetch(
        &self,
        location: &FeedLocation,
        tag: Option<&str>,
    ) -> impl Future<Output = Result<Fetched, FetchError>> + Send;

    /// Networks of this host's own, as prefixes, which no list of public addresses may have. None where
    /// nobody knows; the answer comes within seconds.
    fn own_networks(&self) -> impl Future<Output = Vec<String>> + Send {
        std::future::ready(Vec::new())
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is still the version asked with.
    NotModified,
    /// The list.
    Body {
        /// Its bytes, unpacked.
        bytes: Vec<u8>,
        /// What the source calls this version.
        tag: Option<String>,
    },
    /// What EC2 has now.
    Prefixes {
        /// Prefixes as text, to be read strictly.
        prefixes: Vec<String>,
        /// Whether the list is one of AWS's own, of public addresses.
        is_amazons: bool,
    },
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct FetchError {
    /// What was tried and what went wrong.
    pub what: String,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl FetchError {
    /// An error without a cause below.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// An error with a cause below.
    #[must_use]
    pub fn because(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// Small files that are whole or absent.
pub trait Files: Send + 'static {
    /// Reads a file of at most `max` bytes; none if it is absent.
    fn read(
        &self,
        path: &Path,
        max: usize,
    ) -> impl Future<Output = std::io::Result<Option<Vec<u8>>>> + Send;
    /// Writes a file so that it survives a crash, making its directory where needed. On failure the
    /// old file still stands.
    fn write(
        &self,
        path: &Path,
        bytes: Vec<u8>,
    ) -> impl Future<Output = std::io::Result<()>> + Send;
}
