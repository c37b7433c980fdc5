//! What processes read, and the notes that one agent leaves to the next.

use std::{io, os::fd::OwnedFd};

use palisade_types::ProcessName;

use super::super::ProcessSpec;

/// What processes read on this host.
pub trait Inputs: Send + Sync + 'static {
    /// A pipe to a process.
    type Input: InputPipe;

    /// A new pipe for the next child of a process. Whoever holds the one before keeps it.
    ///
    /// # Errors
    /// What the file system says.
    fn new_input(&self, name: &ProcessName, spec: &ProcessSpec) -> io::Result<Self::Input>;

    /// The pipe of a child that an earlier agent made.
    ///
    /// # Errors
    /// What the file system says; that there is none.
    fn old_input(&self, name: &ProcessName) -> io::Result<Self::Input>;
}

/// The agent's end of a pipe to a process. What is in it stays there, whoever dies but the process.
pub trait InputPipe: std::fmt::Debug + Send + Sync + 'static {
    /// An end for a child. It can be written to too, so the child never meets the end of its input.
    ///
    /// # Errors
    /// What the file system says.
    fn reader(&self) -> io::Result<OwnedFd>;

    /// Puts bytes in, whole or not at all, and without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room now, `FileTooLarge` if there never is, else what the kernel
    /// says.
    fn offer(&self, bytes: &[u8]) -> io::Result<()>;

    /// Marks the pipe as not written to.
    ///
    /// # Errors
    /// What the file system says.
    fn mark(&self) -> io::Result<()>;

    /// Whether it was written to since it was marked, whoever lived in between.
    fn written(&self) -> WrittenTo;
}

/// Whether a pipe was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenTo {
    /// It was.
    Yes,
    /// It was not.
    No,
    /// This file system does not tell.
    Unknown,
}

/// Small notes of an agent to the next one.
pub trait Notes: Send + Sync + 'static {
    /// Keeps a note, in place of the one of that name.
    ///
    /// # Errors
    /// What the file system says.
    fn note(&self, key: &str, bytes: &[u8]) -> io::Result<()>;

    /// A note, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    fn noted(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Removes a note.
    fn forget(&self, key: &str);
}
