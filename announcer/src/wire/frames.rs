//! The frames that userspace sends, whole, from the Ethernet header on: announcements and probes of one VIP.
//!
//! 42 bytes for ARP (RFC 826), 86 or 78 for Neighbour Discovery (RFC 4861). Drivers pad what is short. There is
//! no 802.1Q tag: a VLAN device is a link of its own, which adds its tag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};

use crate::vocabulary::{Link, LinkId, Mac, Vip};

/// `ff:ff:ff:ff:ff:ff`.
pub const BROADCAST: Mac = Mac([0xff; 6]);
/// `ff02::1`.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// `oper` of an ARP reply.
pub(super) const ARP_REPLY: u16 = 2;
pub(super) const NEXT_HEADER_ICMPV6: u8 = 58;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
pub(super) const OPTION_TARGET_LINK_LAYER: u8 = 2;

/// The IPv4 dummy address (RFC 7600 §4.8, IANA's special-purpose registry): no host has it.
pub(super) const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

const NO_MAC: Mac = Mac([0; 6]);
const ARP_BYTES: usize = 42;
/// RFC 4861 §7.1: a lower hop limit means that a router forwarded it, and the receiver drops it.
const HOP_LIMIT: u8 = 255;
/// RFC 4861 §4.4: R, S and O are the top three bits; O alone overrides what a neighbour has cached.
const FLAGS_OVERRIDE: u32 = 1 << 29;

/// `oper` of an ARP frame.
#[derive(Clone, Copy)]
enum ArpOperation {
    Request = 1,
    Reply = ARP_REPLY as isize,
}

/// One announcement of `vip` on `link`, in the order to send: two gratuitous ARP frames, the request first, or one
/// unsolicited NA. Its sender is the link's MAC, in the Ethernet header too, or switches learn nothing.
pub fn announcement(vip: Vip, link: &Link) -> Vec<Bytes> {
    match vip.ip() {
        IpAddr::V4(address) => {
            vec![gratuitous_request(link.mac, address), gratuitous_reply(link.mac, address)]
        }
        // A node that has no IPv6 on the link still owns the VIP: it is the one address it can speak from.
        IpAddr::V6(address) => vec![unsolicited_na(link.mac, address, link.ipv6_source.unwrap_or(address))],
    }
}

/// How many frames [`announcement`] makes for `vip`.
pub fn announcement_frames(vip: Vip) -> u32 {
    if vip.ip().is_ipv4() { 2 } else { 1 }
}

/// A question whether anybody uses `vip`, asked in a way that changes no neighbour's cache: an RFC 5227 ARP probe,
/// or a Neighbour Solicitation in the form of Duplicate Address Detection.
pub fn probe(vip: Vip, mac: Mac) -> Bytes {
    match vip.ip() {
        IpAddr::V4(address) => arp_probe(mac, address),
        IpAddr::V6(address) => dad_solicitation(mac, address),
    }
}

/// What a client asks: who has `ip`? `to` one host, or to all of `link`. In IPv4 from 0.0.0.0, which changes nobody's cache;
/// in IPv6 from the link's own address, so that the answer comes to us alone (without one: as a probe, to all).
pub fn question(ip: Vip, link: &Link, to: Option<Mac>) -> Bytes {
    match (ip.ip(), link.ipv6_source) {
        (IpAddr::V4(address), _) => {
            let to = to.unwrap_or(BROADCAST);
            arp(to, ArpOperation::Request, link.mac, Ipv4Addr::UNSPECIFIED, NO_MAC, address)
        }
        (IpAddr::V6(address), Some(source)) => solicitation(link.mac, source, address, to),
        (IpAddr::V6(address), None) => dad_solicitation(link.mac, address),
    }
}

/// RFC 5227 §2.3 ARP Announcement: a broadcast request from and for `vip`. Linux clients take it at once, also
/// within a second of the last change.
pub fn gratuitous_request(mac: Mac, vip: Ipv4Addr) -> Bytes {
    arp(BROADCAST, ArpOperation::Request, mac, vip, NO_MAC, vip)
}

/// The reply form. `mac` is the target hardware address too: with the usual all-ones Linux ignores it for a second
/// after any change (`arp_is_garp` in `net/ipv4/arp.c`).
pub fn gratuitous_reply(mac: Mac, vip: Ipv4Addr) -> Bytes {
    arp(BROADCAST, ArpOperation::Reply, mac, vip, mac, vip)
}

/// RFC 5227 §2.1.1 ARP Probe: sender address 0.0.0.0, target hardware address zero.
pub fn arp_probe(mac: Mac, vip: Ipv4Addr) -> Bytes {
    arp(BROADCAST, ArpOperation::Request, mac, Ipv4Addr::UNSPECIFIED, NO_MAC, vip)
}

