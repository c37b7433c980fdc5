//! The site under the storm: answers each request on the socket that it was given and writes its
//! number down, one line each. Told to stop, it takes no further connection and answers those it has
//! until they have asked all they wanted.

use std::time::Duration;

use anyhow::{Context as _, Result};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time,
};

use crate::say;

/// A connection that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest request.
const MAX_REQUEST: usize = 4096;

/// The site's whole life.
pub(crate) async fn serve() -> Result<()> {
    let listener = ListenFd::from_env().take_tcp_listener(0).context("take the socket")?;
    let listener = listener.context("no listening socket was given")?;
    listener.set_nonblocking(true).context("take the socket")?;
    let listener = TcpListener::from_std(listener).context("take the socket")?;
    let mut stop = signal(SignalKind::terminate()).context("listen to signals")?;
    sd_notify::notify(&[NotifyState::Ready]).context("say that it is ready")?;
    let mut open = JoinSet::new();
    loop {
        // A connection that is not taken stays in the queue, for whoever else has the socket.
        tokio::select! {
            biased;
            _ = stop.recv() => break,
            Some(_) = open.join_next() => {}
            taken = listener.accept() => {
                let (stream, _) = taken.context("take a connection")?;
                open.spawn(time::timeout(PATIENCE, answer(stream)));
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

/// The requests of one connection; whoever went away in the middle of one asks again by itself.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&request);
        let number = text.split("?n=").nth(1).and_then(|rest| rest.split(' ').next());
        // Written down first: a request that was answered is one whose line is on its way.
        say::line(number.unwrap_or("without number"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
        if text.contains("Connection: close") {
            return stream.shutdown().await;
        }
    }
}
