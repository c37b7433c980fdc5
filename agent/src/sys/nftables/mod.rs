//! Our table in the kernel, by netlink.
//!
//! No program is run: a swap of fifty ranges costs a tenth of a millisecond, it works before the
//! network is up and without the package nftables, and the socket can own the table, so that the
//! kernel refuses changes by anybody else. Sending a batch carries it out, which takes long for
//! many thousands of ranges, so it is done on a thread of its own.

mod decode;
mod encode;
mod numbers;
mod socket;
#[cfg(test)]
mod tests;
pub(super) mod wire;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{errno::Errno, time::ClockId};
use tokio::task::spawn_blocking;

use self::{
    numbers::*,
    socket::{BatchError, Socket},
    wire::{Message, Writer},
};
use crate::{
    errors::Chain,
    firewall::{
        Change, Claim, Elements, Extent, Kernel, KernelError, Observed, Owner, SeenChain, TABLE,
        Table,
    },
};

/// Flags of a table that has an owner and stays when it ends.
const OWNED: u32 = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
const NEEDS_ROOT: &str =
    "the agent needs to be root, or to have CAP_NET_ADMIN, to see to the firewall";
const NEEDS_KERNEL: &str = "the kernel has no nf_tables; see that its module can be loaded";
/// Times that the table is read anew because somebody changed rules meanwhile.
const READS: u32 = 8;

/// Our table in the kernel. Clones share the socket, and so what it owns.
#[derive(Clone, Debug)]
pub struct NftTable {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// None: to be opened when it is first needed, so that a kernel without a packet filter fails
    /// what needs one and nothing else.
    socket: Option<Socket>,
    /// Whether this kernel knows tables that have an owner and stay; none: not tried yet.
    can_own: Option<bool>,
    seen: Option<Seen>,
}

/// The table as it was last read. While the kernel has made no transaction but ours since, most of it
/// need not be read again.
#[derive(Debug)]
struct Seen {
    table: Table,
    /// Sets whose elements we have changed since.
    changed: Vec<String>,
}

impl NftTable {
    /// The table of this network namespace.
    #[must_use]
    pub fn here() -> Self {
        Self::over(None)
    }

    /// The same, by a socket that is opened now, in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel has no packet filter for us.
    pub fn open() -> io::Result<Self> {
        Ok(Self::over(Some(Socket::open()?)))
    }

    /// The table of another network namespace, given by a path such as `/run/netns/NAME`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or has no packet filter.
    pub fn open_in(namespace: &Path) -> io::Result<Self> {
        Ok(Self::over(Some(Socket::open_in(namespace)?)))
    }

    /// The table, by a socket that was opened before and may own it.
    ///
    /// # Errors
    /// When it is no netlink socket.
    pub fn from_socket(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::over(Some(Socket::over(fd)?)))
    }

    fn over(socket: Option<Socket>) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { socket, can_own: None, seen: None })) }
    }

    /// The socket, to be handed on: whoever has it may change what it owns.
    ///
    /// # Errors
    /// When there is none yet and none can be opened, or the process has too many open files.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.socket()?.fd().try_clone_to_owned()
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        let inner = Arc::clone(&self.inner);
        let done =
            spawn_blocking(move || f(&mut inner.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(|e| KernelError {
            what: "talk to the kernel's packet filter".to_owned(),
            hint: None,
            source: Some(Box::new(e)),
        })
    }
}

impl Kernel for NftTable {
    async fn read(&mut self) -> Result<Observed, KernelError> {
        let read = self.on_thread(Inner::read).await?;
        read.map_err(|e| failed("read our table", e))
    }

    async fn apply(&mut self, change: &Change) -> Result<(), KernelError> {
        let change = change.clone();
        self.on_thread(move |inner| inner.apply(&change)).await?
    }

    fn share(&self) -> Option<OwnedFd> {
        self.socket().ok()
    }
}

fn failed(what: &str, e: io::Error) -> KernelError {
    let hint = match e.raw_os_error() {
        Some(code) if code == Errno::EPERM as i32 => Some(NEEDS_ROOT),
        Some(code) if code == Errno::EPROTONOSUPPORT as i32 => Some(NEEDS_KERNEL),
        _ => None,
    };
    let hint = hint.map(str::to_owned);
    KernelError { what: what.to_owned(), hint, source: Some(Box::new(e)) }
}

