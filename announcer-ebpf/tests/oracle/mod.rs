//! What DESIGN's frame table demands, said a second time: frames are read and answers are built by etherparse.

pub mod build;

use std::collections::{BTreeMap, BTreeSet};

use announcer_ebpf::{
    layout::{Conflict, LinkEntry, Vip4Key, Vip6Key, VipEntry, claim, elsewhere, role},
    packet::{Ingress, Node, Outcome, SessionView, SliceFrame, Verdict, handle},
};
use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header,
    Ethernet2Slice, Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header, Ipv6HeaderSlice,
    SingleVlanSlice, icmpv6::NeighborAdvertisementHeader,
};

pub const NOW: u64 = 1_000_000_000_000;

/// Half a second passes between two events of one VIP on one link.
pub const QUIET: u64 = 500_000_000;

/// A node whose maps are maps, and whose books are lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FakeNode {
    pub ingress: Ingress,
    pub links: BTreeMap<(u32, u16), LinkEntry>,
    pub macs: BTreeSet<[u8; 6]>,
    pub vips4: BTreeMap<Vip4Key, VipEntry>,
    pub vips6: BTreeMap<Vip6Key, VipEntry>,
    pub session: SessionView,
    pub requests: Vec<(u32, Outcome)>,
    pub malformed: u32,
    /// Those that user space is told of.
    pub conflicts: Vec<(u32, Conflict)>,
    /// Slots of those that it is not told of.
    pub withheld: Vec<u32>,
    /// When it was last told of an address on a link.
    pub told: BTreeMap<(u32, [u8; 16]), u64>,
}

impl Node for FakeNode {
    fn ingress(&self) -> Ingress {
        self.ingress
    }

    fn link(&self, Ingress { ifindex, vlan_id }: Ingress) -> Option<LinkEntry> {
        self.links.get(&(ifindex, vlan_id.unwrap_or(0))).copied()
    }

    fn is_own_mac(&self, mac: [u8; 6]) -> bool {
        self.macs.contains(&mac)
    }

    fn vip4(&self, key: Vip4Key) -> Option<VipEntry> {
        self.vips4.get(&key).copied()
    }

    fn vip6(&self, key: Vip6Key) -> Option<VipEntry> {
        self.vips6.get(&key).copied()
    }

    fn session(&self) -> SessionView {
        self.session
    }

    fn boot_ns(&self) -> u64 {
        NOW
    }

    fn count_request(&mut self, slot: u32, outcome: Outcome, at_boot_ns: u64) {
        assert_eq!(at_boot_ns, NOW);
        self.requests.push((slot, outcome));
    }

    fn count_malformed(&mut self) {
        self.malformed += 1;
    }

    fn last_told(&self, key: Vip6Key) -> Option<u64> {
        self.told.get(&(key.link_id, key.address)).copied()
    }

    fn tell(&mut self, slot: u32, key: Vip6Key, conflict: Conflict) {
        self.told.insert((key.link_id, key.address), conflict.at_boot_ns);
        self.conflicts.push((slot, conflict));
    }

    fn count_conflict(&mut self, slot: u32, _: Conflict) {
        self.withheld.push(slot);
    }
}

/// What the packet logic says of a copy of `frame`, to which `room` bytes may be added.
pub fn run(node: &mut FakeNode, frame: &[u8], room: usize) -> (Verdict, Vec<u8>) {
    let mut buffer = frame.to_vec();
    buffer.resize(frame.len() + room, 0xee);
    let mut slice = SliceFrame::new(&mut buffer, frame.len());
    let verdict = handle(&mut slice, node);
    (verdict, slice.bytes().to_vec())
}

/// The verdict on `frame` and the frame afterwards; `node`'s books are written.
pub fn judge(node: &mut FakeNode, frame: &[u8]) -> (Verdict, Vec<u8>) {
    match answer(node, frame) {
        Some(Judgement::Answer(bytes)) => (Verdict::Answer, bytes),
        Some(Judgement::Drop) => (Verdict::Drop, frame.to_vec()),
        None => (Verdict::Pass, frame.to_vec()),
    }
}

enum Judgement {
    Drop,
    Answer(Vec<u8>),
}

