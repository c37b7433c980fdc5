//! Three hosts on one wire, each a network namespace: an edge of CloudFront, a stranger, the origin.
#![expect(
    clippy::disallowed_methods,
    reason = "a test of a real kernel waits in real time, and sets it up"
)]

mod packets;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket},
};
use palisade_agent::{
    clock::{SystemClock, Timestamp, WallClock},
    firewall::{
        Enforce, FeedLocation, FeedSource, Guard, Handle, ORIGIN_FACING, PortRule, Ports, Settings,
        Source, SourceName, TableOwner, drops, new,
    },
    sys::{
        feed_files::{DiskFiles, Feeds, NoUrls},
        nft_events::NftEvents,
        nftables::NftTable,
    },
    task::Scope,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use packets::*;

/// An address of the list built in, of each family.
pub(crate) const EDGE4: &str = "13.124.199.7";
pub(crate) const EDGE6: &str = "2600:9000:1000::7";
/// Addresses of nobody.
pub(crate) const STRANGER4: &str = "198.51.100.7";
pub(crate) const STRANGER6: &str = "2001:db8:1::7";
pub(crate) const ORIGIN4: &str = "192.0.2.1";
pub(crate) const ORIGIN6: &str = "2001:db8::1";

/// The namespaces; they go when this does.
#[derive(Debug)]
pub(crate) struct Lab {
    prefix: String,
    pub(crate) dir: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "a test sets up its namespaces with ip and nft")]
fn run(program: &str, args: &[&str]) -> (bool, String) {
    let out = Command::new(program).args(args).output();
    match out {
        Ok(o) => {
            let all = [o.stdout, o.stderr].concat();
            (o.status.success(), String::from_utf8_lossy(&all).into_owned())
        }
        Err(e) => (false, e.to_string()),
    }
}

impl Lab {
    /// Builds the hosts, or says why it cannot and returns none.
    pub(crate) fn build(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        for tool in ["/usr/sbin/nft", "/usr/bin/nsenter"] {
            if !std::path::Path::new(tool).exists() {
                println!("skipped: there is no {tool} here");
                return None;
            }
        }
        if !run("ip", &["-V"]).0 {
            println!("skipped: there is no ip here");
            return None;
        }
        let prefix = format!("pf{}{name}", std::process::id());
        let lab = Self { prefix, dir: tempfile::tempdir().unwrap() };
        let origin = lab.namespace("origin");
        lab.ip(&["netns", "add", &origin]);
        lab.inside("origin", &["link", "set", "lo", "up"]);
        lab.inside("origin", &["link", "add", "wire", "type", "bridge"]);
        lab.inside("origin", &["addr", "add", &format!("{ORIGIN4}/32"), "dev", "wire"]);
        lab.inside("origin", &["addr", "add", &format!("{ORIGIN6}/128"), "dev", "wire", "nodad"]);
        lab.inside("origin", &["link", "set", "wire", "up"]);
        for (host, v4, v6) in [("edge", EDGE4, EDGE6), ("stranger", STRANGER4, STRANGER6)] {
            let there = lab.namespace(host);
            lab.ip(&["netns", "add", &there]);
            lab.inside(host, &["link", "set", "lo", "up"]);
            let link = &["link", "add", "eth0", "type", "veth", "peer", "name", host, "netns"];
            lab.inside(host, &[link.as_slice(), &[&origin]].concat());
            lab.inside("origin", &["link", "set", host, "master", "wire", "up"]);
            lab.inside(host, &["addr", "add", &format!("{v4}/32"), "dev", "eth0"]);
            lab.inside(host, &["addr", "add", &format!("{v6}/128"), "dev", "eth0", "nodad"]);
            lab.inside(host, &["link", "set", "eth0", "up"]);
            for (here, there, dev, at) in [(host, ORIGIN4, "eth0", v4), (host, ORIGIN6, "eth0", v6)]
            {
                lab.inside(here, &["route", "add", there, "dev", dev]);
                lab.inside("origin", &["route", "add", at, "dev", "wire"]);
            }
        }
        Some(lab)
    }

    fn ip(&self, args: &[&str]) {
        let (ok, said) = run("ip", args);
        assert!(ok, "ip {args:?}: {said}");
    }

