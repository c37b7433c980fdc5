//! For tests: pipes, logs, sinks and stores that keep nothing.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use crate::supervise::{FdStore, LogOutcome, OutputPipe, OutputSink, OutputSource, ProgramLog};

pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

/// A pipe through which nothing comes.
#[derive(Debug)]
pub struct SilentPipe;

impl OutputPipe for SilentPipe {
    fn writer(&self) -> io::Result<OwnedFd> {
        null()
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        null()
    }

    async fn grown(&self) -> io::Result<()> {
        std::future::pending().await
    }

    fn peek(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        Ok(())
    }

    fn consume(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
}

/// A log that keeps nothing.
#[derive(Debug)]
pub struct NoLog;

impl ProgramLog for NoLog {
    fn append(&mut self, _: &[u8]) -> LogOutcome {
        LogOutcome::Written
    }
    fn show(&mut self, _: &[u8]) {}
}

/// A sink that takes everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl OutputSink for NoSink {
    async fn write(&self, _: &OutputSource, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A store that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

impl FdStore for NoStore {
    fn store(&self, _: &str, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}
