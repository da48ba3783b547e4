//! Nodes and frames out of bytes: mostly what matters, all of it within reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use announcer_ebpf::{
    layout::{LinkEntry, Vip4Key, Vip6Key, VipEntry, elsewhere, role},
    packet::{Ingress, SessionView},
};

use crate::oracle::{
    FakeNode, NOW, QUIET,
    build::{Arp, Ndp, option, tag},
};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SIBLING: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
const GROUP: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 5];
const MACS: [[u8; 6]; 8] =
    [CLIENT, OWN, [0xff; 6], GROUP, SIBLING, [0x33, 0x33, 0, 0, 0, 1], [0; 6], [1, 0, 0x5e, 0, 0, 1]];
const IFINDEX: u32 = 3;
/// The first addresses of each family are usually VIPs, the others clients' and groups'.
const VIPS: usize = 3;

const V4: [[u8; 4]; 5] = [[10, 4, 11, 1], [10, 4, 11, 2], [10, 4, 11, 3], [10, 4, 0, 9], [0; 4]];
const V6: [Ipv6Addr; 8] = [
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 5),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
];

/// Bytes to be used up; behind their end there are zeroes.
pub struct Entropy<'a>(pub &'a [u8]);

impl Entropy<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// True for one byte in so many.
    fn one_in(&mut self, many: u8) -> bool {
        self.byte() % many == many - 1
    }

    /// A MAC: mostly one of the first `usual` ones.
    fn mac(&mut self, usual: &[[u8; 6]]) -> [u8; 6] {
        if self.one_in(8) { self.pick(&MACS) } else { self.pick(usual) }
    }
}

/// A node that owns some of the addresses, knows others, and has a deadline ahead or not.
pub fn node(entropy: &mut Entropy<'_>) -> FakeNode {
    let link = LinkEntry { link_id: IFINDEX, mac: OWN, flags: 0 };
    let mut vips4 = BTreeMap::new();
    for (number, address) in V4.into_iter().enumerate() {
        let entry = entry(entropy, number < VIPS);
        vips4.extend(entry.map(|entry| (Vip4Key { link_id: IFINDEX, address }, entry)));
    }
    let mut vips6 = BTreeMap::new();
    for (number, address) in V6.map(|address| address.octets()).into_iter().enumerate() {
        let entry = entry(entropy, number < VIPS);
        vips6.extend(entry.map(|entry| (Vip6Key { link_id: IFINDEX, address }, entry)));
    }
    FakeNode {
        ingress: Ingress {
            ifindex: IFINDEX,
            vlan_id: if entropy.one_in(8) { entropy.pick(&[Some(0), Some(5), Some(6)]) } else { None },
        },
        links: BTreeMap::from([((IFINDEX, 0), link), ((IFINDEX, 5), link)]),
        macs: BTreeSet::from([OWN, SIBLING]),
        vips4,
        vips6,
        session: SessionView {
            deadline_boot_ns: if entropy.one_in(4) {
                entropy.pick(&[NOW, NOW - 1, 0])
            } else {
                entropy.pick(&[NOW + 1, u64::MAX])
            },
            epoch: 7,
            elsewhere: entropy.pick(&[elsewhere::DROPPED, elsewhere::DROPPED, elsewhere::PASSED, 9]),
        },
        // Of the first VIP of each family nobody has told, of the second just now, of the third long ago.
        told: [V4[1], V4[2]]
            .map(|address| std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets())
            .into_iter()
            .chain([V6[1], V6[2]].map(|address| address.octets()))
            .zip([NOW, NOW - QUIET].into_iter().cycle())
            .map(|(address, at)| ((IFINDEX, address), at))
            .collect(),
        ..FakeNode::default()
    }
}

/// Of a usual VIP, or of an address that is one in a while.
fn entry(entropy: &mut Entropy<'_>, usual: bool) -> Option<VipEntry> {
    let choice = entropy.byte();
    if !usual && !entropy.one_in(32) {
        return None;
    }
    let role = match choice & 7 {
        0..4 => role::OWNED,
        4 | 5 => role::ELSEWHERE,
        6 => return None,
        _ => u32::from(choice >> 5),
    };
    Some(VipEntry {
        epoch: if choice & 0x18 == 0x18 { 8 } else { 7 },
        role,
        counter_slot: u32::from(choice >> 6),
    })
}

/// A sound message, and what the wire may do to it: a tag, padding, a cut, bytes changed.
pub fn frame(entropy: &mut Entropy<'_>) -> Vec<u8> {
    let mut frame = if entropy.byte() & 1 == 0 { arp(entropy) } else { ndp(entropy) };
    if entropy.one_in(4) {
        for _ in 0..entropy.pick(&[1, 1, 1, 2]) {
            tag(&mut frame, entropy.pick(&[5, 5, 0, 5 | 0x2000, 6]));
        }
    }
    if entropy.one_in(4) {
        let padding = usize::from(entropy.byte() % 32);
        frame.resize(frame.len() + padding, entropy.pick(&[0, 0, 0xa5]));
    }
    for _ in 0..entropy.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 4]) {
        let at = usize::from(entropy.byte()) % frame.len();
        frame[at] = entropy.byte();
    }
    if entropy.one_in(16) {
        frame.truncate(usize::from(entropy.byte()) % (frame.len() + 1));
    }
    frame
}

fn arp(entropy: &mut Entropy<'_>) -> Vec<u8> {
    Arp {
        to: entropy.mac(&[OWN, [0xff; 6]]),
        from: entropy.mac(&[CLIENT]),
        opcode: if entropy.one_in(16) { entropy.word() } else { entropy.pick(&[1, 1, 1, 2]) },
        sender_mac: entropy.mac(&[CLIENT]),
        sender: if entropy.one_in(4) { entropy.pick(&V4) } else { V4[3] },
        target_mac: entropy.mac(&[[0; 6]]),
        target: if entropy.one_in(6) { entropy.pick(&V4) } else { entropy.pick(&V4[..VIPS]) },
    }
    .bytes()
}

fn ndp(entropy: &mut Entropy<'_>) -> Vec<u8> {
    let kind = entropy.pick(&[135, 135, 135, 135, 136, 136, 136, 128]);
    let mut address = |usual: &[Ipv6Addr], many| {
        if entropy.one_in(many) { entropy.pick(&V6) } else { entropy.pick(usual) }.octets()
    };
    let (source, destination, target) = (address(&V6[3..4], 4), address(&V6[5..8], 4), address(&V6[..3], 6));
    let mut options = Vec::new();
    for _ in 0..entropy.pick(&[1, 0, 1, 1, 2, 3]) {
        let kind = if entropy.one_in(4) { entropy.pick(&[3, 14, 200]) } else { entropy.pick(&[1, 2]) };
        let units = if entropy.one_in(10) { entropy.byte() % 5 } else { 1 };
        options.extend(option(kind, units, entropy.mac(&[CLIENT])));
    }
    Ndp {
        to: entropy.mac(&[OWN, GROUP]),
        from: entropy.mac(&[CLIENT]),
        source,
        destination,
        hop_limit: if entropy.one_in(12) { entropy.byte() } else { 255 },
        kind,
        code: if entropy.one_in(16) { entropy.byte() } else { 0 },
        target,
        options,
        spoilt: entropy.one_in(16),
    }
    .bytes()
}
