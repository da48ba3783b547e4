//! What a frame says of an address. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::filter::offset;
use crate::{
    vocabulary::{Mac, Vip},
    wire::frames::{
        ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEXT_HEADER_ICMPV6,
        OPTION_TARGET_LINK_LAYER,
    },
};

/// A foreign host's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::wire) enum Heard {
    /// It uses the address: it answered, or announced it, or asked for another address from it.
    Answer(Mac),
    /// It asks as we do.
    Probe(Mac),
}

/// What `frame` says, if anything, and of which address. The filter has looked at its kind already.
pub(super) fn understand(frame: &[u8]) -> Option<(Vip, Heard)> {
    match u16::from_be_bytes(at(frame, offset::ETHERTYPE)?) {
        ETHERTYPE_ARP => {
            let mac = Mac(at(frame, offset::ARP_SENDER_MAC)?);
            let from = Ipv4Addr::from(at::<4>(frame, offset::ARP_SENDER_IP)?);
            let to = Ipv4Addr::from(at::<4>(frame, offset::ARP_TARGET_IP)?);
            Some(match from {
                Ipv4Addr::UNSPECIFIED => (to.into(), Heard::Probe(mac)),
                from => (from.into(), Heard::Answer(mac)),
            })
        }
        ETHERTYPE_IPV6 => {
            let [next, hops] = at(frame, offset::NEXT_HEADER)?;
            let from = Ipv6Addr::from(at::<16>(frame, offset::IPV6_SOURCE)?);
            let target = Ipv6Addr::from(at::<16>(frame, offset::ND_TARGET)?);
            let [kind] = at(frame, offset::ICMPV6_TYPE)?;
            // An IPv4-mapped target is nobody's.
            if (next, hops) != (NEXT_HEADER_ICMPV6, 255) || target.to_ipv4_mapped().is_some() {
                return None;
            }
            let sender = Mac(at(frame, 6)?);
            match kind {
                NEIGHBOUR_ADVERTISEMENT => {
                    Some((target.into(), Heard::Answer(advertised_mac(frame).unwrap_or(sender))))
                }
                NEIGHBOUR_SOLICITATION if from.is_unspecified() => {
                    Some((target.into(), Heard::Probe(sender)))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The target link-layer option, if it comes first, as it does: no other option belongs into an advertisement.
fn advertised_mac(frame: &[u8]) -> Option<Mac> {
    let option: [u8; 8] = at(frame, offset::ND_OPTIONS)?;
    match option {
        [OPTION_TARGET_LINK_LAYER, 1, a, b, c, d, e, f] => Some(Mac([a, b, c, d, e, f])),
        _ => None,
    }
}

fn at<const N: usize>(frame: &[u8], from: usize) -> Option<[u8; N]> {
    frame.get(from..from + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
