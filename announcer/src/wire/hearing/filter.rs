//! The classic BPF filters that let frames of a kind wake a listener: one small program each, whatever is asked for.
//!
//! Which address a frame speaks of is looked up in user space. A program that names addresses grows with them, and the
//! kernel refuses it (ENOMEM) where its translation does not fit into `net.core.optmem_max`: at 8 IPv6 addresses where that
//! is 20 480.

use socket2::SockFilter;

use super::super::frames::{
    ARP_REPLY, ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION,
    NEXT_HEADER_ICMPV6, NOBODY,
};
use super::Interest;

/// Where fields lie in an untagged frame, from the Ethernet header on.
pub(super) mod offset {
    pub const ETHERTYPE: usize = 12;
    pub const ARP_OPERATION: usize = 20;
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

/// Frames of this interest.
pub(super) fn of(interest: Interest) -> Vec<SockFilter> {
    let assembled = |Instruction { code, if_equal, if_not, operand }| {
        SockFilter::new(code as u16, if_equal, if_not, operand)
    };
    program(alternatives(interest)).into_iter().map(assembled).collect()
}

fn program(alternatives: Vec<Vec<Condition>>) -> Vec<Instruction> {
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

fn alternatives(interest: Interest) -> Vec<Vec<Condition>> {
    let byte = |at: usize, value: u8| (libc::BPF_B, at as u32, u32::from(value));
    let half = |at: usize, value: u16| (libc::BPF_H, at as u32, u32::from(value));
    let arp = half(offset::ETHERTYPE, ETHERTYPE_ARP);
    let icmp = |kind: u8| {
        vec![
            half(offset::ETHERTYPE, ETHERTYPE_IPV6),
            byte(offset::NEXT_HEADER, NEXT_HEADER_ICMPV6),
            byte(offset::HOP_LIMIT, 255),
            byte(offset::ICMPV6_TYPE, kind),
        ]
    };
    match interest {
        Interest::Answers => {
            vec![vec![arp, half(offset::ARP_OPERATION, ARP_REPLY)], icmp(NEIGHBOUR_ADVERTISEMENT)]
        }
        Interest::Uses => {
            let nowhere = (0..4).map(|n| (libc::BPF_W, (offset::IPV6_SOURCE + 4 * n) as u32, 0));
            let probe = icmp(NEIGHBOUR_SOLICITATION).into_iter().chain(nowhere).collect();
            vec![vec![arp], icmp(NEIGHBOUR_ADVERTISEMENT), probe]
        }
        Interest::Markers => {
            let target = (libc::BPF_W, offset::ARP_TARGET_IP as u32, NOBODY.to_bits());
            vec![vec![arp, (libc::BPF_W, offset::ARP_SENDER_IP as u32, 0), target]]
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
