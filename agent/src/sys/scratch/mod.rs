//! Real packets against rules that are not in force: a network of its own for some milliseconds.
//!
//! ```text
//! one namespace:   wire ══ veth ══ far
//!                   │              └── first packets of TCP connections, from any address, as frames
//!   rules at the input hook, a listener at each port ── answers ──> far
//! ```
//! Both ends of the cable are in one namespace: what is put on the far end comes in at `wire` as from the
//! network. An answer that acknowledges was let in, a reset was rejected, no answer was dropped. The
//! namespace is a thread's own, and gone with it; nothing has a name that could stay behind.

mod packet;
mod prober;
mod rtnl;
mod wire;

pub use prober::{Scratch, work};

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    time::Duration,
};

use nix::{
    poll::poll,
    sched::{CloneFlags, unshare},
};

use self::{rtnl::Rtnl, wire::Wire};
use super::nftables::NftTable;
use crate::firewall::{
    Kernel as _, Observed, Ruleset, compare,
    safety::{Answers, Probe, Verdict},
};

/// Our end: of the networks for benchmarks and for documentation, from which nobody comes.
const HERE4: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const WIRE: &str = "wire";
const FAR: &str = "far";
/// Packets that are under way at once: fewer than any queue on their way holds.
const BATCH: usize = 128;
/// No answer comes any more after so long without one. The kernel answers before the packet is sent.
const QUIET: Duration = Duration::from_millis(25);
/// An unanswered packet is sent again this often, should a busy machine have lost it.
const AGAIN: usize = 1;

/// Listeners that are kept for the next packets; beyond it all begin anew.
const MAX_LISTENERS: usize = 256;
/// A port that is in use is tried again this often, for half a second.
const PORT_TRIES: u32 = 50;
const PORT_RETRY_MS: u16 = 10;

/// The kernel whose rules are tried: that of the thread's own network.
fn kernel() -> io::Result<NftTable> {
    NftTable::open()
}

/// Moves this thread into a network of its own, loads the rules there and sends the packets.
///
/// # Errors
/// What could not be made; `PermissionDenied` where namespaces are not for us.
fn run(rules: &Ruleset, probes: &[Probe]) -> io::Result<Answers> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| because("make a network namespace", e.into()))?;
    let mut wire = build(probes.iter().any(|p| p.from.is_ipv6()))?;
    load(rules)?;
    let mut listeners = Listeners::default();
    let mut verdicts = Vec::with_capacity(probes.len());
    for batch in probes.chunks(BATCH) {
        verdicts.extend(try_batch(&mut wire, &mut listeners, batch)?);
    }
    Ok(Answers { verdicts })
}

fn because(what: &str, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{what}: {e}"))
}

/// The cable, with an address at our end and all the world beyond it.
fn build(with_v6: bool) -> io::Result<Wire> {
    let mut net = Rtnl::open().map_err(|e| because("talk to the network's kernel", e))?;
    let fail = |what: &'static str| move |e| because(what, e);
    net.cable(WIRE, wire::WIRE_MAC, FAR, wire::FAR_MAC).map_err(fail("make a veth pair"))?;
    if with_v6 {
        // A host without IPv6 hands that on to new networks; if it has none at all, the address fails.
        for name in ["all", WIRE] {
            set(&format!("ipv6/conf/{name}/disable_ipv6"), "0");
        }
    }
    // First packets are answered and not remembered, so that no queue of half-open connections fills.
    set("ipv4/tcp_syncookies", "2");
    let mut index = BTreeMap::new();
    for name in ["lo", WIRE, FAR] {
        let i =
            nix::net::if_::if_nametoindex(name).map_err(|e| because("find a link", e.into()))?;
        net.up(i, name == WIRE).map_err(fail("set a link up"))?;
        index.insert(name, i);
    }
    let wire = index.get(WIRE).copied().unwrap_or_default();
    let v6 = with_v6.then_some(IpAddr::V6(HERE6));
    for here in std::iter::once(IpAddr::V4(HERE4)).chain(v6) {
        net.address(wire, here).map_err(fail("set an address"))?;
        net.default_route(wire, here.is_ipv4()).map_err(fail("set a route"))?;
    }
    Wire::open(index.get(FAR).copied().unwrap_or_default()).map_err(fail("open the cable"))
}

/// A setting of this thread's network, as well as it goes.
fn set(key: &str, value: &str) {
    let path = format!("/proc/sys/net/{key}");
    let file = fs::OpenOptions::new().write(true).open(path);
    drop(file.and_then(|mut f| f.write_all(value.as_bytes())));
}

fn load(rules: &Ruleset) -> io::Result<()> {
    let Some(change) = compare(rules, &Observed::Absent) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let loaded = runtime.block_on(kernel()?.apply(&change));
    loaded.map_err(|e| {
        io::Error::other(format!("load the rules to try them: {}", crate::errors::Chain(&e)))
    })
}

/// Somebody who answers at each port that is tried.
#[derive(Debug, Default)]
struct Listeners(BTreeMap<u16, TcpListener>);

impl Listeners {
    fn listen(&mut self, ports: &BTreeSet<u16>) -> io::Result<()> {
        if self.0.len() > MAX_LISTENERS {
            self.0.clear();
        }
        for port in ports {
            if let Entry::Vacant(free) = self.0.entry(*port) {
                free.insert(listener(*port)?);
            }
        }
        Ok(())
    }
}

/// Listens at a port of both families, or of the one that there is. A port that was ours before may be
/// held for a moment by a child that another thread just starts, until it becomes its program.
fn listener(port: u16) -> io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            }
            bound => bound,
        };
        match bound {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES => tries += 1,
            bound => return bound.map_err(|e| because("listen in the scratch network", e)),
        }
        poll(&mut [], PORT_RETRY_MS)?;
    }
}

/// Sends some packets at once, and some of them again.
fn try_batch(
    wire: &mut Wire,
    listeners: &mut Listeners,
    batch: &[Probe],
) -> io::Result<Vec<Verdict>> {
    listeners.listen(&batch.iter().map(|p| p.port).collect())?;
    let mut answers: BTreeMap<usize, Verdict> = BTreeMap::new();
    for _ in 0..=AGAIN {
        let open = (0..batch.len()).filter(|i| !answers.contains_key(i)).collect::<Vec<_>>();
        if open.is_empty() {
            break;
        }
        wire.send(batch, &open)?;
        wire.collect(batch, &mut answers, QUIET)?;
    }
    wire.next_ports(batch.len());
    let verdict = |i| answers.get(&i).copied().unwrap_or(Verdict::Dropped);
    Ok((0..batch.len()).map(verdict).collect())
}

#[cfg(test)]
mod tests;
