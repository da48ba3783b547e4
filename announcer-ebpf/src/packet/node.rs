//! The node as the packet logic sees it: maps, clock and books; and the one decision that both protocols share.

use core::net::IpAddr;

use super::Verdict;
use crate::layout::{BETWEEN_EVENTS_NS, Conflict, LinkEntry, Vip4Key, Vip6Key, VipEntry, elsewhere, role};

/// Where a frame came in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ingress {
    /// ifindex of the device that the program runs on.
    pub ifindex: u32,
    /// The 802.1Q VLAN id that the driver took out of the frame, if it had one.
    pub vlan_id: Option<u16>,
}

/// What the programs read of `SESSION`; the deadline is loaded once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionView {
    /// [`crate::layout::Session::deadline_boot_ns`].
    pub deadline_boot_ns: u64,
    /// [`crate::layout::Session::epoch`].
    pub epoch: u64,
    /// [`crate::layout::Session::elsewhere`].
    pub elsewhere: u32,
}

/// What became of a request for a known VIP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Answered.
    Replied,
    /// Dropped: owned, but the deadline has passed or the epoch is another.
    Fenced,
    /// Dropped: owned elsewhere.
    Suppressed,
    /// Left to the stack: owned elsewhere, and suppression is off; or no VIP at all.
    Passed,
}

/// The node's side of the packet logic.
pub trait Node {
    /// Where this frame came in.
    fn ingress(&self) -> Ingress;

    /// The link that announces for what comes in there; `None` if nothing is announced.
    fn link(&self, ingress: Ingress) -> Option<LinkEntry>;

    /// Whether `mac` belongs to one of this node's announcing links.
    fn is_own_mac(&self, mac: [u8; 6]) -> bool;

    /// The entry of an IPv4 VIP.
    fn vip4(&self, key: Vip4Key) -> Option<VipEntry>;

    /// The entry of an IPv6 VIP.
    fn vip6(&self, key: Vip6Key) -> Option<VipEntry>;

    /// The session.
    fn session(&self) -> SessionView;

    /// `CLOCK_BOOTTIME` in nanoseconds. Dear: two thirds of an answer's cost.
    fn boot_ns(&self) -> u64;

    /// Books a request for a known VIP.
    fn count_request(&mut self, slot: u32, outcome: Outcome, at_boot_ns: u64);

    /// Books a frame that RFC 4861 §7.1 says to discard.
    fn count_malformed(&mut self);

    /// `at_boot_ns` of the last event of this VIP on this link; IPv4 is mapped. `None`: there was none lately.
    fn last_told(&self, key: Vip6Key) -> Option<u64>;

    /// Books a conflict, tells user space, and remembers when under `key`. Never blocks.
    fn tell(&mut self, slot: u32, key: Vip6Key, conflict: Conflict);

    /// Books a conflict of which user space is not told.
    fn count_conflict(&mut self, slot: u32, conflict: Conflict);

    /// Tells people what became of `sender`'s request for `target`, if they want to know. Only the kernel's node does.
    fn log_request(&self, outcome: Outcome, target: IpAddr, sender: [u8; 6]) {
        let _ = (outcome, target, sender);
    }

    /// Tells people of a frame that RFC 4861 §7.1 says to discard.
    fn log_malformed(&self, sender: [u8; 6]) {
        let _ = sender;
    }
}

// === impl Ingress ===

impl Ingress {
    /// The same device with a tag found in the data; `None` if the driver took out one before it (two tags).
    #[inline(always)]
    pub(super) fn tagged(self, vlan_id: u16) -> Option<Self> {
        match self.vlan_id {
            None => Some(Self { vlan_id: Some(vlan_id), ..self }),
            Some(_) => None,
        }
    }
}

/// A conflict is told if none of this VIP was told on this link for [`BETWEEN_EVENTS_NS`], and else counted.
#[inline(always)]
pub(super) fn report<N: Node>(node: &mut N, slot: u32, conflict: Conflict) {
    let key = Vip6Key { link_id: conflict.link_id, address: conflict.vip };
    // Another CPU may have told of one that it saw a moment later.
    let is_quiet = |last: u64| conflict.at_boot_ns.saturating_sub(last) >= BETWEEN_EVENTS_NS;
    if node.last_told(key).is_none_or(is_quiet) {
        node.tell(slot, key, conflict);
    } else {
        node.count_conflict(slot, conflict);
    }
}

/// Judges a well-formed request for a known VIP, and books it unless the verdict is to answer: that is booked by
/// [`Node::count_request`] with the time returned here, once the answer stands in the frame.
#[inline(always)]
pub(super) fn judge<N: Node>(
    node: &mut N,
    entry: VipEntry,
    target: IpAddr,
    sender: [u8; 6],
) -> (Verdict, u64) {
    if entry.role != role::OWNED && entry.role != role::ELSEWHERE {
        node.log_request(Outcome::Passed, target, sender);
        return (Verdict::Pass, 0);
    }
    let session = node.session();
    let now = node.boot_ns();
    let (verdict, outcome) = if entry.role == role::OWNED {
        if entry.epoch == session.epoch && now < session.deadline_boot_ns {
            return (Verdict::Answer, now);
        }
        (Verdict::Drop, Outcome::Fenced)
    } else if session.elsewhere == elsewhere::DROPPED {
        (Verdict::Drop, Outcome::Suppressed)
    } else {
        (Verdict::Pass, Outcome::Passed)
    };
    node.count_request(entry.counter_slot, outcome, now);
    node.log_request(outcome, target, sender);
    (verdict, now)
}