    fn inside(&self, host: &str, args: &[&str]) {
        self.ip(&[&["-n", &self.namespace(host)], args].concat());
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// Path of a host's namespace.
    pub(crate) fn path(&self, host: &str) -> PathBuf {
        PathBuf::from("/run/netns").join(self.namespace(host))
    }

    /// Does something as a host.
    pub(crate) fn at<T: Send + 'static>(
        &self,
        host: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = File::open(self.path(host)).unwrap();
        let there = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        there.join().unwrap()
    }

    /// Runs nft at the origin, as another program would.
    pub(crate) fn nft(&self, command: &str) -> String {
        let (ok, said) = run("ip", &["netns", "exec", &self.namespace("origin"), "nft", command]);
        assert!(ok, "nft {command}: {said}");
        said
    }

    /// What nft says when the kernel refuses what it is told at the origin.
    pub(crate) fn nft_refused(&self, command: &str) -> String {
        let (ok, said) = run("ip", &["netns", "exec", &self.namespace("origin"), "nft", command]);
        assert!(!ok, "nft {command} was not refused");
        said
    }

    /// Has nft load JSON at the origin.
    pub(crate) fn load_json(&self, json: &[u8]) {
        let file = self.dir.path().join("ruleset.json");
        std::fs::write(&file, json).unwrap();
        let file = file.to_str().unwrap();
        let there = self.namespace("origin");
        let (ok, said) = run("ip", &["netns", "exec", &there, "nft", "-j", "-f", file]);
        assert!(ok, "nft -j -f: {said}");
    }

    /// Number of transactions the kernel of the origin has seen.
    pub(crate) fn generation(&self) -> String {
        // A handle is given out once for each rule ever added.
        let there = self.namespace("origin");
        let (ok, said) = run("ip", &["netns", "exec", &there, "nft", "-a", "list", "ruleset"]);
        assert!(ok, "{said}");
        // The first line of an owned table names its owner.
        said.lines().filter(|l| l.contains("handle") && !l.starts_with("table")).collect()
    }

    /// Makes the hosts look for each other anew.
    pub(crate) fn forget_neighbours(&self) {
        for host in ["origin", "edge", "stranger"] {
            self.inside(host, &["neigh", "flush", "all"]);
        }
    }

    /// Answers `hello` on a port of the origin, of both families, until the test ends.
    pub(crate) fn listen(&self, port: u16) {
        greet(self.at("origin", move || TcpListener::bind(("::", port)).unwrap()));
    }

