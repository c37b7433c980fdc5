//! What the guard needs of the outside.

use std::{error::Error, future::Future, io, path::Path};

use super::{
    model::Offered,
    render::{File, Site},
    settings::Location,
};

/// Where secrets are read.
pub trait SecretSource: Send + Sync + 'static {
    /// Reads what is there, unless it is still the version called `tag`. The answer comes within a
    /// bounded time.
    fn read(
        &self,
        from: &Location,
        tag: Option<&str>,
    ) -> impl Future<Output = Result<Answer, SourceError>> + Send;
}

/// What a source said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is still the version asked with.
    Unchanged,
    /// What it has.
    Offer {
        /// The values.
        offered: Vec<Offered>,
        /// What was there and cannot be a secret, and why, without telling it.
        refused: Vec<String>,
        /// What the source calls this version.
        tag: Option<String>,
    },
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// What was tried and what was answered.
    pub what: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The cause below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// The web server and the files that it includes.
pub trait Server: Send + Sync + 'static {
    /// What a file has now; none if it is absent.
    fn read(&self, path: &Path) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send;
    /// Puts a file in place: whole, or not at all.
    fn put(&self, file: &File) -> impl Future<Output = io::Result<()>> + Send;
    /// Takes a file away that was not there before.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;
    /// Has nginx test these files by themselves, somewhere else.
    fn test_apart(&self, site: &Site<'_>) -> impl Future<Output = Result<(), TestError>> + Send;
    /// Has nginx test its configuration as it is on disk.
    fn test(&self) -> impl Future<Output = Result<(), TestError>> + Send;
    /// Whether it runs.
    fn is_running(&self) -> impl Future<Output = bool> + Send;
    /// Has nginx read its configuration, and waits until it answers by it.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, ReloadError>> + Send;
}

/// What came of a word to nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// New workers answer.
    Yes,
    /// It does not run; it will read the files when it starts.
    NotRunning,
}

/// Why a configuration is not good.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// nginx says so.
    #[error("nginx -t: {0}")]
    Refused(String),
    /// nginx could not be asked.
    #[error("ask nginx to test its configuration")]
    Ask(#[source] Box<dyn Error + Send + Sync>),
}

/// Why nginx did not take its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It could not be told.
    #[error("tell nginx to read its configuration")]
    Tell(#[source] io::Error),
    /// It was told, and no new worker came.
    #[error("nginx goes on with its old workers {0} s after it was told to read its configuration")]
    Deaf(u64),
}

/// What nginx noted about requests.
pub trait Hits: Send + 'static {
    /// The whole lines that came since the last time, at most 4 MiB of them, and whether that is all.
    /// A file that is not there has none.
    fn read(&mut self) -> impl Future<Output = io::Result<(Vec<u8>, bool)>> + Send;
}

/// Where the accepted values are kept.
pub trait Store: Send + Sync + 'static {
    /// What was kept; none if nothing was.
    fn load(&self) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send;
    /// Keeps this, so that it survives a crash. On failure the old still stands.
    fn save(&self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
}
