//! Stands for the real agent's worker on a host: `ssm-session-worker SessionId host port` is the
//! local end of the connection, and the file that names the session's owner lies where the real
//! agent puts it, for as long.
#![expect(
    clippy::print_stderr,
    reason = "a program for test hosts, which says on stderr whether it is connected"
)]

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The file with the session's owner. Removed when dropped, unless a later connection of the session has
/// put its own there.
#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

impl StateFile {
    fn write(root: &Path, instance: &str, session: &str, owner: &str) -> io::Result<Self> {
        let folder = root.join("var/lib/amazon/ssm").join(instance).join("document/state/current");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let content = json!({
            "DocumentInformation": {
                "DocumentID": session,
                "DocumentStatus": "InProgress",
                "DocumentType": "StartSession",
            },
            "InstancePluginsInformation": [{
                "Name": "Port",
                "Id": "Port",
                "Configuration": {
                    "SessionId": session,
                    "SessionOwner": owner,
                    "ClientId": "",
                    "PluginName": "Port",
                },
            }],
        });
        let new = folder.join(format!("{session}.{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content.to_string().as_bytes())?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let path = folder.join(session);
        let inode = file.metadata()?.ino();
        fs::rename(&new, &path)?;
        Ok(Self { path, inode })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [session, host, port] = &arguments[..] else {
        eprintln!("usage: ssm-session-worker SessionId host port");
        return ExitCode::from(2);
    };
    match run(session, host, port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{host}:{port}: {e}");
            ExitCode::from(3)
        }
    }
}

fn run(session: &str, host: &str, port: &str) -> io::Result<()> {
    let port = port.parse().map_err(io::Error::other)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@=+".contains(c);
    if session.is_empty() || session.starts_with('.') || !session.chars().all(plain) {
        return Err(io::Error::other("not a session id"));
    }
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (root, owner) = (variable("PALISADE_WORKER_STATE"), variable("PALISADE_WORKER_OWNER"));
    let _state = if root.is_empty() {
        None
    } else {
        let instance = variable("PALISADE_WORKER_INSTANCE");
        Some(StateFile::write(Path::new(&root), &instance, session, &owner)?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(relay(host, port));
    // The thread that reads stdin may wait for ever.
    runtime.shutdown_background();
    outcome
}

async fn relay(host: &str, port: u16) -> io::Result<()> {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    eprintln!("connected");
    let (mut from, mut to) = stream.into_split();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let up = async {
        let (mut input, mut buffer) = (tokio::io::stdin(), vec![0_u8; 64 << 10]);
        loop {
            match input.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) if to.write_all(&buffer[..n]).await.is_err() => {
                    return std::future::pending().await;
                }
                Ok(_) => {}
            }
        }
    };
    let down = async {
        let (mut output, mut buffer) = (tokio::io::stdout(), vec![0_u8; 64 << 10]);
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let sent = output.write_all(&buffer[..n]).await.is_ok();
                    if !sent || output.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // No half-close, as with the real worker.
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
