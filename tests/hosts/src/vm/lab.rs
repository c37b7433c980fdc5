//! A guest's second interface: a tap device on the bridge of a laboratory's network namespace.
#![expect(clippy::disallowed_methods, reason = "a harness starts programs")]

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::{bounded, qemu::Tap};

const PATIENCE: Duration = Duration::from_secs(20);

/// Where a guest is in a laboratory's network.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The network namespace, by its name below `/run/netns`.
    pub netns: String,
    /// The bridge in it.
    pub bridge: String,
    /// The guest's address with the length of its prefix.
    pub address: String,
    /// Where the guest's default route leads.
    pub gateway: String,
    /// The guest's hardware address.
    pub mac: String,
}

impl Lab {
    /// What the guest runs to be there.
    pub(super) fn join(&self) -> String {
        let Self { address, gateway, mac, .. } = self;
        format!(
            "set -e; ip link set eth1 down; ip link set eth1 address {mac}; \
             ip address replace {address} dev eth1; ip link set eth1 up; \
             ip route replace default via {gateway} dev eth1"
        )
    }
}

/// The device, which is removed with its value.
#[derive(Debug)]
pub(super) struct Plug {
    tap: Tap,
}

impl Plug {
    pub(super) fn new(lab: &Lab, number: u32) -> Result<Self> {
        // At most 15 characters.
        let name = format!("pv{}-{}", std::process::id() % 10_000_000, number % 1000);
        let netns = lab.netns.clone();
        let plug = Self { tap: Tap { netns, name } };
        plug.ip(&["tuntap", "add", &plug.tap.name, "mode", "tap"])?;
        plug.ip(&["link", "set", &plug.tap.name, "master", &lab.bridge, "up"])?;
        // The guest's sshd is reached at the namespace's own loopback.
        plug.ip(&["link", "set", "lo", "up"])?;
        Ok(plug)
    }

    pub(super) fn tap(&self) -> Tap {
        self.tap.clone()
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.tap.netns)).args(["--", "ip"]).args(args);
        bounded::run(&mut command, PATIENCE).map(drop)
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        // The namespace may be gone, and the device with it.
        drop(self.ip(&["link", "delete", &self.tap.name]));
    }
}
