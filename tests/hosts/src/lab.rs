//! A network of its own for the hosts of a test: one namespace with a bridge (`10.77.0.1/24`, a subnet
//! of a VPC) and the metadata address. The machine's network is not touched. It goes with the last
//! host or server in it; what a killed test left behind is swept by the next one.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::{
    exec::Cmd,
    owned::{Owned, sweep},
};

/// The bridge, and with it the gateway of every host.
pub const GATEWAY: &str = "10.77.0.1";
/// Where the metadata service answers.
pub const METADATA: &str = "169.254.169.254";
/// The bridge's name within the namespace.
pub(crate) const BRIDGE: &str = "br0";

const MAC: &str = "02:00:0a:4d:00:01";
const PREFIX: &str = "palisade-lab";

/// The network. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Lab {
    net: Arc<Net>,
}

#[derive(Debug)]
struct Net {
    owned: Owned,
}

impl Lab {
    /// Builds it.
    ///
    /// # Errors
    /// When a namespace cannot be made: no root, no `ip`.
    pub fn new() -> Result<Self> {
        sweep(PREFIX, |name, _| drop(ip(&["netns", "delete", name])));
        let net = Net { owned: Owned::new(PREFIX)? };
        let ns = net.owned.name();
        ip(&["netns", "add", ns])?;
        ip(&["-n", ns, "link", "set", "lo", "up"])?;
        // A bridge without an address of its own takes one from its ports, another with each host.
        let bridge =
            ["link", "add", BRIDGE, "address", MAC, "type", "bridge", "forward_delay", "0"];
        ip(&[["-n", ns].as_slice(), &bridge].concat())?;
        ip(&["-n", ns, "addr", "add", &format!("{GATEWAY}/24"), "dev", BRIDGE])?;
        ip(&["-n", ns, "addr", "add", &format!("{METADATA}/32"), "dev", BRIDGE])?;
        ip(&["-n", ns, "link", "set", BRIDGE, "up"])?;
        Ok(Self { net: Arc::new(net) })
    }

    /// One more address on the bridge, such as that of a CloudFront edge (`130.176.0.10/32`).
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn add_address(&self, address: &str) -> Result<()> {
        ip(&["-n", self.name(), "addr", "add", address, "dev", BRIDGE])
    }

    /// The namespace's name below `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.net.owned.name()
    }

    /// The namespace itself.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name())
    }

    /// Moves this thread into the network, for good. What it opens then is in there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("open {}", self.name()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", self.name()))
    }

    /// Does something on a thread inside the network.
    ///
    /// # Errors
    /// When the network cannot be entered, or what the work says.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                work()
            });
            inside.join().map_err(|_| anyhow!("the work in {} panicked", self.name()))?
        })
    }

    /// A listening socket inside the network; it may be used from everywhere.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn listen(&self, at: SocketAddr) -> Result<TcpListener> {
        self.inside(|| TcpListener::bind(at).with_context(|| format!("listen on {at}")))
    }

    /// A program inside the network. `nsenter` and not `ip netns exec`, which would mount another
    /// `/sys` and hide the cgroups.
    #[must_use]
    pub fn cmd(&self, program: &str) -> Cmd {
        Cmd::new("nsenter").arg(format!("--net={}", self.path().display())).arg("--").arg(program)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(ip(&["netns", "delete", self.owned.name()]));
    }
}

fn ip(args: &[&str]) -> Result<()> {
    Cmd::new("ip").args(args).within(Duration::from_secs(10)).run().map(drop)
}
