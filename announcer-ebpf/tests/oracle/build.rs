//! Frames made by hand, sound or not as the caller wishes; for generators.

/// An ARP packet for IPv4 in an Ethernet frame.
pub struct Arp {
    pub to: [u8; 6],
    pub from: [u8; 6],
    pub opcode: u16,
    pub sender_mac: [u8; 6],
    pub sender: [u8; 4],
    pub target_mac: [u8; 6],
    pub target: [u8; 4],
}

/// An ICMPv6 message that begins as Neighbour Discovery's do, in an Ethernet frame.
pub struct Ndp {
    pub to: [u8; 6],
    pub from: [u8; 6],
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub hop_limit: u8,
    pub kind: u8,
    pub code: u8,
    pub target: [u8; 16],
    /// As they are, one after the other.
    pub options: Vec<u8>,
    /// The checksum is wrong.
    pub spoilt: bool,
}

// === impl Arp ===

impl Arp {
    pub fn bytes(&self) -> Vec<u8> {
        let Self { to, from, opcode, sender_mac, sender, target_mac, target } = self;
        let opcode = opcode.to_be_bytes();
        let head = [&to[..], from, &[8, 6, 0, 1, 8, 0, 6, 4], &opcode].concat();
        [&head[..], sender_mac, sender, target_mac, target].concat()
    }
}

// === impl Ndp ===

impl Ndp {
    pub fn bytes(&self) -> Vec<u8> {
        let Self { to, from, source, destination, hop_limit, kind, code, target, options, spoilt } = self;
        let body = [&target[..], options].concat();
        let length = u16::try_from(body.len() + 8).expect("short");
        let mut words = [
            &source[..],
            destination,
            &length.to_be_bytes(),
            &[0, 58, *kind, *code, 0, 0, 0x60, 0, 0, 0],
            &body,
        ]
        .concat();
        words.resize(words.len().next_multiple_of(2), 0);
        let sum: u32 = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16 ^ u16::from(*spoilt);
        let ip =
            [&[0x60, 0, 0, 0], &length.to_be_bytes()[..], &[58, *hop_limit], source, destination].concat();
        let message = [&[*kind, *code], &checksum.to_be_bytes()[..], &[0x60, 0, 0, 0], &body].concat();
        [&to[..], from, &[0x86, 0xdd], &ip, &message].concat()
    }
}

/// An option of so many units of eight bytes, which begins with a hardware address.
pub fn option(kind: u8, units: u8, mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = [&[kind, units][..], &mac].concat();
    bytes.resize(usize::from(units.max(1)) * 8, 0x5a);
    bytes
}

/// Puts an 802.1Q tag behind the addresses; a frame too short for them stays as it is.
pub fn tag(frame: &mut Vec<u8>, control: u16) {
    if frame.len() >= 12 {
        let [high, low] = control.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
}