    /// Sends back whatever comes, on a port of the origin, until the test ends.
    pub(crate) fn echo(&self, port: u16) {
        let listener = self.at("origin", move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(s) = stream else { return };
                std::thread::spawn(move || std::io::copy(&mut &s, &mut &s).unwrap_or_default());
            }
        });
    }

    /// An open connection.
    pub(crate) fn session(&self, host: &str, from: &str, to: &str, port: u16) -> Session {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let stream = self.at(host, move || connect_from(from, SocketAddr::new(to, port), CONNECT));
        Session(stream.unwrap())
    }

    /// The packet counts of a table's rules, in order.
    pub(crate) fn packet_counts(&self, table: &str) -> Vec<u64> {
        let listing = self.nft(&format!("list table inet {table}"));
        let counts = listing.split("packets ").skip(1);
        counts.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    /// Whether a host gets an answer from `to` within a time.
    pub(crate) fn connects(
        &self,
        host: &str,
        from: &str,
        to: &str,
        port: u16,
        within: Duration,
    ) -> bool {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.at(host, move || hello(from, SocketAddr::new(to, port), within))
    }

    /// Whether the origin gets an answer from the edge.
    pub(crate) fn connects_out(&self, to: &str, within: Duration) -> bool {
        let to = SocketAddr::new(to.parse().unwrap(), 9000);
        let listener = self.at("edge", move || TcpListener::bind(to).unwrap());
        std::thread::spawn(move || {
            if let Ok((mut s, _)) = listener.accept() {
                s.write_all(b"hello").unwrap_or_default();
            }
        });
        self.at("origin", move || hello(ORIGIN4.parse().unwrap(), to, within))
    }

    /// Whether a connection is refused with a reset within a time, which is neither let in nor ignored.
    pub(crate) fn refuses(
        &self,
        host: &str,
        from: &str,
        to: &str,
        port: u16,
        within: Duration,
    ) -> bool {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.at(host, move || {
            let stream = connect_from(from, SocketAddr::new(to, port), within);
            stream.is_some_and(|s| {
                matches!(s.take_error(), Ok(Some(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused)
            })
        })
    }

    /// A container at the origin that answers `hello` at `inner`, published at other ports.
    pub(crate) fn container(&self, inner: u16, published: &[u16]) {
        let there = self.namespace("container");
        self.ip(&["netns", "add", &there]);
        self.inside("container", &["link", "set", "lo", "up"]);
        let origin = self.namespace("origin");
        let link = ["link", "add", "eth0", "type", "veth", "peer", "name", "docker0", "netns"];
        self.inside("container", &[link.as_slice(), &[&origin]].concat());
        self.inside("origin", &["addr", "add", "172.17.0.1/16", "dev", "docker0"]);
        self.inside("origin", &["link", "set", "docker0", "up"]);
        self.inside("container", &["addr", "add", "172.17.0.2/16", "dev", "eth0"]);
        self.inside("container", &["link", "set", "eth0", "up"]);
        self.inside("container", &["route", "add", "default", "via", "172.17.0.1"]);
        self.at("origin", || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        let ports: Vec<String> = published.iter().map(u16::to_string).collect();
        self.nft(&format!(
            "table ip docker {{ chain pre {{ type nat hook prerouting priority -100; \
             tcp dport {{ {} }} dnat to 172.17.0.2:{inner}; }}; \
             chain post {{ type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }}; }}",
            ports.join(", ")
        ));
        let listener = self.at("container", move || TcpListener::bind(("0.0.0.0", inner)).unwrap());
        greet(listener);
    }

    /// Whether the container gets an answer from a host elsewhere.
    pub(crate) fn container_reaches(&self, to: &str, within: Duration) -> bool {
        let to = SocketAddr::new(to.parse().unwrap(), 9001);
        greet(self.at("edge", move || TcpListener::bind(to).unwrap()));
        self.at("container", move || hello("172.17.0.2".parse().unwrap(), to, within))
    }

    /// A metadata service, at the origin's own loopback.
    pub(crate) fn metadata(&self) {
        self.inside("origin", &["addr", "add", "169.254.169.254/32", "dev", "lo"]);
        greet(self.at("origin", || TcpListener::bind("169.254.169.254:80").unwrap()));
    }

    /// Whether a user of the origin gets an answer of the metadata service.
    pub(crate) fn asks_metadata(&self, uid: u32, within: Duration) -> bool {
        self.at("origin", move || {
            // Of this thread alone, which ends.
            let done = nix::unistd::setfsuid(uid.into());
            let _ = done;
            let to = "169.254.169.254:80".parse().unwrap();
            hello("169.254.169.254".parse().unwrap(), to, within)
        })
    }

    /// Whether something comes true soon, or stays untrue for a while.
    pub(crate) fn settles(&self, holds: impl Fn() -> bool, expected: bool) -> bool {
        let wait = if expected { CONNECT } else { Duration::from_millis(300) };
        let begun = std::time::Instant::now();
        while begun.elapsed() < wait {
            if holds() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        holds()
    }

    /// Has the origin's kernel itself let through packets that claim to come from loopback.
    pub(crate) fn route_localnet(&self) {
        self.at("origin", || {
            for what in ["all", "wire"] {
                for (key, value) in
                    [("route_localnet", "1"), ("rp_filter", "0"), ("accept_local", "1")]
                {
                    std::fs::write(format!("/proc/sys/net/ipv4/conf/{what}/{key}"), value).unwrap();
                }
            }
        });
    }

    /// Whether a host's ping is answered.
    pub(crate) fn pings(&self, host: &str, from: &str, to: &str) -> bool {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.at(host, move || ping(from, to))
    }
}

/// Answers `hello` until the test ends.
fn greet(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut s) = stream else { return };
            s.write_all(b"hello").unwrap_or_default();
        }
    });
}

/// How long a connection may take that nothing stands in the way of.
const CONNECT: Duration = Duration::from_secs(3);

/// An open connection to something that sends back what it gets.
#[derive(Debug)]
pub(crate) struct Session(TcpStream);

impl Session {
    /// The end of whoever connected, and the other.
    pub(crate) fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.0.local_addr().unwrap(), self.0.peer_addr().unwrap())
    }

    /// Whether a word comes back within a time.
    pub(crate) fn says(&mut self, within: Duration) -> bool {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut got = [0; 5];
        self.0.write_all(b"hello").is_ok() && self.0.read_exact(&mut got).is_ok()
    }
}

