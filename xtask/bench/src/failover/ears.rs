//! Who hears what: the client's packets at the nodes' links, and answers about a VIP at whoever asked.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use announcer_tests::Machine;
use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index};

use super::pace::within;
use crate::sys::packet::{self, Field};

/// Where the client sends its packets.
pub const PORT: u16 = 9999;
/// Where a packet's number is: behind the headers of Ethernet, IPv4 and UDP.
const NUMBER: usize = 14 + 20 + 8;

/// A socket on a link of a host.
pub struct Ear {
    socket: OwnedFd,
}

/// The index of a link in the calling thread's network.
pub fn index_of(link: &str) -> Result<u32> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    name_to_index(&any, link).with_context(|| format!("no link {link}"))
}

impl Ear {
    /// Hears the client's packets to `vip` that a node's link takes up as its own.
    pub fn for_packets(node: &Machine, link: &str, vip: Ipv4Addr) -> Result<Self> {
        let udp = Field { at: 14 + 9, width: 1, value: libc::IPPROTO_UDP.cast_unsigned() };
        let to = Field { at: 14 + 16, width: 4, value: vip.to_bits() };
        let port = Field { at: 14 + 20 + 2, width: 2, value: PORT.into() };
        Self::open(node, link, libc::ETH_P_IP, &[udp, to, port])
    }

    /// Hears replies about `vip`.
    pub fn for_answers(host: &Machine, link: &str, vip: Ipv4Addr) -> Result<Self> {
        let reply = Field { at: 14 + 6, width: 2, value: 2 };
        let from = Field { at: 14 + 14, width: 4, value: vip.to_bits() };
        Self::open(host, link, libc::ETH_P_ARP, &[reply, from])
    }

    fn open(host: &Machine, link: &str, ethertype: i32, fields: &[Field]) -> Result<Self> {
        let socket =
            within(host, || packet::listen(index_of(link)?, ethertype, fields).context("a packet socket"))?;
        Ok(Self { socket })
    }

    /// Hands over all packets that have come in: their numbers, and when.
    pub fn packets(&self, mut take: impl FnMut(usize, Duration)) -> Result<()> {
        self.frames(|frame, at| {
            if let Some(number) = frame.get(NUMBER..).and_then(<[u8]>::first_chunk) {
                take(u32::from_be_bytes(*number) as usize, at);
            }
        })
    }

    /// Hands over all answers that have come in: whom they were meant for, and when.
    pub fn answers(&self, mut take: impl FnMut(Ipv4Addr, Duration)) -> Result<()> {
        self.frames(|frame, at| {
            if let Some(target) = frame.get(38..).and_then(<[u8]>::first_chunk::<4>) {
                take(Ipv4Addr::from(*target), at);
            }
        })
    }

    fn frames(&self, mut take: impl FnMut(&[u8], Duration)) -> Result<()> {
        let mut buffer = [0; 128];
        while let Some((length, at)) = packet::receive(self.socket.as_fd(), &mut buffer)? {
            take(buffer.get(..length).unwrap_or_default(), at);
        }
        let dropped = packet::dropped(self.socket.as_fd())?;
        ensure!(dropped == 0, "{dropped} frames found no room in the bench's own socket");
        Ok(())
    }
}
