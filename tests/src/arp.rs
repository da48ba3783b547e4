//! ARP as the judge speaks it: requests out, replies and announcements in (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use crate::judge::Said;

/// The Ethernet type of ARP.
pub(crate) const ETHERTYPE: u16 = 0x0806;

/// A broadcast request: who has `target`, tell `ip` at `mac`.
pub(crate) fn request(mac: [u8; 6], ip: Ipv4Addr, target: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0_u8; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    // Ethernet, IPv4, their address lengths, request.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&ip.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// Reads a reply to `asker`, or a gratuitous request or reply; `None` for all else.
pub(crate) fn parse(frame: &[u8], asker: Ipv4Addr) -> Option<Said> {
    let frame: &[u8; 42] = frame.first_chunk()?;
    if frame[12..14] != ETHERTYPE.to_be_bytes() || frame[14..20] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let address = |from: usize| Ipv4Addr::new(frame[from], frame[from + 1], frame[from + 2], frame[from + 3]);
    let (sender, target, is_reply) = (address(28), address(38), frame[21] == 2);
    let mac = *frame[22..].first_chunk()?;
    if sender == target {
        Some(Said::Announcement(sender.into(), mac))
    } else {
        (is_reply && target == asker).then_some(Said::Answer(sender.into(), mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Ipv4Addr = Ipv4Addr::new(10, 4, 0, 100);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 4, 11, 1);
    const OWNER: [u8; 6] = [2, 0, 10, 4, 0, 11];

    #[test]
    fn replies_to_the_asker_are_answers_and_gratuitous_frames_are_announcements() {
        let mut reply = request(OWNER, VIP, ASKER);
        assert_eq!(parse(&reply, ASKER), None, "a question of the owner's own");
        reply[21] = 2;
        assert_eq!(parse(&reply, ASKER), Some(Said::Answer(VIP.into(), OWNER)));
        assert_eq!(parse(&reply, Ipv4Addr::new(10, 4, 0, 1)), None, "meant for somebody else");
        let gratuitous = request(OWNER, VIP, VIP);
        assert_eq!(parse(&gratuitous, ASKER), Some(Said::Announcement(VIP.into(), OWNER)));
    }
}
