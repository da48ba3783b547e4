//! Proof that a VIP is answered: the live program runs on a request of our own, on the link's own ifindex, marked so
//! that counters and events are left alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Attachment, DatapathError, active::Active, attach::Attached, sys};
use crate::vocabulary::{Mac, Vip};

const XDP_TX: u32 = 3;
const TC_ACT_REDIRECT: u32 = 7;

/// A locally administered address that nobody has.
const ASKER: [u8; 6] = [0x02, 0xa2, 0x20, 0x07, 0xce, 0x01];
/// `fe80::1`: the link-local address of nobody we know.
const ASKER_IP6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

// === impl Active ===

impl Active {
    /// Whether the program that the link runs answers for the VIP now, with the link's hardware address.
    pub(super) fn prove(&self, attached: &Attached, vip: Vip) -> Result<bool, DatapathError> {
        let ifindex = attached.link.id.0;
        let request = request(vip);
        let (run, answer) = match attached.pin.attachment {
            Attachment::Tcx => {
                (sys::test_run_skb(self.program(attached), ifindex, &request, true), TC_ACT_REDIRECT)
            }
            Attachment::Native | Attachment::Generic => {
                (sys::test_run_xdp(self.program(attached), ifindex, &request, true), XDP_TX)
            }
        };
        let run = run.map_err(DatapathError::kernel("run the live program on a request"))?;
        Ok(run.verdict == answer && answers(&run.frame, vip, attached.link.mac))
    }
}

/// What a client that looks for `vip` broadcasts or multicasts.
fn request(vip: Vip) -> Vec<u8> {
    match vip.ip() {
        IpAddr::V4(vip) => arp_request(vip),
        IpAddr::V6(vip) => solicitation(vip),
    }
}

fn arp_request(vip: Ipv4Addr) -> Vec<u8> {
    // RFC 5227's probe: it has no sender address, so that no neighbour could learn anything from it.
    let head = [&[0xff; 6][..], &ASKER, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &ASKER, &[0; 4], &[0; 6]];
    [head.concat(), vip.octets().to_vec()].concat()
}

fn solicitation(vip: Ipv6Addr) -> Vec<u8> {
    let target = vip.octets();
    let [.., x, y, z] = target;
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z];
    let mut message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &[1, 1], &ASKER].concat();
    let addresses = [ASKER_IP6.octets(), group].concat();
    let words = addresses.chunks_exact(2).chain(message.chunks_exact(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>() + 32 + 58;
    let folded = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    let ethernet = [&[0x33, 0x33, 0xff, x, y, z][..], &ASKER, &[0x86, 0xdd]].concat();
    [ethernet, vec![0x60, 0, 0, 0, 0, 32, 58, 255], addresses, message].concat()
}

/// Whether `frame` tells the asker that `vip` is at `mac`.
fn answers(frame: &[u8], vip: Vip, mac: Mac) -> bool {
    let at = |offset: usize, bytes: &[u8]| frame.get(offset..offset + bytes.len()) == Some(bytes);
    let for_asker = at(0, &ASKER) && at(6, &mac.0);
    match vip.ip() {
        IpAddr::V4(vip) => {
            let reply = at(12, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            for_asker && reply && at(22, &mac.0) && at(28, &vip.octets()) && at(32, &ASKER)
        }
        IpAddr::V6(vip) => {
            let target = vip.octets();
            let advertisement = at(12, &[0x86, 0xdd]) && at(20, &[58, 255]) && at(54, &[136, 0]);
            let addresses = at(22, &target) && at(38, &ASKER_IP6.octets());
            for_asker && advertisement && addresses && at(62, &target) && at(78, &[2, 1]) && at(80, &mac.0)
        }
    }
}