fn answer(node: &mut FakeNode, frame: &[u8]) -> Option<Judgement> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let (head, kind, packet, ingress) = match ethernet.ether_type() {
        EtherType::VLAN_TAGGED_FRAME if node.ingress.vlan_id.is_none() => {
            let tag = SingleVlanSlice::from_slice(ethernet.payload_slice()).ok()?;
            let ingress = Ingress { vlan_id: Some(tag.vlan_identifier().value()), ..node.ingress };
            (18, tag.ether_type(), tag.payload_slice(), ingress)
        }
        kind => (14, kind, ethernet.payload_slice(), node.ingress),
    };
    let link = node.link(ingress)?;
    let head = &frame[..head];
    match kind {
        EtherType::ARP => arp(node, link, head, &ethernet, packet),
        EtherType::IPV6 => ipv6(node, link, head, &ethernet, packet),
        _ => None,
    }
}

/// What becomes of a foreign claim: the first is told, and after it one in each half second.
fn contested(node: &mut FakeNode, slot: u32, conflict: Conflict) {
    let last = node.told.entry((conflict.link_id, conflict.vip)).or_default();
    match *last + QUIET > NOW {
        true => node.withheld.push(slot),
        false => {
            *last = NOW;
            node.conflicts.push((slot, conflict));
        }
    }
}

/// The head of an answer: the request's, with its tag, and other addresses.
fn head(old: &[u8], destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    let ether_type = EtherType(u16::from_be_bytes([old[12], old[13]]));
    let mut bytes = Ethernet2Header { destination, source, ether_type }.to_bytes().to_vec();
    bytes.extend(&old[14..]);
    bytes
}

fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}

/// What the entry says of a request.
fn request(node: &mut FakeNode, entry: VipEntry) -> Outcome {
    let outcome = match entry.role {
        role::OWNED if entry.epoch == node.session.epoch && NOW < node.session.deadline_boot_ns => {
            Outcome::Replied
        }
        role::OWNED => Outcome::Fenced,
        _ if node.session.elsewhere == elsewhere::DROPPED => Outcome::Suppressed,
        _ => Outcome::Passed,
    };
    node.requests.push((entry.counter_slot, outcome));
    outcome
}

fn known(entry: Option<VipEntry>) -> Option<VipEntry> {
    entry.filter(|entry| [role::OWNED, role::ELSEWHERE].contains(&entry.role))
}

fn arp(
    node: &mut FakeNode,
    link: LinkEntry,
    old: &[u8],
    ethernet: &Ethernet2Slice<'_>,
    packet: &[u8],
) -> Option<Judgement> {
    let slice = ArpPacketSlice::from_slice(packet).ok()?;
    if (slice.hw_addr_type(), slice.proto_addr_type()) != (ArpHardwareId::ETHERNET, EtherType::IPV4) {
        return None;
    }
    let arp = slice.to_packet().try_eth_ipv4().ok()?;
    let stranger = arp.sender_mac != link.mac;
    let sound = !is_group(ethernet.source()) && !is_group(arp.sender_mac) && arp.sender_mac != [0; 6];
    let known_operation = [ArpOperation::REQUEST, ArpOperation::REPLY].contains(&arp.operation);
    if !sound || ethernet.source() == [0; 6] || !stranger || !known_operation {
        return None;
    }
    let is_request = arp.operation == ArpOperation::REQUEST;
    let lookup = |node: &FakeNode, address| node.vip4(Vip4Key { link_id: link.link_id, address });
    let sender = lookup(node, arp.sender_ipv4).filter(|_| arp.sender_ipv4 != [0; 4]);
    if let Some(entry) = sender.filter(|entry| entry.role == role::OWNED) {
        if !node.macs.contains(&arp.sender_mac) {
            let conflict = Conflict {
                at_boot_ns: NOW,
                link_id: link.link_id,
                claim: if is_request { claim::ARP_REQUEST } else { claim::ARP_REPLY },
                vip: std::net::Ipv4Addr::from(arp.sender_ipv4).to_ipv6_mapped().octets(),
                mac: arp.sender_mac,
                zero: [0; 2],
            };
            contested(node, entry.counter_slot, conflict);
        }
        return None;
    }
    let for_us = [[0xff; 6], link.mac].contains(&ethernet.destination());
    let entry = known(lookup(node, arp.target_ipv4)).filter(|_| is_request && for_us)?;
    match request(node, entry) {
        Outcome::Passed => None,
        Outcome::Fenced | Outcome::Suppressed => Some(Judgement::Drop),
        Outcome::Replied => {
            let reply = ArpEthIpv4Packet {
                operation: ArpOperation::REPLY,
                sender_mac: link.mac,
                sender_ipv4: arp.target_ipv4,
                target_mac: arp.sender_mac,
                target_ipv4: arp.sender_ipv4,
            };
            let padding = &packet[ArpEthIpv4Packet::LEN..];
            Some(Judgement::Answer(
                [&head(old, arp.sender_mac, link.mac), &reply.to_bytes()[..], padding].concat(),
            ))
        }
    }
}

