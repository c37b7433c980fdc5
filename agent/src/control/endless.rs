//! A body of an answer that goes on until the client leaves: one step after the other, each made only
//! once the one before was sent.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// What comes next, and where to go on from there.
pub(super) type Step<S> = Pin<Box<dyn Future<Output = io::Result<(Bytes, S)>> + Send>>;

/// The body. A step that fails ends it.
pub(super) struct Endless<S> {
    next: Option<Step<S>>,
    more: fn(S) -> Step<S>,
}

impl<S> Endless<S> {
    /// A body of this first step and what follows from it.
    pub(super) fn new(
        first: impl Future<Output = io::Result<(Bytes, S)>> + Send + 'static,
        more: fn(S) -> Step<S>,
    ) -> Self {
        Self { next: Some(Box::pin(first)), more }
    }
}

impl<S> std::fmt::Debug for Endless<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endless")
    }
}

impl<S> Body for Endless<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(step) = &mut self.next else { return Poll::Ready(None) };
        match step.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((bytes, state))) => {
                self.next = Some((self.more)(state));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Err(e)) => {
                self.next = None;
                Poll::Ready(Some(Err(e)))
            }
        }
    }
}
