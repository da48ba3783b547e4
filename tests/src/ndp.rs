//! Neighbour Discovery as the judge speaks it: solicitations out, advertisements in (RFC 4861).

use std::net::Ipv6Addr;

use crate::judge::Said;

/// The Ethernet type of IPv6.
pub(crate) const ETHERTYPE: u16 = 0x86dd;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// A multicast solicitation: who has `target`, tell `ip` at `mac`.
pub(crate) fn solicitation(mac: [u8; 6], ip: Ipv6Addr, target: Ipv6Addr) -> [u8; 86] {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut frame = [0_u8; 86];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, a, b, c]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    // Version 6; 32 bytes of ICMPv6; hop limit 255, or nobody listens.
    frame[14] = 0x60;
    frame[18..22].copy_from_slice(&[0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(&ip.octets());
    frame[38..54].copy_from_slice(&group.octets());
    frame[54] = SOLICITATION;
    frame[62..78].copy_from_slice(&target.octets());
    // Source link-layer address, 1 × 8 bytes.
    frame[78..80].copy_from_slice(&[1, 1]);
    frame[80..86].copy_from_slice(&mac);
    let sum = checksum(&frame);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Reads an advertisement: solicited and sent to `asker` it is an answer, sent to all nodes an
/// announcement; `None` for all else.
pub(crate) fn parse(frame: &[u8], asker: Ipv6Addr) -> Option<Said> {
    let fixed: &[u8; 78] = frame.first_chunk()?;
    if fixed[20] != ICMPV6 || fixed[21] != 255 || fixed[54] != ADVERTISEMENT {
        return None;
    }
    let address = |from: usize| fixed[from..].first_chunk().map(|bytes: &[u8; 16]| Ipv6Addr::from(*bytes));
    let (destination, target) = (address(38)?, address(62)?);
    let mac = match frame.get(78..80) {
        Some([TARGET_LINK_LAYER_ADDRESS, 1]) => *frame.get(80..)?.first_chunk()?,
        _ => *fixed[6..].first_chunk()?,
    };
    if fixed[58] & SOLICITED != 0 {
        (destination == asker).then_some(Said::Answer(target.into(), mac))
    } else {
        Some(Said::Announcement(target.into(), mac))
    }
}

/// ICMPv6's checksum: over the addresses, the length, the protocol and the message.
fn checksum(frame: &[u8; 86]) -> u16 {
    let words = frame[22..86].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum::<u32>() + 32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 16 bits are left.
    !(sum as u16)
}
