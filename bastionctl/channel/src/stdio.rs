//! Joins a session's stream with standard input and output, byte for byte: for `ProxyCommand`.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    end::End,
    session::{Session, SessionError},
    stream::Stream,
};

/// Much at a time, as each piece costs a frame.
const BUFFER: usize = 64 << 10;

/// Copies `input` to the host and what comes from the host to `output`, until the session ends. At the
/// end of `input`, what was read is sent, the rest of the answer is awaited, and the session is
/// terminated. An `output` that cannot be written ends the session too.
///
/// # Errors
/// Reading or writing failed on this side, other than by a reader who has gone.
pub async fn join(
    session: Session,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> io::Result<End> {
    let stream = match session.stream().await {
        Ok(stream) => stream,
        Err(SessionError::Ended(end)) => return Ok(end),
        Err(SessionError::Open(error)) => return Err(io::Error::other(error)),
    };
    let (reader, writer) = tokio::io::split(stream);
    let mut up = Box::pin(send(input, writer));
    let mut down = Box::pin(receive(reader, output));
    // An input that failed or ended leaves the other direction to run; losing it loses nothing, since
    // the session is over when `down` returns.
    let result = tokio::select! {
        result = &mut down => result,
        result = &mut up => match result {
            Ok(()) => (&mut down).await,
            Err(error) => Err(error),
        },
    };
    drop((up, down));
    let end = if session.is_over() { session.end().await } else { session.close().await };
    result.map(|()| end)
}

async fn send(
    mut input: impl AsyncRead + Unpin,
    mut writer: tokio::io::WriteHalf<Stream>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = input.read(&mut buffer).await?;
        if count == 0 {
            return writer.shutdown().await;
        }
        // The session's end says why, not this error.
        if writer.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
            return Ok(());
        }
    }
}

async fn receive(
    mut reader: tokio::io::ReadHalf<Stream>,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        output.write_all(buffer.get(..count).unwrap_or_default()).await?;
        output.flush().await?;
    }
}