/// Connects from an address.
fn connect_from(from: IpAddr, to: SocketAddr, within: Duration) -> Option<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0))).unwrap();
    if connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) == Err(nix::errno::Errno::EINPROGRESS) {
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
        let wait = PollTimeout::try_from(within).unwrap();
        if poll(&mut ready, wait) != Ok(1) {
            return None;
        }
    }
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(false).unwrap();
    Some(stream)
}

/// Connects from an address and reads the greeting.
fn hello(from: IpAddr, to: SocketAddr, within: Duration) -> bool {
    let Some(mut stream) = connect_from(from, to, within) else { return false };
    stream.set_read_timeout(Some(within)).unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).is_ok() && &got == b"hello"
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in ["edge", "stranger", "container", "origin"] {
            run("ip", &["netns", "del", &self.namespace(host)]);
        }
    }
}

/// A name of a source.
pub(crate) fn source(name: &str) -> SourceName {
    SourceName::try_from(name.to_owned()).unwrap()
}

/// The list in a file that is not there.
pub(crate) fn feed_source(lab: &Lab) -> FeedSource {
    FeedSource {
        service: ORIGIN_FACING.to_owned(),
        location: FeedLocation::File(lab.dir.path().join("ip-ranges.json")),
        every: Duration::from_secs(900),
    }
}

/// Port 443 for the list in a file that is not there, so that the list built in stays in force.
pub(crate) fn settings(lab: &Lab) -> Settings {
    Settings {
        ports: vec![PortRule {
            tcp: vec![NonZeroU16::new(443).unwrap()],
            from: vec![source("cloudfront")],
        }],
        sources: [(source("cloudfront"), vec![Source::Feed(feed_source(lab))])].into(),
        guard: Guard {
            max_address_loss_permille: 50,
            withdraw_after: Duration::from_secs(86_400),
            max_ranges: 4096,
        },
        enforce: Enforce::Yes,
        table_owner: TableOwner::Auto,
        guard_published: true,
        metadata_users: None,
        drops: drops::Settings { group: Some(drops::DEFAULT_GROUP), samples: false },
        tests: Vec::new(),
        state_dir: lab.dir.path().join("state"),
    }
}

/// Who is granted, each with an end in milliseconds since boot.
pub(crate) type Grants = watch::Receiver<BTreeMap<IpAddr, u64>>;

/// A clock that a test sets.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    pub(crate) fn at(secs: i64) -> Self {
        Self(Arc::new(secs.into()))
    }

    pub(crate) fn set(&self, secs: i64) {
        self.0.store(secs, Ordering::Relaxed);
    }
}

impl WallClock for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// The firewall task at the origin.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) handle: Handle,
    pub(crate) settings: watch::Sender<Settings>,
    scope: Scope,
}

impl Agent {
    /// Starts it with [`settings`].
    pub(crate) async fn start(lab: &Lab) -> Self {
        Self::start_with(lab, settings(lab)).await
    }

    /// Starts it.
    pub(crate) async fn start_with(lab: &Lab, settings: Settings) -> Self {
        Self::start_granting(lab, settings, watch::channel(BTreeMap::new()).1).await
    }

    /// Starts it with grants.
    pub(crate) async fn start_granting(lab: &Lab, settings: Settings, grants: Grants) -> Self {
        Self::start_at(lab, settings, grants, SystemClock).await
    }

    /// Starts it with a clock.
    pub(crate) async fn start_at(
        lab: &Lab,
        settings: Settings,
        grants: Grants,
        clock: impl WallClock,
    ) -> Self {
        let (settings, wanted) = watch::channel(settings);
        let ports = Ports {
            kernel: NftTable::open_in(&lab.path("origin")).unwrap(),
            changes: NftEvents::open_in(&lab.path("origin")).unwrap(),
            feed: Feeds::new(NoUrls),
            files: DiskFiles,
            clock,
        };
        let (handle, firewall) = new(wanted, ports);
        let firewall = firewall.with_grants(grants);
        let mut scope = Scope::new(&CancellationToken::new());
        let stop = scope.stop();
        scope.spawn("firewall", firewall.run(stop));
        Self { handle, settings, scope }
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        let ended = self.scope.shut_down(Duration::from_secs(5)).await;
        assert_eq!(ended, palisade_agent::task::Ended::Clean);
    }
}
