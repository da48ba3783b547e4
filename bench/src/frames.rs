//! Frames as clients send them, and the addresses that the bench asks for.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The asker's hardware address where no real device asks.
pub const CLIENT: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc1];
/// The asker's addresses, which are nobody's VIP.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 2);

/// The first 16 bits of owned IPv4 addresses, and of those that nobody owns.
pub const OWNED4: [u8; 2] = [10, 78];
/// See [`OWNED4`].
pub const UNKNOWN4: [u8; 2] = [10, 79];
/// The prefix of owned IPv6 addresses.
const OWNED6: [u16; 7] = [0xfd00, 0x78, 0, 0, 0, 0, 0];

/// Where an ARP request has the last 16 bits of its target.
pub const ARP_TARGET: i16 = 40;
/// Where an ARP request has the last 16 bits of its sender's protocol address.
pub const ARP_SENDER: i16 = 30;

/// Number `number` of the owned IPv4 addresses.
pub fn vip4(number: u16) -> Ipv4Addr {
    let [[a, b], [c, d]] = [OWNED4, number.to_be_bytes()];
    Ipv4Addr::new(a, b, c, d)
}

/// Number `number` of the owned IPv6 addresses.
pub fn vip6(number: u16) -> Ipv6Addr {
    let [a, b, c, d, e, f, g] = OWNED6;
    Ipv6Addr::new(a, b, c, d, e, f, g, number)
}

/// Who has number 0 of the addresses that begin with `prefix`?
pub fn arp_request(from: [u8; 6], sender: Ipv4Addr, prefix: [u8; 2]) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &from, &[8, 6]].concat();
    let [a, b] = prefix;
    [&ethernet[..], &[0, 1, 8, 0, 6, 4, 0, 1], &from, &sender.octets(), &[0; 6], &[a, b, 0, 0]].concat()
}

/// Who has number 0 of the owned IPv6 addresses? Its checksum is left 0.
pub fn solicitation() -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    let ethernet = [&[0x33, 0x33, 0xff, 0, 0, 0][..], &CLIENT, &[0x86, 0xdd]].concat();
    let header = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &CLIENT6.octets(), &group.octets()].concat();
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &vip6(0).octets(), &[1, 1], &CLIENT].concat();
    [ethernet, header, message].concat()
}

/// The sum of all 16-bit words, as they lie in memory, that the checksum of [`solicitation`] covers.
pub fn solicitation_sum() -> u32 {
    let frame = solicitation();
    let covered = frame[22..].chunks_exact(2).map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])));
    covered.sum::<u32>() + u32::from((32_u16 + 58).to_be())
}

/// A UDP datagram over IPv4 of 60 bytes in all.
pub fn udp4() -> Vec<u8> {
    let ip = [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 77, 0, 2, 10, 78, 0, 1];
    [&[2, 0, 0, 0, 0, 1][..], &CLIENT, &[8, 0], &ip, &[0x30, 0x39, 0, 9, 0, 26, 0, 0], &[0; 18]].concat()
}

/// A TCP segment over IPv6 without data.
pub fn tcp6() -> Vec<u8> {
    let header = [&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &CLIENT6.octets(), &vip6(1).octets()].concat();
    [&[2, 0, 0, 0, 0, 1][..], &CLIENT, &[0x86, 0xdd], &header, &[0x30, 0x39, 0, 80], &[0; 16]].concat()
}