fn ipv6(
    node: &mut FakeNode,
    link: LinkEntry,
    old: &[u8],
    ethernet: &Ethernet2Slice<'_>,
    packet: &[u8],
) -> Option<Judgement> {
    let next_header = *packet.get(6)?;
    let kind = *packet.get(40)?;
    if next_header != IpNumber::IPV6_ICMP.0 || (kind != 135 && kind != 136) || packet[0] >> 4 != 6 {
        return None;
    }
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let length = usize::from(header.payload_length());
    if length > 24 + 64 {
        return None;
    }
    let Some((icmp, target, option)) = neighbour(&header, kind, packet.get(40..40 + length)) else {
        node.malformed += 1;
        return None;
    };
    let (source, from) = (header.source(), ethernet.source());
    if source[0] == 0xff || option.is_some_and(|mac| is_group(mac) || mac == [0; 6]) {
        return None;
    }
    if is_group(from) || from == [0; 6] {
        return None;
    }
    let entry = node.vip6(Vip6Key { link_id: link.link_id, address: target });
    let mac = option.unwrap_or(from);
    if icmp.type_u8() == 136 {
        let owned = entry.filter(|entry| entry.role == role::OWNED && !node.macs.contains(&mac));
        if let Some(entry) = owned {
            let (link_id, claim) = (link.link_id, claim::NEIGHBOUR_ADVERTISEMENT);
            let conflict = Conflict { at_boot_ns: NOW, link_id, claim, vip: target, mac, zero: [0; 2] };
            contested(node, entry.counter_slot, conflict);
        }
        return None;
    }
    let for_us = ethernet.destination() == link.mac || ethernet.destination().starts_with(&[0x33, 0x33]);
    let entry = known(entry).filter(|_| for_us && from != link.mac)?;
    match request(node, entry) {
        Outcome::Passed => None,
        Outcome::Fenced | Outcome::Suppressed => Some(Judgement::Drop),
        Outcome::Replied => Some(Judgement::Answer(advertisement(old, link.mac, source, target, mac))),
    }
}

/// RFC 4861 §7.1: message, target, and the link-layer address option that its type calls for.
fn neighbour<'a>(
    header: &Ipv6HeaderSlice<'_>,
    kind: u8,
    payload: Option<&'a [u8]>,
) -> Option<(Icmpv6Slice<'a>, [u8; 16], Option<[u8; 6]>)> {
    let icmp = Icmpv6Slice::from_slice(payload?).ok()?;
    let target: [u8; 16] = icmp.payload().first_chunk().copied()?;
    let mut rest = &icmp.payload()[16..];
    let mut option = None;
    while !rest.is_empty() {
        let bytes = rest.get(..usize::from(*rest.get(1)?) * 8).filter(|bytes| !bytes.is_empty())?;
        rest = &rest[bytes.len()..];
        if bytes[0] == kind - 134 {
            option = Some(bytes[2..].try_into().ok()?);
        }
    }
    let (source, destination) = (header.source(), header.destination());
    let probe = kind == 135 && source == [0; 16];
    let group = destination.starts_with(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    let sound = header.hop_limit() == 255
        && icmp.code_u8() == 0
        && icmp.is_checksum_valid(source, destination)
        && target[0] != 0xff
        && (!probe || (group && option.is_none()));
    sound.then_some((icmp, target, option))
}

fn advertisement(old: &[u8], own: [u8; 6], asker: [u8; 16], target: [u8; 16], mac: [u8; 6]) -> Vec<u8> {
    let probe = asker == [0; 16];
    let all_nodes = "ff02::1".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    let (mac, destination) = if probe { ([0x33, 0x33, 0, 0, 0, 1], all_nodes) } else { (mac, asker) };
    let flags = NeighborAdvertisementHeader { router: false, solicited: !probe, r#override: true };
    let body = [&target[..], &[2, 1], &own].concat();
    let icmp =
        Icmpv6Header::with_checksum(Icmpv6Type::NeighborAdvertisement(flags), target, destination, &body)
            .expect("short");
    let ip = Ipv6Header {
        payload_length: 32,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source: target,
        destination,
        ..Ipv6Header::default()
    };
    [&head(old, mac, own), &ip.to_bytes()[..], &icmp.to_bytes(), &body].concat()
}
