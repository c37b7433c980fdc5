//! The socket of a FastCGI program, as one that Palisade holds.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{
    Host,
    model::{Int, Socket, SocketAddress},
};
use crate::supervise::{ListenAddr, SharedSocket};

/// The kernel's limit on the path of a UNIX socket.
const MAX_PATH: usize = 107;

/// The socket, or why there can be none.
pub(super) fn shared(socket: &Socket, host: &dyn Host) -> Result<SharedSocket, String> {
    let backlog = socket.backlog.and_then(|n| u32::try_from(n).ok());
    match &socket.address {
        SocketAddress::Tcp { host: name, port } => {
            let ip = address(name, host)
                .ok_or_else(|| format!("{name:?} is neither an IPv4 address nor in /etc/hosts"))?;
            let port = u16::try_from(*port).unwrap_or_default();
            let listen = ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(ip), port));
            Ok(SharedSocket { listen, backlog, mode: 0o700, owner: None })
        }
        SocketAddress::Unix { path, mode, owner } => {
            if path.len() > MAX_PATH {
                return Err(format!("{path} is longer than {MAX_PATH} bytes"));
            }
            let owner = owner.as_ref().map(|(user, group)| match group {
                None => user.clone(),
                Some(group) => format!("{user}:{group}"),
            });
            let mode: Int = mode & 0o777;
            let mode = u32::try_from(mode).unwrap_or_default();
            Ok(SharedSocket { listen: ListenAddr::Unix(path.into()), backlog, mode, owner })
        }
    }
}

/// An address by its name. No name server is asked: it would be a different answer at each start.
fn address(name: &str, host: &dyn Host) -> Option<Ipv4Addr> {
    if let Ok(ip) = name.parse() {
        return Some(ip);
    }
    if name == "localhost" {
        return Some(Ipv4Addr::LOCALHOST);
    }
    let hosts = host.read(Path::new("/etc/hosts")).ok()?;
    let hosts = String::from_utf8_lossy(&hosts);
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(name)).then_some(ip)
    })
}
