//! A guest's second interface: a tap device on the bridge of a lab's network.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::lab::{BRIDGE, GATEWAY, Lab};

/// A device, and the address of the guest behind it. Removed with its value.
#[derive(Debug)]
pub(super) struct Plug {
    lab: Lab,
    address: Ipv4Addr,
    name: String,
}

impl Plug {
    /// `number` must be unique on this machine, and short: a device's name has at most 15 characters.
    pub(super) fn new(lab: &Lab, address: Ipv4Addr, number: &str) -> Result<Self> {
        let plug = Self { lab: lab.clone(), address, name: format!("pv{number}") };
        plug.ip(&["tuntap", "add", &plug.name, "mode", "tap"])?;
        plug.ip(&["link", "set", &plug.name, "master", BRIDGE, "up"])?;
        Ok(plug)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What the guest runs to be there. All guests of a kit have the same hardware address at first.
    pub(super) fn join(&self) -> String {
        let [a, b, c, d] = self.address.octets();
        format!(
            "set -e; ip link set eth1 down; ip link set eth1 address 02:bb:{a:02x}:{b:02x}:{c:02x}:{d:02x}; \
             ip address replace {}/24 dev eth1; ip link set eth1 up; \
             ip route replace default via {GATEWAY} dev eth1",
            self.address
        )
    }

    fn ip(&self, args: &[&str]) -> Result<()> {
        self.lab.cmd("ip").args(args).run().map(drop)
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        drop(self.ip(&["link", "delete", &self.name]));
    }
}
