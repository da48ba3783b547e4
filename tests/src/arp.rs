//! ARP requests out, ARP announcements and replies in: the few bytes the judge needs.

use std::net::Ipv4Addr;

/// The Ethernet type of ARP.
pub(crate) const ETHERTYPE: u16 = 0x0806;

/// What an ARP frame says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whether it is a reply (a request otherwise).
    pub is_reply: bool,
    /// The MAC that it names for `ip`.
    pub mac: [u8; 6],
    /// The sender's address.
    pub ip: Ipv4Addr,
    /// The address that is asked for, or answered.
    pub target: Ipv4Addr,
}

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

/// Reads an ARP frame; `None` if it is none.
pub(crate) fn parse(frame: &[u8]) -> Option<Said> {
    let frame: &[u8; 42] = frame.first_chunk()?;
    if frame[12..14] != ETHERTYPE.to_be_bytes() || frame[14..20] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let address = |from: usize| {
        Ipv4Addr::new(frame[from], frame[from + 1], frame[from + 2], frame[from + 3])
    };
    let mut mac = [0; 6];
    mac.copy_from_slice(&frame[22..28]);
    Some(Said { is_reply: frame[21] == 2, mac, ip: address(28), target: address(38) })
}