/// Milliseconds since boot, as grants count.
fn now() -> u64 {
    let since_boot = nix::time::clock_gettime(ClockId::CLOCK_BOOTTIME);
    let ms = since_boot.map_or(0, |t| t.tv_sec().saturating_mul(1000) + t.tv_nsec() / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// What is read of a table before its elements.
#[derive(Default)]
struct Parts {
    chains: BTreeMap<String, SeenChain>,
    sets: BTreeMap<String, Elements>,
    counters: BTreeMap<String, u64>,
    strange: Vec<String>,
}

impl Seen {
    /// What was seen, after a change of ours of which only elements have to be read again.
    fn after(mut self, change: &Change) -> Option<Self> {
        let Extent::Sets(sets) = &change.extent else { return None };
        // The change was made only if nobody made another one in between.
        (change.generation == Some(self.table.generation)).then_some(())?;
        self.table.generation = self.table.generation.wrapping_add(1);
        self.changed.extend(sets.keys().cloned());
        Some(self)
    }
}

impl Inner {
    fn socket(&mut self) -> io::Result<&mut Socket> {
        match &mut self.socket {
            Some(open) => Ok(open),
            none => Ok(none.insert(Socket::open()?)),
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), KernelError> {
        let cannot = |e| failed("change our table", e);
        let flags = if change.want.owned && self.can_own().map_err(cannot)? { OWNED } else { 0 };
        let socket = self.socket().map_err(cannot)?;
        // A guess at how many messages there will be: numbers need only differ.
        let first = socket.next_seq(1 << 16);
        let done = socket.carry_out(&encode::batch(change, flags, now(), first));
        done.map_err(|e| self.refused(e))?;
        self.seen = self.seen.take().and_then(|seen| seen.after(change));
        Ok(())
    }

    fn refused(&mut self, e: BatchError) -> KernelError {
        let denied = match &e {
            BatchError::Refused { source, .. } | BatchError::Send(source) => {
                source.raw_os_error() == Some(Errno::EPERM as i32)
            }
            BatchError::Overtaken | BatchError::Silent => false,
        };
        let hint = match self.table() {
            Ok(Some((_, Owner::Other(port)))) if denied => Some(format!(
                "another process owns table inet {TABLE} (netlink port {port}, often its process id); \
                 does a second agent run?"
            )),
            _ if denied => Some(NEEDS_ROOT.to_owned()),
            _ => None,
        };
        KernelError { what: "change our table".to_owned(), hint, source: Some(Box::new(e)) }
    }

    /// Whether tables can have an owner here: tried with a table of another name, whose flags are read
    /// back, because kernels before 6.9 know only a part of them.
    fn can_own(&mut self) -> io::Result<bool> {
        if let Some(known) = self.can_own {
            return Ok(known);
        }
        let socket = self.socket()?;
        let name = format!("palisade_try_{}", socket.port());
        let first = socket.next_seq(4);
        let made = socket.carry_out(&encode::probe(&name, Some(OWNED), first)).is_ok();
        let flags = socket.one(
            Msg::GetTable,
            |w| w.text(NFTA_TABLE_NAME, &name),
            |m| decode::table(m.attributes(), 0).0,
        );
        let can = made && matches!(flags, Ok(Some(flags)) if flags & OWNED == OWNED);
        if made {
            let first = socket.next_seq(4);
            if let Err(e) = socket.carry_out(&encode::probe(&name, None, first)) {
                tracing::warn!(error = %Chain(&e), name, "a table to try with stays");
            }
        }
        self.can_own = Some(can);
        Ok(can)
    }

    fn generation(&mut self) -> io::Result<u32> {
        let read = |m: &Message<'_>| m.attributes().u32(NFTA_GEN_ID).unwrap_or(0);
        Ok(self.socket()?.one(Msg::GetGen, |_| {}, read)?.unwrap_or(0))
    }

    /// Flags and owner of our table.
    fn table(&mut self) -> io::Result<Option<(u32, Owner)>> {
        let socket = self.socket()?;
        let port = socket.port();
        let name = |w: &mut Writer| w.text(NFTA_TABLE_NAME, TABLE);
        socket.one(Msg::GetTable, name, |m| decode::table(m.attributes(), port))
    }

    /// What was seen before, with what may have changed since read anew: elements that we changed or
    /// that end by themselves, and counts. None if somebody else changed rules.
    fn seen_again(&mut self, generation: u32, now: u64) -> io::Result<Option<Table>> {
        let Some(mut seen) = self.seen.take_if(|s| s.table.generation == generation) else {
            return Ok(None);
        };
        let socket = self.socket()?;
        for (name, set) in &mut seen.table.sets {
            let timed = matches!(set, Elements::Timed4(_) | Elements::Timed6(_));
            if timed || seen.changed.contains(name) {
                *set = elements(socket, name, set, now)?;
            }
        }
        seen.table.counters = counters(socket)?.0;
        seen.table.read_at = now;
        seen.changed.clear();
        let table = seen.table.clone();
        self.seen = Some(seen);
        Ok(Some(table))
    }

    /// The table as it was in one moment.
    fn read(&mut self) -> io::Result<Observed> {
        let can_own = self.can_own()?;
        for _ in 0..READS {
            let generation = self.generation()?;
            let Some((flags, owner)) = self.table()? else {
                if self.generation()? == generation {
                    return Ok(Observed::Absent);
                }
                continue;
            };
            let read_at = now();
            if let Some(table) = self.seen_again(generation, read_at)? {
                if self.generation()? != generation {
                    continue;
                }
                let table = Table { claim: claim(can_own, flags, owner), ..table };
                return Ok(Observed::Table(Box::new(table)));
            }
            let mut parts = parts(self.socket()?)?;
            for (name, set) in &mut parts.sets {
                *set = elements(self.socket()?, name, set, read_at)?;
            }
            if self.generation()? != generation {
                continue;
            }
            if flags & NFT_TABLE_F_DORMANT != 0 {
                parts.strange.push("flag: the table is dormant".to_owned());
            }
            let table = Table {
                chains: parts.chains,
                sets: parts.sets,
                counters: parts.counters,
                strange: parts.strange,
                claim: claim(can_own, flags, owner),
                generation,
                read_at,
            };
            self.seen = Some(Seen { table: table.clone(), changed: Vec::new() });
            return Ok(Observed::Table(Box::new(table)));
        }
        Err(io::Error::other("the kernel's rules change faster than they can be read"))
    }
}

fn parts(socket: &mut Socket) -> io::Result<Parts> {
    let of_ours = |w: &mut Writer| w.text(NFTA_CHAIN_TABLE, TABLE);
    let mut all = Parts {
        chains: socket.all(Msg::GetChain, of_ours, |all: &mut BTreeMap<_, _>, m| {
            all.extend(decode::chain(m.attributes()).filter(|_| decode::is_ours(m)));
        })?,
        sets: socket.all(Msg::GetSet, of_ours, |all: &mut BTreeMap<_, _>, m| {
            all.extend(decode::set(m.attributes()).filter(|_| decode::is_ours(m)));
        })?,
        ..Parts::default()
    };
    let rules = socket.all(Msg::GetRule, of_ours, |all: &mut Vec<_>, m| {
        all.extend(decode::rule(m.attributes()).filter(|_| decode::is_ours(m)));
    })?;
    for (chain, rule) in rules {
        // A chain that is not there belongs to a rule, which tells of it.
        if let Some(chain) = all.chains.get_mut(&chain) {
            chain.rules.push(rule);
        }
    }
    let (counters, others) = counters(socket)?;
    all.counters = counters;
    all.strange.extend(others);
    let flowtables = socket.all(Msg::GetFlowtable, of_ours, |n: &mut usize, m| {
        *n += usize::from(m.kind == kind(Msg::NewFlowtable) && decode::is_ours(m));
    })?;
    if flowtables > 0 {
        all.strange.push("flowtable".to_owned());
    }
    Ok(all)
}

/// Counters with their packets, and other objects by their names.
fn counters(socket: &mut Socket) -> io::Result<(BTreeMap<String, u64>, Vec<String>)> {
    let of_ours = |w: &mut Writer| w.text(NFTA_OBJ_TABLE, TABLE);
    let objects = socket.all(Msg::GetObj, of_ours, |all: &mut Vec<_>, m| {
        if decode::is_ours(m) {
            let name = m.attributes().text(NFTA_OBJ_NAME).unwrap_or_default();
            all.push((name, decode::counter(m.attributes())));
        }
    })?;
    let (mut counters, mut others) = (BTreeMap::new(), Vec::new());
    for (name, counter) in objects {
        match counter {
            Some((name, packets)) => drop(counters.insert(name, packets)),
            None => others.push(format!("object {name}")),
        }
    }
    Ok((counters, others))
}

fn claim(can_own: bool, flags: u32, owner: Owner) -> Claim {
    Claim { can_own, owner, persists: flags & NFT_TABLE_F_PERSIST != 0 }
}

fn elements(socket: &mut Socket, name: &str, set: &Elements, now: u64) -> io::Result<Elements> {
    let which = |w: &mut Writer| {
        w.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.text(NFTA_SET_ELEM_LIST_SET, name);
    };
    let all = socket.all(Msg::GetSetElem, which, |all: &mut Vec<_>, m| {
        all.extend(decode::elements(m.attributes()));
    })?;
    Ok(decode::with(set, all, now))
}
