//! Listening on one link for what is said of a few VIPs.

use std::{
    collections::BTreeSet,
    io::{self, Read as _},
    net::{Ipv4Addr, Ipv6Addr},
};

use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::filter::{self, offset};
use crate::{
    vocabulary::{LinkId, Mac, Vip},
    wire::{
        frames::{
            ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION,
            NEXT_HEADER_ICMPV6, OPTION_TARGET_LINK_LAYER,
        },
        packet::{packet_address, readable},
    },
};

/// Longer than any ARP or Neighbour Discovery frame of interest; the rest of a frame is cut off.
pub(in crate::wire) const FRAME_BYTES: usize = 256;

/// A foreign host's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::wire) enum Heard {
    /// It uses the VIP: it answered, or announced it, or asked for another address from it.
    Answer(Mac),
    /// It asks as we do.
    Probe(Mac),
}

/// A packet socket bound to one link, with a filter for some VIPs of one family.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) link: LinkId,
    vips: Vec<Vip>,
    socket: AsyncFd<Socket>,
}

impl Ear {
    /// `vips`: of one family, [`filter::VIPS`] at most.
    pub(super) fn open(vips: &[Vip], link: LinkId) -> io::Result<Self> {
        let ipv4 = vips.iter().any(|vip| vip.ip().is_ipv4());
        let ethertype = if ipv4 { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
        // Deaf until it is bound: nothing passes before the filter is in place. Bound to one ethertype, it never hears
        // what this host sends.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(&filter::about(vips))?;
        socket.bind(&packet_address(link, ethertype))?;
        Ok(Self { link, vips: vips.to_vec(), socket: readable(socket)? })
    }

    /// The next word of a host that is none of `own`, and of which VIP.
    pub(super) async fn hear(&self, own: &BTreeSet<Mac>) -> io::Result<(Vip, Heard)> {
        let mut frame = [0; FRAME_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| socket.get_ref().read(&mut frame)) {
                Ok(Ok(length)) => match understand(&frame[..length]) {
                    Some((_, Heard::Answer(mac) | Heard::Probe(mac))) if own.contains(&mac) => {}
                    Some((vip, heard)) if self.vips.contains(&vip) => return Ok((vip, heard)),
                    _ => {}
                },
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// What `frame` says, if anything, and of which VIP. The filter has looked already; this one can be tested, and is asked
/// again.
pub(in crate::wire) fn understand(frame: &[u8]) -> Option<(Vip, Heard)> {
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
