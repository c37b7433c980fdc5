//! Three hosts on one wire, each a network namespace: an edge of CloudFront, a stranger, the origin.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
        recv, sendto, socket,
    },
};
use palisade_agent::{
    clock::SystemClock,
    firewall::{
        Enforce, FeedLocation, FeedSource, Guard, Handle, ORIGIN_FACING, PortRule, Ports, Settings,
        Source, SourceName, new,
    },
    sys::{
        children::Children,
        feed_files::{DiskFiles, Feeds, NoUrls},
        nft::Nft,
        nft_events::NftEvents,
    },
    task::Scope,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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

    /// Number of transactions the kernel of the origin has seen.
    pub(crate) fn generation(&self) -> String {
        // A handle is given out once for each rule ever added.
        let there = self.namespace("origin");
        let (ok, said) = run("ip", &["netns", "exec", &there, "nft", "-a", "list", "ruleset"]);
        assert!(ok, "{said}");
        said.lines().filter(|l| l.contains("handle")).collect()
    }

    /// Makes the hosts look for each other anew.
    pub(crate) fn forget_neighbours(&self) {
        for host in ["origin", "edge", "stranger"] {
            self.inside(host, &["neigh", "flush", "all"]);
        }
    }

    /// Answers `hello` on a port of the origin, of both families, until the test ends.
    pub(crate) fn listen(&self, port: u16) {
        let listener = self.at("origin", move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut s) = stream else { return };
                s.write_all(b"hello").unwrap_or_default();
            }
        });
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

    /// Whether a host's ping is answered.
    pub(crate) fn pings(&self, host: &str, from: &str, to: &str) -> bool {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.at(host, move || ping(from, to))
    }
}

/// Sends one echo request and waits for its reply.
fn ping(from: IpAddr, to: IpAddr) -> bool {
    let (family, protocol, request, reply, header) = match from {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129, 0),
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0))).unwrap();
    // Type, code, checksum, identifier, sequence. For IPv6 the kernel fills in the checksum.
    let sum = if from.is_ipv4() { !(0x0800_u16 + 0x5041 + 1) } else { 0 }.to_be_bytes();
    let echo = [request, 0, sum[0], sum[1], 0x50, 0x41, 0, 1];
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd.as_raw_fd(), &echo, &to, MsgFlags::empty()).unwrap();
    let mut got = [0; 100];
    loop {
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(3000_u16)) != Ok(1) {
            return false;
        }
        recv(fd.as_raw_fd(), &mut got, MsgFlags::empty()).unwrap();
        // Raw sockets see neighbour discovery too.
        if got[header] == reply && got[header + 4..header + 6] == [0x50, 0x41] {
            return true;
        }
    }
}

/// How long a connection may take that nothing stands in the way of.
const CONNECT: Duration = Duration::from_secs(3);

/// An open connection to something that sends back what it gets.
#[derive(Debug)]
pub(crate) struct Session(TcpStream);

impl Session {
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

/// Sends the origin a datagram to port 443 that claims to come from `from`.
pub(crate) fn forge_udp(from: IpAddr) {
    // Ports, length, and for IPv4 no checksum. IPv6 must have one, but rules do not look at it.
    let udp = [0x10, 0, 1, 0xbb, 0, 8, 0, 0];
    let (family, to, packet) = match from {
        IpAddr::V4(from) => {
            let to: std::net::Ipv4Addr = ORIGIN4.parse().unwrap();
            // Version, length (filled in by the kernel), no fragments, hops, UDP.
            let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            let packet = [&head[..], &from.octets(), &to.octets(), &udp].concat();
            (AddressFamily::Inet, IpAddr::V4(to), packet)
        }
        IpAddr::V6(from) => {
            let to: std::net::Ipv6Addr = ORIGIN6.parse().unwrap();
            let head = [0x60, 0, 0, 0, 0, 8, 17, 64];
            let packet = [&head[..], &from.octets(), &to.octets(), &udp].concat();
            (AddressFamily::Inet6, IpAddr::V6(to), packet)
        }
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in ["edge", "stranger", "origin"] {
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
        state_dir: lab.dir.path().join("state"),
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
        let (settings, wanted) = watch::channel(settings);
        let ports = Ports {
            kernel: Nft::in_namespace(Children::default(), &lab.path("origin")),
            changes: NftEvents::open_in(&lab.path("origin")).unwrap(),
            feed: Feeds::new(NoUrls),
            files: DiskFiles,
            clock: SystemClock,
        };
        let (handle, firewall) = new(wanted, ports);
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
