//! A host of the LAN that is no node: a printer, a laptop with an address of the DHCP range, a switch that answers for others.

use std::net::IpAddr;

use anyhow::Result;

use crate::{addresses::LanAddress, machine::Machine};

/// A host of the LAN. When it is dropped it is unplugged.
#[derive(Debug)]
pub struct Host {
    machine: Machine,
    address: LanAddress,
}

impl Host {
    pub(crate) fn new(machine: Machine, address: LanAddress) -> Self {
        Self { machine, address }
    }

    /// The machine, for what has no method here.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The MAC with which it answers.
    pub fn mac(&self) -> [u8; 6] {
        self.address.mac()
    }

    /// Takes one more address, as a DHCP client does or an administrator who is mistaken: announces it (IPv4), and answers for
    /// it.
    pub fn take(&self, address: IpAddr) -> Result<()> {
        self.address("add", address)?;
        if address.is_ipv4() {
            self.machine.run(&["arping", "-q", "-U", "-c", "1", "-I", "eth0", &address.to_string()])?;
        }
        Ok(())
    }

    /// Gives such an address back.
    pub fn leave(&self, address: IpAddr) -> Result<()> {
        self.address("delete", address)
    }

    fn address(&self, what: &str, address: IpAddr) -> Result<()> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let nodad = if address.is_ipv4() || what == "delete" { "" } else { "nodad" };
        self.machine.shell(&format!("ip address {what} {address}/{length} dev eth0 {nodad}")).map(drop)
    }

    /// Answers for every IPv4 address of `prefix` (`10.4.11.0/24`), as a proxy or a switch with an old table does.
    pub fn answer_for_all(&self, prefix: &str) -> Result<()> {
        self.machine.shell(&format!("ip route add local {prefix} dev eth0")).map(drop)
    }

    /// Ends [`answer_for_all`](Self::answer_for_all).
    pub fn answer_for_none(&self, prefix: &str) -> Result<()> {
        self.machine.shell(&format!("ip route delete local {prefix} dev eth0")).map(drop)
    }
}
