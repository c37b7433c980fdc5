//! Serves a local listener over a session: each connection to it is a stream.

use std::{future::Future, io};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};
use tracing::debug;

use crate::{
    end::End,
    handshake::Mode,
    session::{Session, SessionError},
    stream::Stream,
};

/// Connections at a time; the kernel's queue holds the next ones.
const MOST: usize = 256;
const BUFFER: usize = 64 << 10;

/// Somewhere to accept connections.
pub trait Listener: Send {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Waits for one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (tcp, _) = Self::accept(self).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(unix, _)| unix)
    }
}

/// Serves `listener` until the session ends, and gives its reason. One connection that fails, be it to
/// a port where nobody listens, ends nothing else.
pub async fn serve(session: &Session, listener: &impl Listener) -> End {
    let most = match session.live().await {
        Ok(Mode::Mux { .. }) => MOST,
        Ok(Mode::Basic | Mode::Sequential) => 1,
        Err(end) => return end,
    };
    let mut connections = JoinSet::new();
    let mut end = Box::pin(session.end());
    loop {
        // Losing `accept` loses no connection, by its contract; the others are only waited for.
        tokio::select! {
            end = &mut end => {
                // What has arrived is still handed out.
                while connections.join_next().await.is_some() {}
                return end;
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < most => {
                let io = match accepted {
                    Ok(io) => io,
                    Err(error) => {
                        // Most often too many files; do not spin on it.
                        debug!(%error, "accept");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                };
                match session.stream().await {
                    Ok(stream) => { connections.spawn(join(io, stream)); }
                    Err(SessionError::Ended(end)) => return end,
                    Err(SessionError::Open(error)) => debug!(%error, "connection refused"),
                }
            }
        }
    }
}

/// Copies both ways until both are done. The stream's own end is the end of both, so the local side
/// is closed when its peer has had the last byte. What arrived before the far side ended is handed
/// out, even when the local side writes after that end.
pub async fn join(io: impl AsyncRead + AsyncWrite + Send + Unpin, stream: Stream) {
    let (mut local_in, mut local_out) = tokio::io::split(io);
    let (mut far_in, mut far_out) = tokio::io::split(stream);
    let up = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            match local_in.read(&mut buffer).await {
                Ok(0) => {
                    // As with bytes below: a far side that is gone is told by its other direction.
                    drop(far_out.shutdown().await);
                    return Ok(());
                }
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    if far_out.write_all(bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            match far_in.read(&mut buffer).await? {
                0 => return local_out.shutdown().await,
                count => local_out.write_all(buffer.get(..count).unwrap_or_default()).await?,
            }
        }
    };
    let (mut up, mut down) = (Box::pin(up), Box::pin(down));
    // When the far side is done the connection is closed, whatever this side would still write: the
    // agent has closed it in both directions.
    let result = tokio::select! {
        result = &mut down => result,
        result = &mut up => match result {
            Ok(()) => (&mut down).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{hub::Hub, stream::Shared};

    #[tokio::test]
    async fn what_arrived_is_handed_out_even_if_the_local_side_writes_after_the_end() {
        let mut hub = Hub::new(std::time::Duration::from_secs(1));
        hub.begin(Mode::Basic);
        let id = hub.open().unwrap();
        hub.received(Bytes::from(vec![7; 1000])).unwrap();
        let shared = Shared::new(hub);
        shared.end(End::Closed { output: String::new() });
        // Smaller than what arrived: the local side's bytes come before the last of it is read.
        let (mut local, io) = tokio::io::duplex(64);
        let reader = async {
            local.write_all(b"late").await.unwrap();
            let mut read = Vec::new();
            local.read_to_end(&mut read).await.unwrap();
            read
        };
        let ((), read) = tokio::join!(join(io, Stream::new(shared, id)), reader);
        assert_eq!(read, [7; 1000]);
    }
}
