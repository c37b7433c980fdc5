//! Who is connected to this host, and by which SSH connection somebody came.
//!
//! ```text
//! asker ── parents ──> sshd ── fd ──> socket ── /proc/net/tcp ──> the other end
//!   └── SSH_CONNECTION of it or a parent, if there is such a connection (inside tmux, say)
//! ```

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use tokio::task::spawn_blocking;

use super::{
    access::{
        tcp,
        trace::{MAX_TABLE, is_one_of, sockets},
    },
    children::Children,
    foreign_tables, proc,
};
use crate::firewall::safety::{Connection, Surroundings, View};

/// Parents that are looked at: shells, sudo, screen.
const GENERATIONS: usize = 32;
/// Names of the SSM agent's processes, as the kernel cuts them.
const SSM: [&str; 2] = ["amazon-ssm-agen", "ssm-agent-worke"];
/// An environment that is larger is not read to its end.
const MAX_ENVIRONMENT: u64 = 256 << 10;

/// Looks in `/proc`.
#[derive(Clone, Debug)]
pub struct ProcView {
    /// Where sshd's programs are.
    pub sshd: Vec<PathBuf>,
    /// To run nft by, which lists the tables of others.
    pub children: Children,
}

impl ProcView {
    /// Looks for sshd where Debian and Amazon Linux have it.
    #[must_use]
    pub fn new(children: Children) -> Self {
        let sshd = [
            "/usr/sbin/sshd",
            "/usr/lib/openssh/sshd-session",
            "/usr/libexec/openssh/sshd-session",
        ];
        Self { sshd: sshd.map(PathBuf::from).into(), children }
    }
}

impl View for ProcView {
    async fn look(&mut self, asker: Option<i32>) -> Surroundings {
        let sshd = self.sshd.clone();
        // A panic there would be ours; nobody connected is what it then says.
        spawn_blocking(move || look(&sshd, asker)).await.unwrap_or_default()
    }

    async fn foreign(&mut self) -> Vec<String> {
        foreign_tables::notes(&self.children).await
    }
}

fn look(sshd: &[PathBuf], asker: Option<i32>) -> Surroundings {
    let tables = ["tcp", "tcp6"].map(|name| {
        let mut text = String::new();
        // Where there is no IPv6 there is no table of it.
        let file = fs::File::open(format!("/proc/thread-self/net/{name}"));
        drop(file.and_then(|f| f.take(MAX_TABLE).read_to_string(&mut text)));
        text
    });
    let listening: Vec<tcp::Connection> = tables.iter().flat_map(|t| tcp::listening(t)).collect();
    let ports: BTreeSet<u16> = listening.iter().map(|l| l.local.port()).collect();
    let established: Vec<tcp::Connection> = tables.iter().flat_map(|t| tcp::parse(t)).collect();
    let (ssh_ports, ssm) = servers(sshd, &listening);
    // What we opened to others comes back whatever the rules for new connections say; that is also what
    // sshd forwards for its users.
    let established: Vec<tcp::Connection> =
        established.into_iter().filter(|c| ports.contains(&c.local.port())).collect();
    let own = asker.and_then(|pid| own(pid, sshd, &established));
    let connections =
        established.iter().map(|c| Connection { local: c.local, remote: c.remote }).collect();
    Surroundings { connections, ssh_ports, ssm, own, asked: asker.is_some() }
}

/// The ports at which sshd listens, or systemd for it, and whether the SSM agent runs.
fn servers(sshd: &[PathBuf], listening: &[tcp::Connection]) -> (BTreeSet<u16>, bool) {
    let (mut ports, mut ssm) = (BTreeSet::new(), false);
    for pid in proc::pids() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ssm |= SSM.contains(&name.trim());
        let is_sshd = is_one_of(pid, sshd);
        if !is_sshd && pid != 1 {
            continue;
        }
        let held: BTreeSet<u64> = sockets(pid).collect();
        let held = listening.iter().filter(|l| held.contains(&l.inode));
        // Of what systemd holds for others only the usual port is known to be sshd's.
        ports.extend(held.map(|l| l.local.port()).filter(|p| is_sshd || *p == 22));
    }
    (ports, ssm)
}

/// The connection by which a process's user came.
fn own(asker: i32, sshd: &[PathBuf], all: &[tcp::Connection]) -> Option<Connection> {
    let mut pid = asker;
    let mut hint = None;
    for _ in 0..GENERATIONS {
        if is_one_of(pid, sshd) {
            let held: BTreeSet<u64> = sockets(pid).collect();
            let mut held = all.iter().filter(|c| held.contains(&c.inode));
            if let Some(c) = held.next() {
                return Some(Connection { local: c.local, remote: c.remote });
            }
        }
        hint = hint.or_else(|| told(pid, all));
        pid = proc::stat(pid).ok()?.parent;
        if pid <= 1 {
            break;
        }
    }
    hint
}

/// What `SSH_CONNECTION` of a process says, if there is such a connection.
fn told(pid: i32, all: &[tcp::Connection]) -> Option<Connection> {
    let mut environ = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MAX_ENVIRONMENT).read_to_end(&mut environ).ok()?;
    let value = proc::variable(&environ, "SSH_CONNECTION")?.into_string().ok()?;
    let mut words = value.split_ascii_whitespace();
    let mut end = || {
        let ip: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(ip.to_canonical(), words.next()?.parse().ok()?))
    };
    let (remote, local) = (end()?, end()?);
    let found = all.iter().find(|c| c.remote == remote && c.local.port() == local.port())?;
    Some(Connection { local: found.local, remote: found.remote })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::testing::once_closed;

    #[expect(clippy::disallowed_methods, reason = "a real process to look at")]
    fn child(ssh_connection: &str) -> Child {
        Command::new("/bin/sleep")
            .arg("100")
            .env_clear()
            .env("SSH_CONNECTION", ssh_connection)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_caller_is_traced_to_their_connection_by_sshd_or_else_by_what_they_were_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let (local, remote) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
        let connection = Connection { local, remote };

        let around = look(&[], None);
        assert!(around.connections.contains(&connection) && !around.asked);
        let outgoing = Connection { local: remote, remote: local };
        assert!(!around.connections.contains(&outgoing), "what was opened to others");

        // This process stands for sshd: it listens, and holds the connection of the child's caller.
        let mut blind = child("");
        let pid = i32::try_from(blind.id()).unwrap();
        let sshd = [std::env::current_exe().unwrap()];
        let around = look(&sshd, Some(pid));
        assert_eq!(
            around.own.map(|c| c.local.port()).is_some(),
            around.ssh_ports.contains(&local.port())
        );
        assert!(around.own.is_some() && around.asked);
        assert_eq!(look(&[], Some(pid)).own, None);
        blind.kill().unwrap();
        blind.wait().unwrap();

        let (from, to) = (remote.port(), local.port());
        let mut told = child(&format!("127.0.0.1 {from} 127.0.0.1 {to}"));
        let pid = i32::try_from(told.id()).unwrap();
        assert_eq!(look(&[], Some(pid)).own, Some(connection));
        drop((ours, theirs));
        // What it was told is of the past by now.
        once_closed(|| look(&[], Some(pid)).own.map_or(Ok(()), Err));
        told.kill().unwrap();
        told.wait().unwrap();
    }
}