/// By which a link finds others of its node on its segment: an ARP probe for [`NOBODY`], which nobody answers and which
/// changes nobody's cache. The target hardware address, which receivers ignore (RFC 5227 §2.1.1), has the link's index, for
/// a VLAN device has the MAC of the link under it.
pub(super) fn marker(link: &Link) -> Bytes {
    let [a, b, c, d] = link.id.0.to_be_bytes();
    let index = Mac([0, 0, a, b, c, d]);
    arp(BROADCAST, ArpOperation::Request, link.mac, Ipv4Addr::UNSPECIFIED, index, NOBODY)
}

/// Of a marker: which link sent it, and from which MAC. That it is one of this node's is for the caller to see.
pub(super) fn read_marker(frame: &[u8]) -> Option<(LinkId, Mac)> {
    let mac: [u8; 6] = frame.get(22..28)?.try_into().ok()?;
    let [0, 0, index @ ..]: [u8; 6] = frame.get(32..38)?.try_into().ok()? else { return None };
    Some((LinkId(u32::from_be_bytes(index)), Mac(mac)))
}

/// RFC 4861 §7.2.6: Override, not Solicited, to all nodes, with the target link-layer option.
pub fn unsolicited_na(mac: Mac, vip: Ipv6Addr, source: Ipv6Addr) -> Bytes {
    let mut message = BytesMut::with_capacity(32);
    message.put_u8(NEIGHBOUR_ADVERTISEMENT);
    message.put_u8(0);
    message.put_u16(0);
    message.put_u32(FLAGS_OVERRIDE);
    message.put_slice(&vip.octets());
    message.put_u8(OPTION_TARGET_LINK_LAYER);
    message.put_u8(1);
    message.put_slice(&mac.0);
    icmpv6(multicast_mac(ALL_NODES), mac, source, ALL_NODES, message)
}

/// RFC 4862 §5.4.2: from `::` to the solicited-node group, without a source link-layer option.
pub fn dad_solicitation(mac: Mac, vip: Ipv6Addr) -> Bytes {
    let mut message = BytesMut::with_capacity(24);
    message.put_u8(NEIGHBOUR_SOLICITATION);
    message.put_u8(0);
    message.put_u16(0);
    message.put_u32(0);
    message.put_slice(&vip.octets());
    let group = solicited_node(vip);
    icmpv6(multicast_mac(group), mac, Ipv6Addr::UNSPECIFIED, group, message)
}

/// RFC 4861 §7.2.2, with the source link-layer option; to one host as when it is asked whether it is still there (§7.3).
fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr, to: Option<Mac>) -> Bytes {
    let mut message = BytesMut::with_capacity(32);
    message.put_u8(NEIGHBOUR_SOLICITATION);
    message.put_u8(0);
    message.put_u16(0);
    message.put_u32(0);
    message.put_slice(&target.octets());
    message.put_u8(OPTION_SOURCE_LINK_LAYER);
    message.put_u8(1);
    message.put_slice(&mac.0);
    let group = solicited_node(target);
    let (destination, to) = to.map_or((group, multicast_mac(group)), |to| (target, to));
    icmpv6(to, mac, source, destination, message)
}

/// The group `ff02::1:ffXX:XXXX` to which questions for `address` are sent (RFC 4291 §2.7.1). Addresses that end in
/// the same 24 bits share it.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// RFC 2464 §7: 33:33 and the last four bytes of the group.
fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

fn arp(to: Mac, operation: ArpOperation, sender: Mac, spa: Ipv4Addr, target: Mac, tpa: Ipv4Addr) -> Bytes {
    let mut frame = BytesMut::with_capacity(ARP_BYTES);
    ethernet(&mut frame, to, sender, ETHERTYPE_ARP);
    frame.put_u16(1); // hardware type Ethernet
    frame.put_u16(0x0800); // protocol type IPv4
    frame.put_u8(6);
    frame.put_u8(4);
    frame.put_u16(operation as u16);
    frame.put_slice(&sender.0);
    frame.put_slice(&spa.octets());
    frame.put_slice(&target.0);
    frame.put_slice(&tpa.octets());
    frame.freeze()
}

fn icmpv6(to: Mac, mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, mut message: BytesMut) -> Bytes {
    let sum = checksum(source, destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = BytesMut::with_capacity(14 + 40 + message.len());
    ethernet(&mut frame, to, mac, ETHERTYPE_IPV6);
    frame.put_u32(6 << 28); // version; no traffic class, no flow label
    frame.put_u16(message.len() as u16);
    frame.put_u8(NEXT_HEADER_ICMPV6);
    frame.put_u8(HOP_LIMIT);
    frame.put_slice(&source.octets());
    frame.put_slice(&destination.octets());
    frame.put_slice(&message);
    frame.freeze()
}

fn ethernet(frame: &mut BytesMut, destination: Mac, source: Mac, ethertype: u16) {
    frame.put_slice(&destination.0);
    frame.put_slice(&source.0);
    frame.put_u16(ethertype);
}

/// RFC 4443 §2.3, over the pseudo-header of RFC 8200 §8.1. `message` has an even length and a checksum field of 0.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = source.segments().into_iter().chain(destination.segments()).map(u32::from);
    let body = message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.chain(body).sum::<u32>() + message.len() as u32 + u32::from(NEXT_HEADER_ICMPV6);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests;
