//! What becomes of a received frame: pure functions over bytes, the same in XDP, in TCX and on the host.
//!
//! [`handle`] sees the frame through [`Frame`] and the node's maps and clock through [`Node`]. It never allocates,
//! panics or loops without a bound, and leaves a frame that it does not answer untouched.

mod arp;
mod checksum;
mod frame;
mod ndp;
mod node;
mod words;

pub use self::{
    frame::{Frame, SliceFrame},
    node::{Ingress, Node, Outcome, SessionView},
};

/// The longest ICMPv6 message that is read as Neighbour Discovery: 24 bytes and eight units of options. Nothing but
/// SEND's signatures (RFC 3971) is longer; such a frame is passed.
pub const MAX_NDP_BYTES: usize = ndp::MAX_BYTES;

const ETHERNET_BYTES: usize = 14;
const VLAN_TAG_BYTES: usize = 4;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// What to do with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not ours: it goes on, unchanged, to whoever comes next.
    Pass,
    /// A request that this node must not answer, in the kernel or above it.
    Drop,
    /// The frame now holds the answer: send it back out of the device it came in by.
    Answer,
}

/// Judges one frame, and turns it into the answer where that is the verdict.
///
/// Anything but ARP and ICMPv6 Neighbour Discovery leaves after reading its EtherType (IPv6: and two bytes more).
#[inline(always)]
pub fn handle<F: Frame, N: Node>(frame: &mut F, node: &mut N) -> Verdict {
    let Some(ethertype) = frame.read::<2>(12) else { return Verdict::Pass };
    match u16::from_be_bytes(ethertype) {
        ETHERTYPE_VLAN => tagged(frame, node),
        ethertype => dispatch(frame, node, ethertype, None, ETHERNET_BYTES),
    }
}

/// A frame with an 802.1Q tag in its data. A second tag (or one that the driver has already taken out) passes.
#[inline(always)]
fn tagged<F: Frame, N: Node>(frame: &mut F, node: &mut N) -> Verdict {
    let Some([control_high, control_low, type_high, type_low]) = frame.read::<4>(ETHERNET_BYTES) else {
        return Verdict::Pass;
    };
    let vlan_id = u16::from_be_bytes([control_high, control_low]) & 0x0fff;
    let ethertype = u16::from_be_bytes([type_high, type_low]);
    dispatch(frame, node, ethertype, Some(vlan_id), ETHERNET_BYTES + VLAN_TAG_BYTES)
}

#[inline(always)]
fn dispatch<F: Frame, N: Node>(
    frame: &mut F,
    node: &mut N,
    ethertype: u16,
    vlan_id: Option<u16>,
    at: usize,
) -> Verdict {
    if ethertype != ETHERTYPE_ARP && ethertype != ETHERTYPE_IPV6 {
        return Verdict::Pass;
    }
    let ingress = match vlan_id {
        None => Some(node.ingress()),
        Some(vlan_id) => node.ingress().tagged(vlan_id),
    };
    match ingress {
        None => Verdict::Pass,
        Some(ingress) if ethertype == ETHERTYPE_ARP => arp::handle(frame, node, ingress, at),
        Some(ingress) => ndp::handle(frame, node, ingress, at),
    }
}
