//! Connects a session on its instance: from this process, or by a worker where the instance is.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time,
};

use crate::{channel::session::Session, peer::Shared};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker may take to end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Both directions of a connection. Dropping it closes it and ends the worker.
pub(crate) struct Pipe {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What must live as long.
    pub(crate) keep: Option<Worker>,
}

/// A worker. It ends by itself once its pipes are closed, and removes its file; killing it comes
/// only after that, for one that is stuck.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Option<Child>,
    shared: Arc<Shared>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.shared.spawn(async move {
            if time::timeout(FAREWELL, child.wait()).await.is_err() {
                // It may have ended at this moment.
                child.kill().await.unwrap_or_default();
            }
        });
    }
}

/// Connects to `host:port` as the session's instance sees it.
pub(crate) async fn dial(
    shared: &Arc<Shared>,
    me: &Session,
    host: &str,
    port: u16,
) -> io::Result<Pipe> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    let dialed = async {
        if me.instance.dialer.worker.is_empty() {
            direct(me, host, port).await
        } else {
            worker(shared, me, host, port).await
        }
    };
    time::timeout(PATIENCE, dialed).await.map_err(late)?
}

async fn direct(me: &Session, host: &str, port: u16) -> io::Result<Pipe> {
    let name = format!("{host}:{port}");
    let stream = match me.instance.dialer.ports.get(&name) {
        Some(other) => TcpStream::connect(other).await?,
        // The agent's word for itself; a name server has no say in it.
        None if host == "localhost" => TcpStream::connect(("127.0.0.1", port)).await?,
        None => TcpStream::connect(name).await?,
    };
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Pipe { reader: Box::new(reader), writer: Box::new(writer), keep: None })
}

async fn worker(shared: &Arc<Shared>, me: &Session, host: &str, port: u16) -> io::Result<Pipe> {
    let nothing = || io::Error::other("a worker without command or pipes");
    let (program, arguments) = me.instance.dialer.worker.split_first().ok_or_else(nothing)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args([&me.id, host, &port.to_string()])
        .env("PALISADE_WORKER_OWNER", &me.owner)
        .env("PALISADE_WORKER_INSTANCE", &me.instance.id)
        .env("PALISADE_WORKER_STATE", &me.instance.dialer.state_root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (writer, reader) = (child.stdin.take(), child.stdout.take());
    let said = child.stderr.take();
    let keep = Worker { child: Some(child), shared: shared.clone() };
    let writer = writer.ok_or_else(nothing)?;
    let reader = reader.ok_or_else(nothing)?;
    let mut said = BufReader::new(said.ok_or_else(nothing)?);
    let mut line = String::new();
    said.read_line(&mut line).await?;
    if line.trim_end() != "connected" {
        return Err(io::Error::other(line.trim_end().to_owned()));
    }
    // Whatever it says later must not fill the pipe.
    shared.spawn(async move {
        tokio::io::copy(&mut said, &mut tokio::io::sink()).await.unwrap_or_default();
    });
    Ok(Pipe { reader: Box::new(reader), writer: Box::new(writer), keep: Some(keep) })
}
