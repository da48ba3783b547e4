//! ARP for IPv4 over Ethernet (RFC 826), with the sender check of RFC 5227 §2.4.

use core::net::IpAddr;

use super::{
    Frame, Ingress, Node, Outcome, Verdict,
    node::{judge, report},
    words::{Mac, word},
};
use crate::layout::{Conflict, LinkEntry, Vip4Key, claim, role};

/// The first eight bytes: hardware type Ethernet, protocol type IPv4, their address lengths, opcode.
const REQUEST: u64 = u64::from_ne_bytes([0, 1, 8, 0, 6, 4, 0, 1]);
const REPLY: u64 = u64::from_ne_bytes([0, 1, 8, 0, 6, 4, 0, 2]);

/// Judges the ARP packet that begins at byte `at`.
#[inline(always)]
pub(super) fn handle<F: Frame, N: Node>(frame: &mut F, node: &mut N, ingress: Ingress, at: usize) -> Verdict {
    respond(frame, node, ingress, at).unwrap_or(Verdict::Pass)
}

/// `None` is a frame that is not for us: other hardware or protocol, other destination, too short.
#[inline(always)]
fn respond<F: Frame, N: Node>(frame: &mut F, node: &mut N, ingress: Ingress, at: usize) -> Option<Verdict> {
    let header = word(frame, at)?;
    if header != REQUEST && header != REPLY {
        return None;
    }
    let target = frame.read::<4>(at + 24)?;
    let link = node.link(ingress)?;
    let own = Mac::new(link.mac);
    let (destination, source) = (Mac::read(frame, 0)?, Mac::read(frame, 6)?);
    let (sender_mac, sender) = (Mac::read(frame, at + 8)?, frame.read::<4>(at + 14)?);
    if !source.is_station() || !sender_mac.is_station() || sender_mac == own {
        return None;
    }
    if claims_owned_vip(node, link, header, sender, sender_mac) || header != REQUEST {
        return None;
    }
    if destination != Mac::BROADCAST && destination != own {
        return None;
    }
    let asked = IpAddr::from(target);
    let Some(entry) = node.vip4(Vip4Key { link_id: link.link_id, address: target }) else {
        node.log_request(Outcome::Passed, asked, sender_mac.bytes());
        return None;
    };
    let (verdict, now) = judge(node, entry, asked, sender_mac.bytes());
    if verdict == Verdict::Answer {
        // Two writes, neither of constants alone: in TCX each is a call, and a constant would need a map to lie in.
        let [o0, o1, o2, o3, o4, o5] = own.bytes();
        let [s0, s1, s2, s3, s4, s5] = sender_mac.bytes();
        let ([i0, i1, i2, i3], [t0, t1, t2, t3]) = (sender, target);
        frame.write(0, &[s0, s1, s2, s3, s4, s5, o0, o1, o2, o3, o4, o5])?;
        let reply = [0, 2, o0, o1, o2, o3, o4, o5, t0, t1, t2, t3, s0, s1, s2, s3, s4, s5, i0, i1, i2, i3];
        frame.write(at + 6, &reply)?;
        node.count_request(entry.counter_slot, Outcome::Replied, now);
        node.log_request(Outcome::Replied, asked, sender_mac.bytes());
    }
    Some(verdict)
}

/// The sender check: whether the sender's address is a VIP owned here. If the hardware address beside it is not this
/// node's, user space is told.
#[inline(always)]
fn claims_owned_vip<N: Node>(node: &mut N, link: LinkEntry, header: u64, sender: [u8; 4], mac: Mac) -> bool {
    if sender == [0; 4] {
        return false;
    }
    let Some(entry) = node.vip4(Vip4Key { link_id: link.link_id, address: sender }) else { return false };
    if entry.role != role::OWNED {
        return false;
    }
    if !node.is_own_mac(mac.bytes()) {
        let [a, b, c, d] = sender;
        let conflict = Conflict {
            at_boot_ns: node.boot_ns(),
            link_id: link.link_id,
            claim: if header == REQUEST { claim::ARP_REQUEST } else { claim::ARP_REPLY },
            vip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            mac: mac.bytes(),
            zero: [0; 2],
        };
        report(node, entry.counter_slot, conflict);
    }
    true
}
