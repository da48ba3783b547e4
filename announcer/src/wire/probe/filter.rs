//! The classic BPF filter that lets only frames about a few VIPs wake the listener.

use std::net::IpAddr;

use socket2::SockFilter;

use super::super::frames::{
    ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEXT_HEADER_ICMPV6,
};
use crate::vocabulary::Vip;

/// Where fields lie in an untagged frame, from the Ethernet header on.
pub(super) mod offset {
    pub const ETHERTYPE: usize = 12;
    pub const ARP_SENDER_MAC: usize = 22;
    pub const ARP_SENDER_IP: usize = 28;
    pub const ARP_TARGET_IP: usize = 38;
    pub const NEXT_HEADER: usize = 20;
    pub const HOP_LIMIT: usize = 21;
    pub const IPV6_SOURCE: usize = 22;
    pub const ICMPV6_TYPE: usize = 54;
    pub const ND_TARGET: usize = 62;
    pub const ND_OPTIONS: usize = 78;
}

/// One instruction, as `struct sock_filter` has it.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u32,
    if_equal: u8,
    if_not: u8,
    operand: u32,
}

/// A load of `libc::BPF_B`, `BPF_H` or `BPF_W` at an offset, and what it must be.
type Condition = (u32, u32, u32);

/// How many VIPs fit into one program: the kernel takes 4 096 instructions, and IPv6 needs 42 for each.
pub(in crate::wire) const VIPS: usize = 64;

/// Frames that say something of these VIPs, [`VIPS`] at most: ARP from one, a probe for it; an NA for it, a DAD solicitation
/// for it.
pub(super) fn about(vips: &[Vip]) -> Vec<SockFilter> {
    assembled(program(vips.iter().copied().flat_map(alternatives)))
}

/// Frames in which somebody uses one of these addresses, [`VIPS`] at most: ARP from it, an NA for it.
pub(in crate::wire) fn said_by(addresses: &[Vip]) -> Vec<SockFilter> {
    let uses = |address: &Vip| {
        let [uses, _asks] = alternatives(*address);
        uses
    };
    assembled(program(addresses.iter().map(uses)))
}

fn assembled(program: Vec<Instruction>) -> Vec<SockFilter> {
    let assembled = |Instruction { code, if_equal, if_not, operand }| {
        SockFilter::new(code as u16, if_equal, if_not, operand)
    };
    program.into_iter().map(assembled).collect()
}

fn program(alternatives: impl Iterator<Item = Vec<Condition>>) -> Vec<Instruction> {
    // What a switch port mirrors to us, or a VLAN we have no device for, is not said on this link.
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let mut program =
        vec![load(libc::BPF_W, packet_type), jump(libc::PACKET_OTHERHOST.into(), 0, 1), give(0)];
    for conditions in alternatives {
        let mut left = conditions.len();
        for (width, at, value) in conditions {
            left -= 1;
            // To the next alternative: over the remaining pairs and the acceptance.
            program.extend([load(width, at), jump(value, 0, u8::try_from(2 * left + 1).unwrap_or(u8::MAX))]);
        }
        program.push(give(u32::MAX));
    }
    program.push(give(0));
    program
}

fn alternatives(vip: Vip) -> [Vec<Condition>; 2] {
    let byte = |at: usize, value: u8| (libc::BPF_B, at as u32, u32::from(value));
    let half = |at: usize, value: u16| (libc::BPF_H, at as u32, u32::from(value));
    let word = |at: usize, value: u32| (libc::BPF_W, at as u32, value);
    match vip.ip() {
        IpAddr::V4(ip) => {
            let arp = half(offset::ETHERTYPE, ETHERTYPE_ARP);
            [
                vec![arp, word(offset::ARP_SENDER_IP, ip.to_bits())],
                vec![arp, word(offset::ARP_SENDER_IP, 0), word(offset::ARP_TARGET_IP, ip.to_bits())],
            ]
        }
        IpAddr::V6(ip) => {
            let words = ip.to_bits();
            let address = |at: usize, bits: u128| {
                (0..4).map(move |n| word(at + 4 * n, (bits >> (96 - 32 * n)) as u32)).collect::<Vec<_>>()
            };
            let icmp = [
                half(offset::ETHERTYPE, ETHERTYPE_IPV6),
                byte(offset::NEXT_HEADER, NEXT_HEADER_ICMPV6),
                byte(offset::HOP_LIMIT, 255),
            ];
            let of_type = |kind| {
                [icmp.to_vec(), vec![byte(offset::ICMPV6_TYPE, kind)], address(offset::ND_TARGET, words)]
            };
            let nowhere = address(offset::IPV6_SOURCE, 0);
            [
                of_type(NEIGHBOUR_ADVERTISEMENT).concat(),
                [of_type(NEIGHBOUR_SOLICITATION).concat(), nowhere].concat(),
            ]
        }
    }
}

fn load(width: u32, at: u32) -> Instruction {
    Instruction { code: libc::BPF_LD | width | libc::BPF_ABS, if_equal: 0, if_not: 0, operand: at }
}

fn jump(value: u32, if_equal: u8, if_not: u8) -> Instruction {
    Instruction { code: libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_equal, if_not, operand: value }
}

fn give(bytes: u32) -> Instruction {
    Instruction { code: libc::BPF_RET | libc::BPF_K, if_equal: 0, if_not: 0, operand: bytes }
}

#[cfg(test)]
mod tests;
