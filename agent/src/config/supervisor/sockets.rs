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

/// The socket. One that there cannot be is nowhere, as Supervisor finds when it starts the first of its
/// group.
pub(super) fn shared(socket: &Socket, host: &dyn Host) -> SharedSocket {
    let nowhere = |address: String, why: String| {
        let listen = ListenAddr::Nowhere { address, why };
        SharedSocket { listen, backlog: None, mode: 0o700, owner: None }
    };
    let backlog = socket.backlog.and_then(|n| u32::try_from(n).ok());
    match &socket.address {
        SocketAddress::Tcp { host: name, port } => {
            let Some(ip) = address(name, host) else {
                let why = format!("{name:?} is neither an IPv4 address nor in /etc/hosts");
                return nowhere(format!("tcp:{name}:{port}"), why);
            };
            let port = u16::try_from(*port).unwrap_or_default();
            let listen = ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(ip), port));
            SharedSocket { listen, backlog, mode: 0o700, owner: None }
        }
        SocketAddress::Unix { path, mode, owner } => {
            if path.len() > MAX_PATH {
                let why = format!("{path} is longer than {MAX_PATH} bytes");
                return nowhere(format!("unix:{path}"), why);
            }
            let owner = owner.as_ref().map(|(user, group)| match group {
                None => user.clone(),
                Some(group) => format!("{user}:{group}"),
            });
            let mode: Int = mode & 0o777;
            let mode = u32::try_from(mode).unwrap_or_default();
            SharedSocket { listen: ListenAddr::Unix(path.into()), backlog, mode, owner }
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
