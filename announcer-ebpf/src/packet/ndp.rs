//! IPv6 Neighbour Solicitations answered, and Neighbour Advertisements watched (RFC 4861 §7).

use core::net::IpAddr;

use super::{
    Frame, Ingress, Node, Outcome, Verdict,
    checksum::{finish, fold, pseudo_header, sum},
    node::{judge, report},
    words::{Ip6, Mac, word},
};
use crate::layout::{Conflict, LinkEntry, Vip6Key, claim, role};

const NEXT_HEADER_ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const IPV6_BYTES: usize = 40;
/// Both messages, without options.
const FIXED_BYTES: usize = 24;
/// Options are counted in units of eight bytes.
const UNIT: usize = 8;
const MAX_UNITS: usize = 8;
pub(super) const MAX_BYTES: usize = FIXED_BYTES + MAX_UNITS * UNIT;
/// An advertisement with its one option.
const ANSWER_BYTES: u16 = 32;

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message that has passed every check of RFC 4861 §7.1.
struct Message {
    source: Ip6,
    target: Ip6,
    /// The source (solicitation) or target (advertisement) link-layer address option.
    option: Option<Mac>,
}

/// Why a frame is neither answered nor reported.
enum Refusal {
    /// It is none of our business.
    Foreign,
    /// RFC 4861 §7.1 says to discard it.
    Malformed,
}

/// Judges the IPv6 packet that begins at byte `at`.
#[inline(always)]
pub(super) fn handle<F: Frame, N: Node>(frame: &mut F, node: &mut N, ingress: Ingress, at: usize) -> Verdict {
    let Some([next_header]) = frame.read::<1>(at + 6) else { return Verdict::Pass };
    if next_header != NEXT_HEADER_ICMPV6 {
        return Verdict::Pass;
    }
    let Some([kind]) = frame.read::<1>(at + IPV6_BYTES) else { return Verdict::Pass };
    if kind != SOLICITATION && kind != ADVERTISEMENT {
        return Verdict::Pass;
    }
    let Some(link) = node.link(ingress) else { return Verdict::Pass };
    match parse(frame, kind, at) {
        Ok(message) if kind == SOLICITATION => {
            solicited(frame, node, link, &message, at).unwrap_or(Verdict::Pass)
        }
        Ok(message) => {
            advertised(frame, node, link, &message);
            Verdict::Pass
        }
        Err(Refusal::Foreign) => Verdict::Pass,
        Err(Refusal::Malformed) => {
            node.count_malformed();
            node.log_malformed(frame.read::<6>(6).unwrap_or_default());
            Verdict::Pass
        }
    }
}

/// Reads and checks a message of type `kind`.
#[inline(always)]
fn parse<F: Frame>(frame: &F, kind: u8, at: usize) -> Result<Message, Refusal> {
    let [version, _, _, _, length_high, length_low, _, hop_limit] =
        frame.read::<8>(at).ok_or(Refusal::Malformed)?;
    let length = u16::from_be_bytes([length_high, length_low]);
    let bytes = usize::from(length);
    if version >> 4 != 6 || bytes > MAX_BYTES {
        return Err(Refusal::Foreign);
    }
    if hop_limit != 255 || bytes < FIXED_BYTES || frame.length() < at + IPV6_BYTES + bytes {
        return Err(Refusal::Malformed);
    }
    let source = Ip6::read(frame, at + 8).ok_or(Refusal::Malformed)?;
    let destination = Ip6::read(frame, at + 24).ok_or(Refusal::Malformed)?;
    let start = word(frame, at + IPV6_BYTES).ok_or(Refusal::Malformed)?;
    let target = Ip6::read(frame, at + IPV6_BYTES + 8).ok_or(Refusal::Malformed)?;
    let [_, code, ..] = start.to_ne_bytes();

    let fixed = source.sum() + destination.sum() + pseudo_header(length) + sum(start) + target.sum();
    let wanted = if kind == SOLICITATION { SOURCE_LINK_LAYER } else { TARGET_LINK_LAYER };
    let (option, rest) = options(frame, wanted, bytes - FIXED_BYTES, at + IPV6_BYTES + FIXED_BYTES)?;
    let bad_probe = kind == SOLICITATION
        && source == Ip6::UNSPECIFIED
        && (option.is_some() || !destination.is_solicited_node());
    if code != 0 || fold(fixed + rest) != 0xffff || target.is_multicast() || bad_probe {
        return Err(Refusal::Malformed);
    }
    if source.is_multicast() || option.is_some_and(|mac| !mac.is_station()) {
        return Err(Refusal::Foreign);
    }
    Ok(Message { source, target, option })
}

/// Walks the options, which must fill `bytes` exactly: the wanted link-layer address, and the bytes' sum.
#[inline(always)]
fn options<F: Frame>(frame: &F, wanted: u8, bytes: usize, at: usize) -> Result<(Option<Mac>, u64), Refusal> {
    if !bytes.is_multiple_of(UNIT) {
        return Err(Refusal::Malformed);
    }
    let mut walk = Walk { wanted, units: bytes / UNIT, found: None, total: 0, next: 0 };
    // No loop: without CAP_PERFMON a program may not go through a packet by a variable.
    const { assert!(MAX_UNITS == 8) };
    walk.pass::<F, 0>(frame, at)?;
    walk.pass::<F, 1>(frame, at)?;
    walk.pass::<F, 2>(frame, at)?;
    walk.pass::<F, 3>(frame, at)?;
    walk.pass::<F, 4>(frame, at)?;
    walk.pass::<F, 5>(frame, at)?;
    walk.pass::<F, 6>(frame, at)?;
    walk.pass::<F, 7>(frame, at)?;
    if walk.next == walk.units { Ok((walk.found, walk.total)) } else { Err(Refusal::Malformed) }
}

