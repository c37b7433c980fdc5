//! One stream of a session, as a reader and writer.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::{end::End, hub::Hub};

/// What streams, session and driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    hub: Mutex<Hub>,
    end: OnceLock<End>,
    /// The stream of a sequential session is free again.
    pub(crate) freed: Notify,
}

impl Shared {
    pub(crate) fn new(hub: Hub) -> Arc<Self> {
        Arc::new(Self { hub: Mutex::new(hub), end: OnceLock::new(), freed: Notify::new() })
    }

    /// Nothing is awaited or called back while this is held.
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session is over; everybody who waits for a stream learns it.
    pub(crate) fn end(&self, end: End) {
        // The first reason is the true one.
        drop(self.end.set(end));
        for line in self.hub().lines.values_mut() {
            line.wake();
        }
        self.freed.notify_waiters();
    }

    pub(crate) fn ended(&self) -> Option<&End> {
        self.end.get()
    }
}

/// A connection to the host's port. Dropping it closes the connection.
///
/// `shutdown` of the writing half ends the connection in both directions once the other side has been
/// silent for [`Options::linger`](crate::Options::linger): the agent knows no half-open connections.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    id: u32,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self { shared, id }
    }

    fn broken(&self) -> io::Error {
        match self.shared.ended() {
            Some(end) => io::Error::new(io::ErrorKind::BrokenPipe, end.clone()),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut hub = self.shared.hub();
        let Some(line) = hub.lines.get_mut(&self.id) else { return Poll::Ready(Ok(())) };
        if !line.input.is_empty() {
            let (a, b) = line.input.as_slices();
            let first = a.len().min(buf.remaining());
            buf.put_slice(a.get(..first).unwrap_or_default());
            let second = b.len().min(buf.remaining());
            buf.put_slice(b.get(..second).unwrap_or_default());
            line.input.drain(..first + second);
            if line.input.is_empty() {
                // What a burst needed is given back.
                line.input.shrink_to(64 << 10);
            }
            hub.took(first + second);
            return Poll::Ready(Ok(()));
        }
        if let Some(failed) = line.failed {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, failed)));
        }
        if line.in_done {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = self.shared.ended() {
            return Poll::Ready(if end.is_clean() { Ok(()) } else { Err(self.broken()) });
        }
        line.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut hub = self.shared.hub();
        let Some(line) = hub.lines.get_mut(&self.id) else {
            return Poll::Ready(Err(self.broken()));
        };
        if line.out_done.is_some() || line.in_done || self.shared.ended().is_some() {
            return Poll::Ready(Err(self.broken()));
        }
        if !line.has_room() {
            line.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(hub.write(self.id, buf)))
    }

    /// Bytes are on their way as soon as they are written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.hub().done(self.id, false);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.hub().done(self.id, true);
    }
}
