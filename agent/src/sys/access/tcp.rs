//! The kernel's tables of TCP connections, as `/proc/PID/net/tcp` and `tcp6` print them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) struct Connection {
    pub(in crate::sys) local: SocketAddr,
    pub(in crate::sys) remote: SocketAddr,
    pub(in crate::sys) uid: u32,
    pub(in crate::sys) inode: u64,
}

/// `st` of an established connection.
const ESTABLISHED: &str = "01";
/// `st` of a socket that waits for connections.
const LISTEN: &str = "0A";

/// The established connections of a table. A line that is not as expected is left out.
pub(in crate::sys) fn parse(table: &str) -> impl Iterator<Item = Connection> + '_ {
    in_state(table, ESTABLISHED)
}

/// The sockets of a table that wait for connections; `remote` of these says nothing.
pub(in crate::sys) fn listening(table: &str) -> impl Iterator<Item = Connection> + '_ {
    in_state(table, LISTEN)
}

fn in_state<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = Connection> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let local = address(fields.nth(1)?)?;
        let remote = address(fields.next()?)?;
        (fields.next()? == state).then_some(())?;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Connection { local, remote, uid, inode })
    })
}

/// `0100007F:0016`: words of the address in the machine's byte order. An IPv4 address inside IPv6 is
/// the IPv4 address, since either end may see it either way.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (i, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(i * 8)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:08AE 0100007F:C350 01 00000000:00000000 02:000A 00000000     0        0 4711 2 00 20 4 30 10 -1\n\
        1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:0000 00000000     0        0 1 1 0 100 0 0 10 0\n\
        2: nonsense\n";

    #[test]
    fn established_connections_are_read_and_listeners_and_nonsense_left_out() {
        let all: Vec<_> = parse(TABLE).collect();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.uid, one.inode), (0, 4711));
        assert_eq!(one.local, "127.0.0.1:2222".parse().unwrap());
        assert_eq!(one.remote, "127.0.0.1:50000".parse().unwrap());
        let all: Vec<_> = listening(TABLE).collect();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.local.port(), one.inode), (22, 1));
    }

    #[test]
    fn an_address_inside_ipv6_is_the_same_as_outside() {
        let mapped = address("0000000000000000FFFF00000100007F:0016").unwrap();
        assert_eq!(mapped, "127.0.0.1:22".parse().unwrap());
        let v6 = address("00000000000000000000000001000000:0016").unwrap();
        assert_eq!(v6, "[::1]:22".parse().unwrap());
        assert_eq!(address("0100007F:00G6"), None);
        assert_eq!(address("01:0016"), None);
    }
}