/// A walk along the options, eight bytes at a time.
struct Walk {
    /// The kind of option that is looked for.
    wanted: u8,
    /// How many eight bytes there are.
    units: usize,
    found: Option<Mac>,
    /// The sum of the bytes passed.
    total: u64,
    /// Where the next option begins.
    next: usize,
}

impl Walk {
    /// Passes eight bytes, if there are so many.
    #[inline(always)]
    fn pass<F: Frame, const NTH: usize>(&mut self, frame: &F, at: usize) -> Result<(), Refusal> {
        if NTH >= self.units {
            return Ok(());
        }
        let option = frame.read::<UNIT>(at + NTH * UNIT).ok_or(Refusal::Malformed)?;
        self.total += sum(u64::from_ne_bytes(option));
        if NTH != self.next {
            return Ok(());
        }
        let [kind, units, a, b, c, d, e, f] = option;
        if units == 0 || (kind == self.wanted && units != 1) {
            return Err(Refusal::Malformed);
        }
        if kind == self.wanted {
            self.found = Some(Mac::new([a, b, c, d, e, f]));
        }
        self.next += usize::from(units);
        Ok(())
    }
}

/// A sound solicitation: answered in place if its target is ours to answer for.
#[inline(always)]
fn solicited<F: Frame, N: Node>(
    frame: &mut F,
    node: &mut N,
    link: LinkEntry,
    message: &Message,
    at: usize,
) -> Option<Verdict> {
    let own = Mac::new(link.mac);
    let (to, from) = (Mac::read(frame, 0)?, Mac::read(frame, 6)?);
    if !(to == own || to.is_ipv6_multicast()) || !from.is_station() || from == own {
        return None;
    }
    let asked = IpAddr::from(message.target.bytes());
    let Some(entry) = node.vip6(Vip6Key { link_id: link.link_id, address: message.target.bytes() }) else {
        node.log_request(Outcome::Passed, asked, from.bytes());
        return None;
    };
    let (verdict, now) = judge(node, entry, asked, from.bytes());
    if verdict == Verdict::Answer {
        let (mac, destination, flags) = if message.source == Ip6::UNSPECIFIED {
            (Mac::ALL_NODES, Ip6::ALL_NODES, OVERRIDE)
        } else {
            (message.option.unwrap_or(from), message.source, SOLICITED | OVERRIDE)
        };
        // Before the first write: there may be no room, and then the frame must still be the request.
        frame.resize(at + IPV6_BYTES + usize::from(ANSWER_BYTES))?;
        let [m0, m1, m2, m3, m4, m5] = mac.bytes();
        let [o0, o1, o2, o3, o4, o5] = own.bytes();
        frame.write(0, &[m0, m1, m2, m3, m4, m5, o0, o1, o2, o3, o4, o5])?;
        advertise(frame, own, destination, message.target, flags, at)?;
        node.count_request(entry.counter_slot, Outcome::Replied, now);
        node.log_request(Outcome::Replied, asked, from.bytes());
    }
    Some(verdict)
}

/// Writes the advertisement of `target` at `own` (RFC 4861 §7.2.4) over the packet at `at`.
#[inline(always)]
fn advertise<F: Frame>(
    frame: &mut F,
    own: Mac,
    destination: Ip6,
    target: Ip6,
    flags: u8,
    at: usize,
) -> Option<()> {
    let option = {
        let [a, b, c, d, e, f] = own.bytes();
        [TARGET_LINK_LAYER, 1, a, b, c, d, e, f]
    };
    // The target is in the sum twice: as source address and in the message.
    let total = 2 * target.sum()
        + destination.sum()
        + pseudo_header(ANSWER_BYTES)
        + sum(u64::from_ne_bytes([ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]))
        + sum(u64::from_ne_bytes(option));
    let [c0, c1] = finish(total);
    // All that is before the target in one write: in TCX each is a call.
    let words = [
        [0x60, 0, 0, 0, 0, ANSWER_BYTES as u8, NEXT_HEADER_ICMPV6, 255],
        target.halves()[0],
        target.halves()[1],
        destination.halves()[0],
        destination.halves()[1],
        [ADVERTISEMENT, 0, c0, c1, flags, 0, 0, 0],
    ];
    frame.write::<{ IPV6_BYTES + 8 }>(at, words.as_flattened().first_chunk()?)?;
    frame.write(at + IPV6_BYTES + FIXED_BYTES, &option)
}

/// The sender check: whether another host advertises a VIP that is owned here. User space is told.
#[inline(always)]
fn advertised<F: Frame, N: Node>(frame: &F, node: &mut N, link: LinkEntry, message: &Message) {
    let Some(from) = Mac::read(frame, 6) else { return };
    let mac = message.option.unwrap_or(from);
    let Some(entry) = node.vip6(Vip6Key { link_id: link.link_id, address: message.target.bytes() }) else {
        return;
    };
    if entry.role != role::OWNED || !from.is_station() || node.is_own_mac(mac.bytes()) {
        return;
    }
    let conflict = Conflict {
        at_boot_ns: node.boot_ns(),
        link_id: link.link_id,
        claim: claim::NEIGHBOUR_ADVERTISEMENT,
        vip: message.target.bytes(),
        mac: mac.bytes(),
        zero: [0; 2],
    };
    report(node, entry.counter_slot, conflict);
}
