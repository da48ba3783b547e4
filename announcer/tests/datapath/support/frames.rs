//! Frames as a client or another host would send them, written out by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const CLIENT: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc1];
pub const STRANGER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x66];
pub const BROADCAST: [u8; 6] = [0xff; 6];
pub const CLIENT4: &str = "10.9.0.2";
pub const CLIENT6: &str = "fd00:9::2";

/// An ARP packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Arp {
    pub to: [u8; 6],
    pub from: [u8; 6],
    pub opcode: u16,
    pub sender_mac: [u8; 6],
    pub sender: &'static str,
    pub target_mac: [u8; 6],
    pub target: &'static str,
}

impl Arp {
    /// Who has `target`?
    pub fn request(target: &'static str) -> Self {
        Self {
            to: BROADCAST,
            from: CLIENT,
            opcode: 1,
            sender_mac: CLIENT,
            sender: CLIENT4,
            target_mac: [0; 6],
            target,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("an IPv4 address").octets();
        let mut bytes = [&self.to[..], &self.from, &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
        bytes.extend(self.opcode.to_be_bytes());
        bytes.extend([&self.sender_mac[..], &v4(self.sender), &self.target_mac, &v4(self.target)].concat());
        bytes
    }
}

/// The answer to `request` from `mac`.
pub fn arp_reply(request: &Arp, mac: [u8; 6]) -> Vec<u8> {
    Arp {
        to: request.sender_mac,
        from: mac,
        opcode: 2,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    }
    .bytes()
}

/// A Neighbour Solicitation or Advertisement in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Ndp {
    pub to: [u8; 6],
    pub from: [u8; 6],
    pub source: String,
    pub destination: String,
    pub hop_limit: u8,
    pub kind: u8,
    pub code: u8,
    pub flags: u8,
    pub target: String,
    pub options: Vec<u8>,
}

impl Ndp {
    /// Who has `target`? To its solicited-node group, with the client's address.
    pub fn solicitation(target: &str) -> Self {
        let group = solicited_node(target);
        let [.., x, y, z] = group.octets();
        Self {
            to: [0x33, 0x33, 0xff, x, y, z],
            from: CLIENT,
            source: CLIENT6.to_owned(),
            destination: group.to_string(),
            hop_limit: 255,
            kind: 135,
            code: 0,
            flags: 0,
            target: target.to_owned(),
            options: link_layer(1, CLIENT),
        }
    }

    /// `target` is at `mac`, says `mac` to all.
    pub fn advertisement(target: &str, mac: [u8; 6]) -> Self {
        Self {
            to: [0x33, 0x33, 0, 0, 0, 1],
            from: mac,
            source: target.to_owned(),
            destination: "ff02::1".to_owned(),
            kind: 136,
            flags: 0x20,
            options: link_layer(2, mac),
            ..Self::solicitation(target)
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("an IPv6 address").octets();
        let target = v6(&self.target);
        let mut message =
            [&[self.kind, self.code, 0, 0, self.flags, 0, 0, 0], &target[..], &self.options].concat();
        let length = u16::try_from(message.len()).expect("a short message");
        let addresses = [v6(&self.source), v6(&self.destination)].concat();
        let mut words = [&addresses[..], &message, &[0, 58], &length.to_be_bytes()].concat();
        words.resize(words.len().next_multiple_of(2), 0);
        let mut sum: u32 = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [high, low] = length.to_be_bytes();
        let [c0, c1] = (!(sum as u16)).to_be_bytes();
        (message[2], message[3]) = (c0, c1);
        let ethernet = [&self.to[..], &self.from, &[0x86, 0xdd]].concat();
        [&ethernet[..], &[0x60, 0, 0, 0, high, low, 58, self.hop_limit], &addresses, &message].concat()
    }
}

/// The answer to `request` from `mac`, to the client's hardware address or to all nodes.
pub fn advertised(request: &Ndp, mac: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let probe = request.source == "::";
    Ndp {
        to,
        from: mac,
        source: request.target.clone(),
        destination: if probe { "ff02::1".to_owned() } else { request.source.clone() },
        hop_limit: 255,
        kind: 136,
        code: 0,
        flags: if probe { 0x20 } else { 0x60 },
        target: request.target.clone(),
        options: link_layer(2, mac),
    }
    .bytes()
}

pub fn link_layer(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

pub fn solicited_node(target: &str) -> Ipv6Addr {
    let [.., x, y, z] = target.parse::<Ipv6Addr>().expect("an IPv6 address").octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z])
}

/// The same frame with an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan_id: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan_id.to_be_bytes(), &frame[12..]].concat()
}

/// As a NIC hands over a short frame: padded to 60 bytes.
pub fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}
